"""TDN: temporal differences in the stem (short-term) and in the blocks (long-term).

Wang, Tong, Ji and Wu, "TDN: Temporal Difference Networks for Efficient Action Recognition", CVPR
2021, arXiv:2012.10071.

The short-term part is in :mod:`~smnet.models.differences`, and any family can use it by
``modality=rgb+rgbdiff``. The long-term part, of features X (B*T, C, H, W):

    B = BN(K_r * X)                             1x1, C -> C/16
    D_f[t] = (K_dw * B)[t+1] - B[t],  D_f[T-1] = 0
    D_b[t] = (K_dw * B)[t-1] - B[t],  D_b[0] = 0
    A(D) = (D + Up(BN(K_2 * avg_2(D))) + BN(K_4 * D)) / 3
    G(D) = s(BN(K_e * A(D))) - 1/2              1x1, C/16 -> C
    Y = X + X (G(D_f) + G(D_b)) / 2, then a channel-wise convolution over time

with Up nearest-neighbour, s the sigmoid, and one set of weights for both directions. The long-term
part stands after conv1 in the blocks of layer2 to layer4; layer1 has none.

The convolutions of the trunk have biases, as in the published checkpoints. Every tensor of those
has a counterpart of the same shape here, except ``conv1_temp``, which their code never uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, VideoModel, is_temporal
from .differences import FrameAndDifferenceResNet
from .layers import TemporalConv, backward_difference, frame_difference
from .options import Fraction, declared
from .resnet import BlockSite, ResNetOptions, initialise
from .trunks import Trunk


class LongTermDifference(nn.Module):
    """Gates, dense in space, from the differences to the next and to the previous segment.

    The convolutions start as in the authors' code (He et al., fan-out). The gates start near zero,
    so Y starts near X. (B*T, C, H, W) -> the same.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(channels // reduction, 1)
        self.squeeze = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.norm = nn.BatchNorm2d(squeezed)
        self.transform = nn.Conv2d(squeezed, squeezed, 3, padding=1, groups=squeezed, bias=False)
        self.coarse = nn.Conv2d(squeezed, squeezed, 3, padding=1, bias=False)
        self.coarse_norm = nn.BatchNorm2d(squeezed)
        self.fine = nn.Conv2d(squeezed, squeezed, 3, padding=1, bias=False)
        self.fine_norm = nn.BatchNorm2d(squeezed)
        self.expand = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels)
        initialise(self)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        b = self.norm(self.squeeze(x))  # (B*T, C/r, H, W)
        moved = self.transform(b)
        ahead = frame_difference(moved, b, num_segments)
        behind = backward_difference(moved, b, num_segments)
        gates = torch.sigmoid(self.scores(ahead)) + torch.sigmoid(self.scores(behind))
        return x * (gates / 2 + 0.5)  # X + X ((s_f - 1/2) + (s_b - 1/2)) / 2

    def scores(self, d: Tensor) -> Tensor:
        """The gates of a difference (B*T, C/r, H, W) before the sigmoid, (B*T, C, H, W)."""
        side = [min(2, s) for s in d.shape[2:]]  # a map of one pixel cannot be pooled further
        coarse = self.coarse_norm(self.coarse(F.avg_pool2d(d, side)))
        coarse = F.interpolate(coarse, d.shape[2:])
        fine = self.fine_norm(self.fine(d))
        return self.expand_norm(self.expand((d + coarse + fine) / 3))


class LongTerm(nn.Module):
    """The temporal part of a block: the gates, then a channel-wise convolution over time.

    The convolution starts as TSM's shift. (B*T, C, H, W) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.difference = LongTermDifference(channels)
        self.shift = TemporalConv(channels)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return self.shift(self.difference(x, num_segments), num_segments)


@declared
class TDNOptions(ResNetOptions):
    """Options of TDN."""

    difference_weight: Fraction | None = None
    """Share of the differences in the two sums of the short-term part. null: 1/2 at 8 segments,
    else 1/4, as the authors choose."""


class TDN(FrameAndDifferenceResNet):
    """A ResNet with both difference modules; clips are (B, T*5, 3, H, W), time fastest.

    Depths 50 and 101 are published. 18 and 34 have the same parts after their first 3x3.
    """

    def __init__(self, spec: ModelSpec, depth: int, options: TDNOptions) -> None:
        weight = options.difference_weight
        super().__init__(spec, depth, options, _temporal, "after_conv1", difference_weight=weight)
        for name, module in self.named_modules():
            if _has_bias(name, module):
                module.bias = nn.Parameter(torch.zeros(module.out_channels))

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the base; biases that the image network lacks are zero."""
        given = super().trunk_weights(state)
        for name, module in self.named_modules():
            weight = given.get(f"{name}.weight")
            if weight is not None and _has_bias(name, module):
                given.setdefault(f"{name}.bias", weight.new_zeros(weight.shape[0]))
        return given


def _has_bias(name: str, module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether the module is a convolution with a bias in the published checkpoints."""
    convolution = isinstance(module, nn.Conv2d)
    return convolution and not is_temporal(name) and name != "difference.conv1"


def tdn(spec: ModelSpec, trunk: Trunk, options: TDNOptions) -> VideoModel:
    """TDN on a ResNet."""
    return TDN(spec, trunk.depth, options)


def _temporal(site: BlockSite) -> nn.Module | None:
    return LongTerm(site.mid_channels) if site.stage > 2 else None
