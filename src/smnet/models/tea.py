"""TEA: motion excitation and multiple temporal aggregation on Res2Net-50 (Li et al., CVPR 2020).

Res2Net (:mod:`smnet.models.res2net`) replaces the 3x3 convolution of a bottleneck by a hierarchy
over four parts of its channels. TEA excites the features in front of it by their motion and adds a
temporal convolution to every part. With X (T, 4w, H, W) the features after conv1, its normalisation
and ReLU, * convolution and s the sigmoid:

    ME    Y = X + X (s(BN(K_e * GAP(D))) - 1/2)        D the difference of adjacent frames
    MTA   Y_0 .. Y_3 = Y in four parts of w channels
          Z_i = ReLU(BN(K_i * tau_i(Y_i + Z_{i-1})))   i = 0, 1, 2; no Z_{i-1} for i = 0
          Z_3 = tau_3(Y_3)
          conv3 takes Z_0 .. Z_3

In the first block of a stage no Z_{i-1} is added and Z_3 is pooled, 3x3, with the block's stride.
tau is channel-wise over time with kernel 3. tau_0 .. tau_2 start as the identity. tau_3 starts with
the next frame in half of the channels and the previous frame in the other half.

D is zero at the last frame of a clip. The gate is not: BN has a bias.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import TemporalConv
from .options import Count, declared
from .res2net import SCALE, Res2NetBlock
from .resnet import BlockSite, ResNet, ResNetOptions
from .smnet import MotionExcitation
from .trunks import Trunk


class TemporalAggregation(nn.Module):
    """The temporal part of a Res2Net block: ME on all its channels, and a tau for each part.

    (B*T, 4w, H, W) -> the excited features, of the same shape. ``shifts`` has the taus.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = channels // SCALE
        self.me = MotionExcitation(channels, reduction, centred=True)
        for conv in (self.me.squeeze, self.me.transform, self.me.expand):  # as in the trunk
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.shifts = nn.ModuleList(
            [TemporalConv(width, init="identity") for _ in range(SCALE - 1)]
            + [TemporalConv(width, init="shift", shift_div=2)]
        )

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return self.me(x, num_segments)


class TEABlock(Res2NetBlock):
    """The block of Res2Net with a :class:`TemporalAggregation` after conv1."""

    temporal: TemporalAggregation | None

    def over_time(self, part: int, y: Tensor, num_segments: int) -> Tensor:
        """tau_``part``."""
        return y if self.temporal is None else self.temporal.shifts[part](y, num_segments)


@declared
class TEAOptions(ResNetOptions):
    """Options of TEA."""

    stride_in: Literal["conv2"] = "conv2"
    """The 3x3 convolutions carry the stride of a block."""
    reduction: Count = 16
    """r of ME: it works on 4w/r channels."""


def tea(spec: ModelSpec, trunk: Trunk, options: TEAOptions) -> VideoModel:
    """TEA on Res2Net-50."""

    def temporal(site: BlockSite) -> nn.Module:
        return TemporalAggregation(site.mid_channels, options.reduction)

    return ResNet(spec, trunk.depth, options, temporal, "after_conv1", block=TEABlock)
