"""TEA: motion excitation and multiple temporal aggregation on Res2Net-50 (Li et al., CVPR 2020).

Res2Net (Gao et al., TPAMI 2019) replaces the 3x3 convolution of a bottleneck by a hierarchy over
four parts of its channels. TEA excites the features in front of it by their motion and gives every
part a temporal convolution. With X (T, 4w, H, W) the features after conv1, its normalisation and
ReLU, * convolution and s the sigmoid:

    ME    Y = X + X (s(BN(K_e * GAP(D))) - 1/2)        D the difference of adjacent frames
    MTA   Y_0 .. Y_3 = Y in four parts of w channels
          Z_i = ReLU(BN(K_i * tau_i(Y_i + Z_{i-1})))   i = 0, 1, 2; no Z_{i-1} for i = 0
          Z_3 = tau_3(Y_3)
          conv3 takes Z_0 .. Z_3

In the first block of a stage no Z_{i-1} is added and Z_3 is pooled, 3x3, with the block's stride.
tau is channel-wise over time with kernel 3: tau_0 .. tau_2 start as the identity, in tau_3 half of
the channels start with the next frame and half with the previous one.

At the last frame of a clip D is zero, but the gate is what BN has learned, not zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import MotionGate, TemporalConv
from .resnet import BlockSite, Place, ResidualBlock, ResNet, StrideIn

SCALE = 4
BASE_WIDTH = 26  # of 64 planes: the network published as 26w x 4s


class MotionExcitation(MotionGate):
    """ME. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__(channels, reduction, norm=True)
        for conv in (self.squeeze, self.transform, self.expand):  # as the trunk's convolutions
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return x * (self.gates(x, num_segments) + 0.5)


class TemporalAggregation(nn.Module):
    """What TEA adds to a Res2Net block: ME on all its channels, and a tau for each part.

    Args:
        channels: 4w, the channels after conv1.
        reduction: r of the motion excitation.

    Shape:
        x (B*T, 4w, H, W) -> the excited features, the same; :meth:`shift` on one part.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = channels // SCALE
        self.me = MotionExcitation(channels, reduction)
        self.shifts = nn.ModuleList(
            [TemporalConv(width, init="identity") for _ in range(SCALE - 1)]
            + [TemporalConv(width, init="shift", shift_div=2)]
        )

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        out: Tensor = self.me(x, num_segments)
        return out

    def shift(self, part: int, y: Tensor, num_segments: int) -> Tensor:
        """tau_``part`` of y (B*T, w, H, W)."""
        out: Tensor = self.shifts[part](y, num_segments)
        return out


class Res2NetBlock(ResidualBlock):
    """Bottleneck with a hierarchy of four 3x3 parts; ``temporal`` is a TemporalAggregation.

    Names are those of the published Res2Net. A block with a ``downsample`` is the first of its
    stage.
    """

    expansion = 4
    temporal: TemporalAggregation | None

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        temporal: nn.Module | None = None,
        place: Place = "after_conv1",
        stride_in: StrideIn = "conv2",
    ) -> None:
        super().__init__(temporal, place)
        if stride_in != "conv2":
            raise ValueError("the stride of a Res2Net block is in its 3x3 convolutions: conv2")
        channels = self.mid_channels(planes)
        width = channels // SCALE
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False) for _ in range(SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(SCALE - 1))
        self.pool = nn.AvgPool2d(3, stride, padding=1) if downsample is not None else None
        self.conv3 = nn.Conv2d(channels, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = downsample

    @classmethod
    def mid_channels(cls, planes: int) -> int:
        return SCALE * (planes * BASE_WIDTH // 64)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        first = self.downsample is not None
        parts = self.enter(x, num_segments).chunk(SCALE, dim=1)  # four times (B*T, w, H, W)
        outs: list[Tensor] = []
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            y = parts[i] if first or i == 0 else parts[i] + outs[-1]
            outs.append(self.relu(bn(conv(self._shift(i, y, num_segments)))))
        last = self._shift(SCALE - 1, parts[-1], num_segments)
        outs.append(last if self.pool is None else self.pool(last))
        return self.relu(self.bn3(self.conv3(torch.cat(outs, dim=1))) + shortcut)

    def _shift(self, part: int, y: Tensor, num_segments: int) -> Tensor:
        if self.temporal is None:
            return y
        return self.temporal.shift(part, y, num_segments)


def tea(spec: ModelSpec, trunk: str, reduction: int = 16, **options: Any) -> VideoModel:
    """TEA on its own trunk, ``res2net50``; ``options`` are those of :class:`ResNet`."""
    if trunk != "res2net50":
        raise ValueError(f"TEA stands on res2net50, not on {trunk}")

    def temporal(site: BlockSite) -> nn.Module:
        return TemporalAggregation(site.mid_channels, reduction)

    return ResNet(spec, 50, temporal, "after_conv1", block=Res2NetBlock, **options)
