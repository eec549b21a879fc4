"""STM: spatio-temporal and motion features side by side in one block (Jiang et al., ICCV 2019).

With X (T, C, H, W) the features after conv1, its normalisation and ReLU, and * convolution:

    CSTM  Y_s = K_3x3 * (K_t * X)           K_t channel-wise over time, kernel 3
    CMM   F = K_r * X                       1x1, C -> C/16
          D[t] = (K_dw * F)[t+1] - F[t]     channel-wise 3x3; D[T-1] = 0
          Y_m = K_e * D                     1x1, C/16 -> C
    Y = Y_s + Y_m                           in the place of the block's second convolution

K_3x3 is the second convolution itself and starts from the image network. K_t starts with the
previous frame in a quarter of the channels, the next frame in another quarter, and the frame itself
in the rest. CMM starts at random.

The article does not say how CMM follows the stride of a stage's first block. Here D is computed at
the positions of the strided K_3x3. (The published 33.3 GMAC at 8 frames show that the stride is in
the 3x3 convolution.) The article has bottlenecks only. ResNet-18 and -34 carry the module at the
same place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import TemporalConv, frame_difference
from .options import Count, Options, declared
from .resnet import BlockSite
from .trunks import Trunk


class ChannelwiseMotion(nn.Module):
    """CMM. (B*T, C, H, W) -> (B*T, C, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(channels // reduction, 1)
        self.squeeze = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.transform = nn.Conv2d(squeezed, squeezed, 3, padding=1, groups=squeezed, bias=False)
        self.expand = nn.Conv2d(squeezed, channels, 1, bias=False)
        for conv in (self.squeeze, self.transform, self.expand):  # as the trunk's convolutions
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, num_segments: int, stride: int = 1) -> Tensor:
        f = self.squeeze(x)  # (B*T, C/r, H, W)
        moved = F.conv2d(f, self.transform.weight, stride=stride, padding=1, groups=f.shape[1])
        d = frame_difference(moved, f[:, :, ::stride, ::stride], num_segments)
        return self.expand(d)


class SpatioTemporalMotion(nn.Module):
    """The temporal part of a block: K_t of CSTM, and CMM. ``around`` applies K_3x3."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.over_time = TemporalConv(channels, init="identity")
        quarter = channels // 4
        with torch.no_grad():
            taps = self.over_time.weight[:, 0]  # (C, 3)
            taps[:quarter] = torch.tensor([1.0, 0.0, 0.0])
            taps[channels - quarter :] = torch.tensor([0.0, 0.0, 1.0])
        self.motion = ChannelwiseMotion(channels, reduction)

    def around(self, conv: nn.Conv2d, x: Tensor, num_segments: int) -> Tensor:
        """Y of x (B*T, C, H, W); ``conv`` is K_3x3."""
        return conv(self.over_time(x, num_segments)) + self.motion(x, num_segments, conv.stride[0])


@declared
class STMOptions(Options):
    """Options of STM."""

    reduction: Count = 16
    """r of CMM: it works on C/r channels."""


def stm(spec: ModelSpec, trunk: Trunk, options: STMOptions) -> VideoModel:
    """STM on a ResNet."""

    def temporal(site: BlockSite) -> nn.Module:
        return SpatioTemporalMotion(site.mid_channels, options.reduction)

    return trunk.build(spec, temporal, "after_conv1")
