"""TEINet: channels gated by the difference of adjacent frames, then mixed over time.

Liu et al., "TEINet: Towards an Efficient Architecture for Video Recognition", AAAI 2020,
arXiv:1911.09435. With X (T, C, H, W) the features of one clip, z[t] = GAP(X[t]), * convolution, s
the sigmoid and r = 8:

    MEM   g[t] = s(K_3 * (K_1 * z[t] - K_2 * z[t+1]))       1x1, C -> C/r -> C, with biases
          U[t] = g[t] X[t];  U[T-1] = X[T-1]
    TIM   Y[t, c] = sum_k w[c, k] U[t+k-1, c]               k = 0, 1, 2; zero outside the clip

w starts as TSM's shift.

The module stands before conv1. The published 30.4 M parameters (24.33 M of ResNet-50 with 400
classes) fix the place and the biases: elsewhere in the block C differs, and without biases the
model would have 30.3 M.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import TemporalConv, is_clip_end, shift_frames
from .options import Count, Options, ShiftDiv, declared
from .resnet import BlockSite, PlaceBesideConv
from .trunks import Trunk


class EnhancementAndInteraction(nn.Module):
    """MEM and TIM. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, reduction: int = 8, shift_div: int = 8) -> None:
        super().__init__()
        squeezed = max(channels // reduction, 1)
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.squeeze_next = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.interaction = TemporalConv(channels, shift_div=shift_div)

    def gates(self, x: Tensor, num_segments: int) -> Tensor:
        """g, (B*T, C, 1, 1) in (0, 1); one at the last frame of a clip."""
        z = x.mean((2, 3), keepdim=True)
        ahead = self.squeeze_next(z)
        difference = self.squeeze(z) - shift_frames(ahead, -1, num_segments)
        gates = torch.sigmoid(self.expand(difference))
        return gates.masked_fill(is_clip_end(z, num_segments), 1.0)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        # The weights of TIM are multiplied by the gates, which avoids a gated copy of the features.
        gates = self.gates(x, num_segments)[:, :, 0]  # (B*T, C, 1)
        taps = gates * self.interaction.weight[:, 0]  # (B*T, C, 3)
        return self.interaction.sum(x, taps, num_segments)


@declared
class TEINetOptions(Options):
    """Options of TEINet."""

    place: PlaceBesideConv = "before_conv1"
    """Where the module stands in the residual branch."""
    reduction: Count = 8
    """r of MEM: it works on C/r channels."""
    shift_div: ShiftDiv = 8
    """TIM starts as TSM's shift of one channel in shift_div each way."""


def teinet(spec: ModelSpec, trunk: Trunk, options: TEINetOptions) -> VideoModel:
    """TEINet on any trunk."""

    def temporal(site: BlockSite) -> nn.Module:
        channels = site.channels(options.place)
        return EnhancementAndInteraction(channels, options.reduction, options.shift_div)

    return trunk.build(spec, temporal, options.place)
