"""RGB differences as the input of a ResNet, without optical flow.

Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.2 (stacked RGB difference;
cross-modality initialisation), with the numbers of the authors' code. A segment is L = 6
consecutive frames I_1 ... I_6 with values in [0, 1], neither centred nor scaled:

    X = [I_2 - I_1, ..., I_6 - I_5]         15 channels, time outside, RGB inside

and X goes through an image network whose first convolution takes 15 channels. From the weights of
an RGB network that convolution starts as the mean over RGB, repeated for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .base import ModelSpec, fold_segments, unfold_frames
from .resnet import ResNet

FRAMES = 6
"""L, the frames of a segment."""
INPUT = {"frames_per_segment": FRAMES, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
"""What such a network fixes in its :class:`ModelSpec`."""


class DifferenceResNet(ResNet):
    """A ResNet on the differences of adjacent frames; clips are (B, T*6, 3, H, W), time fastest.

    Args:
        spec: what the model is; ``frames_per_segment`` must be 6.
        depth, options: of :class:`ResNet`.
    """

    def __init__(self, spec: ModelSpec, depth: int, **options: Any) -> None:
        if spec.frames_per_segment != FRAMES:
            raise ValueError(
                f"RGB differences are of {FRAMES} frames a segment, not frames_per_segment="
                f"{spec.frames_per_segment}"
            )
        super().__init__(spec, depth, **options)
        width = self.conv1.out_channels
        self.conv1 = nn.Conv2d(3 * (FRAMES - 1), width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, 8*width*expansion, H/32, W/32) of clips (B, T*6, 3, H, W).

        Raises:
            ValueError: the number of frames is not a multiple of 6.
        """
        segments, num_segments = fold_segments(clips, FRAMES)  # (B*T, 6, 3, H, W)
        differences = (segments[:, 1:] - segments[:, :-1]).flatten(1, 2)  # (B*T, 15, H, W)
        return unfold_frames(self.stages(self.stem(differences), num_segments), num_segments)

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An RGB network's tensors with its first convolution fitted to differences; that of a
        network on differences stays as it is."""
        given = super().trunk_weights(state)
        weight = given.get("conv1.weight")
        if weight is not None and weight.shape[1:2] == (3,):
            mean = weight.mean(dim=1, keepdim=True)
            given["conv1.weight"] = mean.repeat(1, 3 * (FRAMES - 1), 1, 1)
        return given
