"""Differences of a segment's frames as what a ResNet sees, without optical flow.

``"rgbdiff"``: Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.2 (stacked RGB
difference; cross-modality initialisation), with the numbers of the authors' code. A segment is
L = 6 consecutive frames I_1 ... I_6 with values in [0, 1], neither centred nor scaled:

    X = [I_2 - I_1, ..., I_6 - I_5]         15 channels, time outside, RGB inside

and X goes through an image network whose first convolution takes 15 channels.

``"rgb+rgbdiff"``: a frame and the differences around it, after TDN's short-term module (Wang et
al., CVPR 2021) but without its second layer1. A segment is L = 5 frames, normalised:

    X = (stem(I_3) + ReLU(BN(K_7x7 * avg_2([I_2 - I_1, ..., I_5 - I_4])))) / 2

From the weights of an RGB network a convolution of differences starts as the mean over RGB,
repeated for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, fold_segments, unfold_frames
from .resnet import ResNet

FRAMES = 6
"""L, the frames of a segment, of differences alone."""
FRAMES_AROUND = 5
"""L of a frame and the differences around it."""
KEY = FRAMES_AROUND // 2
"""Index of that frame."""
INPUTS: dict[str, dict[str, Any]] = {
    "rgb": {},
    "rgbdiff": {"frames_per_segment": FRAMES, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    "rgb+rgbdiff": {"frames_per_segment": FRAMES_AROUND},
}
"""What the network of each modality fixes in its :class:`ModelSpec`."""


class DifferenceResNet(ResNet):
    """A ResNet on the differences of adjacent frames; clips are (B, T*6, 3, H, W), time fastest.

    Args:
        spec: what the model is; ``frames_per_segment`` must be 6.
        depth, options: of :class:`ResNet`.
    """

    def __init__(self, spec: ModelSpec, depth: int, **options: Any) -> None:
        _check(spec, FRAMES)
        super().__init__(spec, depth, **options)
        self.conv1 = convolution_of_differences(FRAMES, self.conv1.out_channels)

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, 8*width*expansion, H/32, W/32) of clips (B, T*6, 3, H, W).

        Raises:
            ValueError: the number of frames is not a multiple of 6.
        """
        segments, num_segments = fold_segments(clips, FRAMES)  # (B*T, 6, 3, H, W)
        x = self.stem(differences(segments))
        return unfold_frames(self.stages(x, num_segments), num_segments)

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An RGB network's tensors with its first convolution fitted to differences; that of a
        network on differences stays as it is."""
        given = super().trunk_weights(state)
        weight = given.get("conv1.weight")
        if weight is not None and weight.shape[1:2] == (3,):
            given["conv1.weight"] = from_rgb(weight, FRAMES)
        return given


class DifferenceStem(nn.Module):
    """ReLU(BN(K_7x7 * avg_2 D)) of a frame's surroundings.

    Shape:
        frames (N, 5, 3, H, W) -> (N, width, H/4, W/4).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = convolution_of_differences(FRAMES_AROUND, width)
        self.bn1 = nn.BatchNorm2d(width)

    def forward(self, frames: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(pooled_differences(frames))))


class FrameAndDifferenceResNet(ResNet):
    """A ResNet on frames and the differences around them; clips are (B, T*5, 3, H, W).

    Args:
        spec: what the model is; ``frames_per_segment`` must be 5.
        depth, options: of :class:`ResNet`.
    """

    def __init__(self, spec: ModelSpec, depth: int, **options: Any) -> None:
        _check(spec, FRAMES_AROUND)
        super().__init__(spec, depth, **options)
        self.difference = DifferenceStem(self.conv1.out_channels)

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, 8*width*expansion, H/32, W/32) of clips (B, T*5, 3, H, W).

        Raises:
            ValueError: the number of frames is not a multiple of 5.
        """
        segments, num_segments = fold_segments(clips, FRAMES_AROUND)  # (B*T, 5, 3, H, W)
        x = self.stem(segments[:, KEY])
        # Of an odd size the halves are rounded otherwise than the stem's.
        x = 0.5 * (x + F.interpolate(self.difference(segments), x.shape[2:]))
        return unfold_frames(self.stages(x, num_segments), num_segments)

    def is_trunk_key(self, key: str) -> bool:
        """The convolution of differences starts from the trunk; its BatchNorm is new."""
        return super().is_trunk_key(key) and not key.startswith("difference.bn1.")

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An RGB network's tensors, and the convolution of differences made of its first; that of
        a network that has one stays as it is."""
        given = super().trunk_weights(state)
        if "conv1.weight" in given:
            start = from_rgb(given["conv1.weight"], FRAMES_AROUND)
            given.setdefault("difference.conv1.weight", start)
        return given


def from_rgb(weight: Tensor, frames: int) -> Tensor:
    """(D, 3, k, k) of frames -> (D, 3(L - 1), k, k) of the differences of L ``frames``: the mean
    over RGB for each channel."""
    return weight.mean(dim=1, keepdim=True).repeat(1, 3 * (frames - 1), 1, 1)


def differences(frames: Tensor) -> Tensor:
    """(N, L, 3, H, W) -> [I_2 - I_1, ..., I_L - I_(L-1)], (N, 3(L - 1), H, W)."""
    return (frames[:, 1:] - frames[:, :-1]).flatten(1, 2)


def pooled_differences(frames: Tensor) -> Tensor:
    """(N, L, 3, H, W) -> avg_2 [I_2 - I_1, ..., I_L - I_(L-1)], (N, 3(L - 1), H/2, W/2)."""
    # Pooling is linear: done before the subtraction, it leaves a quarter of the work to that.
    pooled = F.avg_pool2d(frames.flatten(0, 1), 2)
    return differences(pooled.unflatten(0, (-1, frames.shape[1])))


def convolution_of_differences(frames: int, width: int) -> nn.Conv2d:
    """The 7x7 convolution, stride 2, of the differences of L ``frames``."""
    conv = nn.Conv2d(3 * (frames - 1), width, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _check(spec: ModelSpec, frames: int) -> None:
    if spec.frames_per_segment != frames:
        raise ValueError(
            f"this network sees differences of {frames} frames a segment, not frames_per_segment="
            f"{spec.frames_per_segment}"
        )
