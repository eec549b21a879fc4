"""TSM: a part of the channels moves one frame along time, for nothing (Lin et al., ICCV 2019).

With X (T, C, H, W) the features of one clip and f = floor(C/8):

    Y[t, :f]   = X[t+1, :f]        zero at the last frame
    Y[t, f:2f] = X[t-1, f:2f]      zero at the first frame
    Y[t, 2f:]  = X[t, 2f:]

The shift stands in the residual branch, before conv1 ("blockres"); it has no parameters.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import check_shift_div, partial_shift
from .resnet import LAYERS, BlockSite, Place
from .trunks import RESNETS, build_trunk


class TemporalShift(nn.Module):
    """The shift. (B*T, C, H, W) -> the same.

    Args:
        shift_div: one channel in ``shift_div`` takes the next frame, as many the previous one.
    """

    def __init__(self, shift_div: int = 8) -> None:
        super().__init__()
        check_shift_div(shift_div)
        self.shift_div = shift_div

    def extra_repr(self) -> str:
        return f"shift_div={self.shift_div}"

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return partial_shift(x, num_segments, self.shift_div)


def carries_shift(site: BlockSite, trunk: str) -> bool:
    """Whether the block at ``site`` carries a temporal part, as the published models have it.

    All do; of a trunk with 23 blocks or more in its third stage (ResNet-101), only every second
    block of each stage, from the first.
    """
    deep = trunk in RESNETS and LAYERS[RESNETS[trunk]][2] >= 23
    return not deep or site.index % 2 == 0


def tsm(
    spec: ModelSpec,
    trunk: str,
    place: Place = "before_conv1",
    shift_div: int = 8,
    **options: Any,
) -> VideoModel:
    """TSM on any trunk; ``options`` are the trunk's."""

    def temporal(site: BlockSite) -> nn.Module | None:
        return TemporalShift(shift_div) if carries_shift(site, trunk) else None

    return build_trunk(spec, trunk, temporal, place, **options)
