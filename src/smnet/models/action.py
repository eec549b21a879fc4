"""ACTION-Net: three excitations of temporally shifted features (Wang, She and Smolic, CVPR 2021).

With X (T, C, H, W) the features of one clip, * convolution, s the sigmoid and r = 16:

    S = K_t * X                                 channel-wise over time, kernel 3, starts as TSM
    STE  P1 = S + S s(K_3x3x3 * mean_c S)       one spatio-temporal mask
    CE   P2 = S + S s(K_b * ReLU(K_c * K_a * GAP(S)))        K_c over time, kernel 3, all channels
    ME   P3 = S + S s(K_e * GAP(D))             D of adjacent frames, see MotionExcitation
    Y = P1 + P2 + P3

The module stands before conv1. Y is about 4.5 S at the start; training adapts the normalisation
after conv1 to this scale.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import TemporalConv
from .options import Count, Options, ShiftDiv, declared
from .resnet import BlockSite, PlaceBesideConv
from .smnet import MotionExcitation
from .trunks import Trunk
from .tsm import is_shifted


class ChannelGate(nn.Module):
    """CE: gates (B*T, C, 1, 1) in (0, 1) from the means of three frames (B*T, C, H, W)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(channels // reduction, 1)
        self.squeeze = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.temporal_conv = _as_convolution(TemporalConv(squeezed, groups=1))
        self.expand = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        z = self.squeeze(x.mean((2, 3), keepdim=True))  # (B*T, C/r, 1, 1)
        z = torch.relu(self.temporal_conv(z, num_segments))
        return torch.sigmoid(self.expand(z))


class Action(nn.Module):
    """The three excitations and their sum. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, reduction: int = 16, shift_div: int = 8) -> None:
        super().__init__()
        self.shift = TemporalConv(channels, init="shift", shift_div=shift_div)
        self.ste = _as_convolution(TemporalConv(1, space=3))
        self.ce = ChannelGate(channels, reduction)
        self.me = MotionExcitation(channels, reduction)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        s = self.shift(x, num_segments)
        mask = torch.sigmoid(self.ste(s.mean(1, keepdim=True), num_segments))  # (B*T, 1, H, W)
        gates = self.ce(s, num_segments) + self.me.gates(s, num_segments)  # (B*T, C, 1, 1)
        return torch.addcmul(s * mask, s, gates + 3)  # P1 + P2 + P3


def _as_convolution(layer: TemporalConv) -> TemporalConv:
    """Initialise ``layer`` as PyTorch initialises a convolution, which is the published start."""
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
    return layer


@declared
class ActionOptions(Options):
    """Options of ACTION-Net."""

    place: PlaceBesideConv = "before_conv1"
    """Where the module stands in the residual branch."""
    reduction: Count = 16
    """r of the channel and motion excitations: they work on C/r channels."""
    shift_div: ShiftDiv = 8
    """K_t starts as TSM's shift of one channel in shift_div each way."""


def action(spec: ModelSpec, trunk: Trunk, options: ActionOptions) -> VideoModel:
    """ACTION-Net on any trunk, in the blocks that TSM shifts."""

    def temporal(site: BlockSite) -> nn.Module | None:
        if not is_shifted(site, trunk):
            return None
        return Action(site.channels(options.place), options.reduction, options.shift_div)

    return trunk.build(spec, temporal, options.place)
