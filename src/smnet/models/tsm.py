"""TSM: a part of the channels is shifted by one frame, at no cost (Lin et al., ICCV 2019).

With X (T, C, H, W) the features of one clip and f = floor(C/8):

    Y[t, :f]   = X[t+1, :f]        zero at the last frame
    Y[t, f:2f] = X[t-1, f:2f]      zero at the first frame
    Y[t, 2f:]  = X[t, 2f:]

The shift stands in the residual branch, before conv1 ("blockres"). It has no parameters. The causal
form for streams takes nothing from later frames:

    Y[t, :f] = X[t-1, :f]          zero at the first frame
    Y[t, f:] = X[t, f:]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import Delay, partial_shift
from .options import Options, ShiftDiv, declared
from .resnet import BlockSite, PlaceBesideConv
from .trunks import Trunk


class TemporalShift(nn.Module):
    """The shift; ``shift_div`` is C / f. (B*T, C, H, W) -> the same."""

    def __init__(self, shift_div: int = 8) -> None:
        super().__init__()
        self.shift_div = shift_div

    def extra_repr(self) -> str:
        return f"shift_div={self.shift_div}"

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return partial_shift(x, num_segments, self.shift_div)


class CausalShift(nn.Module):
    """The causal shift. (B*T, C, H, W) -> the same.

    Args:
        shift_div: C / f.
    """

    def __init__(self, shift_div: int = 8) -> None:
        super().__init__()
        self.shift_div = shift_div
        self.delay = Delay()

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        fold = x.shape[1] // self.shift_div
        return torch.cat([self.delay(x[:, :fold], num_segments), x[:, fold:]], dim=1)


@declared
class TSMOptions(Options):
    """Options of TSM."""

    place: PlaceBesideConv = "before_conv1"
    """Where the shift stands in the residual branch."""
    shift_div: ShiftDiv = 8
    """One channel in shift_div takes the next frame, as many take the previous one."""
    causal: bool = False
    """true: only the previous frame is taken, so the model also runs frame by frame on endless
    streams (`smnet live`)."""


def is_shifted(site: BlockSite, trunk: Trunk) -> bool:
    """Whether the block at ``site`` has a temporal part in the published models.

    All blocks do, except in ResNet-101: there every second block of each stage, from the first.
    """
    return trunk.name != "resnet101" or site.index % 2 == 0


def tsm(spec: ModelSpec, trunk: Trunk, options: TSMOptions) -> VideoModel:
    """TSM on any trunk."""

    def temporal(site: BlockSite) -> nn.Module | None:
        kind = CausalShift if options.causal else TemporalShift
        return kind(options.shift_div) if is_shifted(site, trunk) else None

    return trunk.build(spec, temporal, options.place)
