"""ResNets on differences of frames, without optical flow.

``"rgbdiff"``: Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.2 (stacked RGB
difference; cross-modality initialisation), with the numbers of the authors' code. A segment is
L = 6 consecutive frames I_1 ... I_6 with values in [0, 1], not normalised:

    X = [I_2 - I_1, ..., I_6 - I_5]         15 channels, time outside, RGB inside

X is the input of an image network whose first convolution takes 15 channels.

``"rgb+rgbdiff"``: a frame and the differences around it, which is TDN's short-term module (Wang et
al., "TDN", CVPR 2021, section 3.2). A segment is L = 5 frames, normalised; with Up
nearest-neighbour:

    P_0 = pool(ReLU(BN(K_7x7 * avg_2([I_2 - I_1, I_3 - I_2, I_4 - I_3, I_5 - I_4]))))
    X <- a X + b Up(P_0)              after the stem of I_3
    X <- a X + b Up(layer1'(P_0))     after layer1; layer1' is a second layer1, of single frames

From the weights of an RGB network a convolution of differences starts as the mean over RGB,
repeated for each channel, and layer1' as layer1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, fold_segments, is_temporal, unfold_frames
from .resnet import ResNet, ResNetOptions, initialise

FRAMES = 6
"""L of ``"rgbdiff"``, the frames of a segment."""
FRAMES_AROUND = 5
"""L of ``"rgb+rgbdiff"``."""
KEY = FRAMES_AROUND // 2
"""Index of the frame that the trunk sees."""
INPUTS: dict[str, dict[str, Any]] = {
    "rgb": {},
    "rgbdiff": {"frames_per_segment": FRAMES, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    "rgb+rgbdiff": {"frames_per_segment": FRAMES_AROUND},
}
"""Fields of :class:`ModelSpec` that each modality fixes."""


class DifferenceResNet(ResNet):
    """A ResNet on the differences of adjacent frames; clips are (B, T*6, 3, H, W), time fastest."""

    def __init__(self, spec: ModelSpec, depth: int, options: ResNetOptions, *parts: Any) -> None:
        _check(spec, FRAMES)
        super().__init__(spec, depth, options, *parts)
        self.conv1 = convolution_of_differences(FRAMES, self.conv1.out_channels)

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, 8*width*expansion, H/32, W/32) of clips (B, T*6, 3, H, W)."""
        segments, num_segments = fold_segments(clips, FRAMES)  # (B*T, 6, 3, H, W)
        x = self.stem(differences(segments))
        return unfold_frames(self.stages(x, num_segments), num_segments)

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the base; the first convolution of an RGB network is adapted to differences."""
        given = super().trunk_weights(state)
        weight = given.get("conv1.weight")
        if weight is not None and weight.shape[1:2] == (3,):
            given["conv1.weight"] = from_rgb(weight, FRAMES)
        return given


class ShortTermDifference(nn.Module):
    """The branch of differences: P_0 and layer1'(P_0).

    Frames (N, 5, 3, H, W) -> (N, width, H/8, W/8) and (N, width*expansion, H/8, W/8).
    """

    def __init__(self, width: int, layer1: nn.ModuleList) -> None:
        super().__init__()
        self.conv1 = convolution_of_differences(FRAMES_AROUND, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = layer1
        initialise(layer1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        stem: Tensor = self.maxpool(F.relu(self.bn1(self.conv1(pooled_differences(frames)))))
        x = stem
        for block in self.layer1:
            x = block(x, 1)
        return stem, x


class FrameAndDifferenceResNet(ResNet):
    """A ResNet on frames and the differences around them; clips are (B, T*5, 3, H, W), time
    fastest.

    ``difference_weight`` is b in [0, 1], the share of the differences in the two sums; a = 1 - b.
    None is the choice of TDN's authors: 1/2 at 8 segments, 1/4 at any other number.
    """

    def __init__(
        self,
        spec: ModelSpec,
        depth: int,
        options: ResNetOptions,
        *parts: Any,
        difference_weight: float | None = None,
    ) -> None:
        _check(spec, FRAMES_AROUND)
        super().__init__(spec, depth, options, *parts)
        if difference_weight is None:
            difference_weight = 0.5 if spec.num_segments == 8 else 0.25
        self.difference_weight = float(difference_weight)
        self.difference = ShortTermDifference(self.width, self.make_layer(2, temporal=None))

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, 8*width*expansion, H/32, W/32) of clips (B, T*5, 3, H, W)."""
        segments, num_segments = fold_segments(clips, FRAMES_AROUND)  # (B*T, 5, 3, H, W)
        early, late = self.difference(segments)
        x = self._mix(self.stem(segments[:, KEY]), early)
        for block in self.layer1:
            x = block(x, num_segments)
        x = self.stages(self._mix(x, late), num_segments, first=2)
        return unfold_frames(x, num_segments)

    def _mix(self, x: Tensor, difference: Tensor) -> Tensor:
        """a X + b Up(difference)."""
        return torch.lerp(x, F.interpolate(difference, x.shape[2:]), self.difference_weight)

    def is_trunk_key(self, key: str) -> bool:
        """As the base. The branch of differences starts from the trunk, except its BatchNorm."""
        return super().is_trunk_key(key) and not key.startswith("difference.bn1.")

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the base; the branch of differences is made from an RGB network that has none."""
        layer1 = {k: v for k, v in state.items() if k.startswith("layer1.")}
        branch = {f"difference.{k}": v for k, v in layer1.items() if not is_temporal(k)}
        if "conv1.weight" in state:
            branch["difference.conv1.weight"] = from_rgb(state["conv1.weight"], FRAMES_AROUND)
        return branch | super().trunk_weights(state)


def from_rgb(weight: Tensor, frames: int) -> Tensor:
    """(D, 3, k, k) of frames -> (D, 3(L - 1), k, k) of the differences of L ``frames``: the mean
    over RGB for each channel."""
    return weight.mean(dim=1, keepdim=True).repeat(1, 3 * (frames - 1), 1, 1)


def differences(frames: Tensor) -> Tensor:
    """(N, L, 3, H, W) -> [I_2 - I_1, ..., I_L - I_(L-1)], (N, 3(L - 1), H, W)."""
    return (frames[:, 1:] - frames[:, :-1]).flatten(1, 2)


def pooled_differences(frames: Tensor) -> Tensor:
    """(N, L, 3, H, W) -> avg_2 [I_2 - I_1, ..., I_L - I_(L-1)], (N, 3(L - 1), H/2, W/2)."""
    # Pooling is linear. Before the subtraction it leaves a quarter of the pixels.
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
            f"this network needs frames_per_segment={frames}, and the specification has"
            f" frames_per_segment={spec.frames_per_segment}"
        )
