"""Res2Net's block on the ResNet trunk: a hierarchy over four parts of the channels.

Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", TPAMI 2021, arXiv:1904.01169; the
network published as 26w x 4s, the trunk of TEA. With X (4w, H, W) the features after conv1, its
normalisation and ReLU, X_0 .. X_3 their four parts of w channels and * convolution:

    Z_i = ReLU(BN(K_i * (X_i + Z_{i-1})))      i = 0, 1, 2; no Z_{i-1} for i = 0
    Z_3 = X_3
    conv3 takes Z_0 .. Z_3

In the first block of a stage no Z_{i-1} is added and Z_3 is pooled, 3x3, with the block's stride.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .resnet import Place, ResidualBlock, StrideIn

SCALE = 4
BASE_WIDTH = 26  # of 64 planes


class Res2NetBlock(ResidualBlock):
    """Bottleneck with four 3x3 parts.

    Names are those of the published Res2Net. A block with a ``downsample`` is the first of its
    stage.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        temporal: nn.Module | None = None,
        place: Place = "before_conv1",
        stride_in: StrideIn = "conv2",
    ) -> None:
        super().__init__(temporal, place)
        del stride_in  # always in the 3x3 convolutions
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
        y = self.enter(x, num_segments)
        if self.temporal is not None and self.place == "after_conv1":
            y = self.temporal(y, num_segments)
        parts = y.chunk(SCALE, dim=1)  # four times (B*T, w, H, W)
        outs: list[Tensor] = []
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            y = parts[i] if first or i == 0 else parts[i] + outs[-1]
            outs.append(self.relu(bn(conv(self.over_time(i, y, num_segments)))))
        last = self.over_time(SCALE - 1, parts[-1], num_segments)
        outs.append(last if self.pool is None else self.pool(last))
        return self.relu(self.bn3(self.conv3(torch.cat(outs, dim=1))) + shortcut)

    def over_time(self, part: int, y: Tensor, num_segments: int) -> Tensor:
        """Applied to each part (B*T, w, H, W) before its convolution; the identity here."""
        return y
