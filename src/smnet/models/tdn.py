"""TDN: temporal differences in the stem (short-term) and in the blocks (long-term).

Wang, Tong, Ji and Wu, "TDN: Temporal Difference Networks for Efficient Action Recognition", CVPR
2021, arXiv:2012.10071.

A segment is L = 5 consecutive frames I_1 ... I_5; the network sees the middle one, I_3.

    short-term   P_0 = pool(ReLU(BN(K_7x7 * avg_2([I_2-I_1, I_3-I_2, I_4-I_3, I_5-I_4]))))
                 X <- a X + b Up(P_0)         after the stem of I_3
                 X <- a X + b Up(layer1'(P_0))     after layer1; layer1' is a second layer1
    long-term    B = BN(K_r * X)                             1x1, C -> C/16
                 D_f[t] = (K_dw * B)[t+1] - B[t],  D_f[T-1] = 0
                 D_b[t] = (K_dw * B)[t-1] - B[t],  D_b[0] = 0
                 A(D) = (D + Up(BN(K_2 * avg_2(D))) + BN(K_4 * D)) / 3
                 G(D) = s(BN(K_e * A(D))) - 1/2              1x1, C/16 -> C
                 Y = X + X (G(D_f) + G(D_b)) / 2, then a channel-wise convolution over time

with Up nearest-neighbour, s the sigmoid, and one set of weights for both directions. The long-term
part stands after conv1 in the blocks of layer2 to layer4; layer1 has none.

The convolutions of the trunk have biases, as the published checkpoints do: every tensor of those
has a place of the same shape here, but for ``conv1_temp``, which they carry and never use.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, VideoModel, fold_segments, unfold_frames
from .differences import (
    FRAMES_AROUND,
    KEY,
    convolution_of_differences,
    from_rgb,
    pooled_differences,
)
from .layers import TemporalConv, backward_difference, frame_difference
from .resnet import BlockSite, ResNet
from .trunks import RESNETS


class LongTermDifference(nn.Module):
    """Gates, dense in space, from the differences to the next and to the previous segment.

    The convolutions start as in the authors' code (He et al., fan-out). Up to the noise of these
    starting values the gates are centred on zero, so Y starts near X.

    Shape:
        x (B*T, C, H, W) -> the same.
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
        _he(self)

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
        out: Tensor = self.expand_norm(self.expand((d + coarse + fine) / 3))
        return out


class LongTerm(nn.Module):
    """The temporal part of a block: the gates, then a channel-wise convolution over time that
    starts as TSM's shift. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.difference = LongTermDifference(channels)
        self.shift = TemporalConv(channels)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        out: Tensor = self.shift(self.difference(x, num_segments), num_segments)
        return out


class ShortTermDifference(nn.Module):
    """The second way into the network: the differences of a segment's frames.

    Shape:
        frames (N, L, 3, H, W) -> (N, width, H/8, W/8), and the same after its own layer1.
    """

    def __init__(self, width: int, layer1: nn.ModuleList) -> None:
        super().__init__()
        self.conv1 = convolution_of_differences(FRAMES_AROUND, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = copy.deepcopy(layer1)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        _he(self.layer1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        stem: Tensor = self.maxpool(F.relu(self.bn1(self.conv1(pooled_differences(frames)))))
        x = stem
        for block in self.layer1:
            x = block(x, 1)
        return stem, x


class TDN(ResNet):
    """A ResNet with both difference modules; clips are (B, T*5, 3, H, W), time fastest.

    Args:
        spec: what the model is; ``frames_per_segment`` must be 5.
        depth: 50 and 101 are published; 18 and 34 have the same parts after their first 3x3.
        difference_weight: b, the share of the differences in the two sums; a = 1 - b. None is the
            authors' choice: 1/2 at 8 segments, 1/4 at any other number.
        options: ``width``, ``dropout``, ``stride_in`` of :class:`ResNet`.
    """

    layer1: nn.ModuleList
    layer2: nn.ModuleList
    layer3: nn.ModuleList
    layer4: nn.ModuleList

    def __init__(
        self,
        spec: ModelSpec,
        depth: int = 50,
        difference_weight: float | None = None,
        **options: Any,
    ) -> None:
        if spec.frames_per_segment != FRAMES_AROUND:
            raise ValueError(
                f"TDN reads {FRAMES_AROUND} frames a segment, not frames_per_segment="
                f"{spec.frames_per_segment}"
            )
        if difference_weight is None:
            difference_weight = 0.5 if spec.num_segments == 8 else 0.25
        if not 0 <= difference_weight <= 1:
            raise ValueError(f"difference_weight must lie in 0..1, not {difference_weight}")
        super().__init__(spec, depth, _temporal, "after_conv1", block=None, **options)
        self.difference_weight = float(difference_weight)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".temporal." not in name:
                module.bias = nn.Parameter(torch.zeros(module.out_channels))
        self.difference = ShortTermDifference(self.conv1.out_channels, self.layer1)

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, C, H/32, W/32) of clips (B, T*5, 3, H, W).

        Raises:
            ValueError: the number of frames is not a multiple of 5.
        """
        segments, num_segments = fold_segments(clips, FRAMES_AROUND)  # (B*T, 5, 3, H, W)
        early, late = self.difference(segments)
        x = self._mix(self.stem(segments[:, KEY]), early)
        for block in self.layer1:
            x = block(x, num_segments)
        x = self._mix(x, late)
        for layer in (self.layer2, self.layer3, self.layer4):
            for block in layer:
                x = block(x, num_segments)
        return unfold_frames(x, num_segments)

    def _mix(self, x: Tensor, difference: Tensor) -> Tensor:
        """a X + b Up(difference)."""
        return torch.lerp(x, F.interpolate(difference, x.shape[2:]), self.difference_weight)

    def is_trunk_key(self, key: str) -> bool:
        """The difference branch counts, as it starts from the trunk; its first BatchNorm is new."""
        return super().is_trunk_key(key) and not key.startswith("difference.bn1.")

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The image network's tensors, and what the authors derive from them.

        The difference branch takes a copy of layer1; its first convolution, over 12 channels, takes
        the mean of conv1 over RGB for each of them (as TSN does for RGB differences). Biases that
        the image network has not are zero.
        """
        given = super().trunk_weights(state)
        for name, module in self.named_modules():
            weight = given.get(f"{name}.weight")
            if isinstance(module, nn.Conv2d) and module.bias is not None and weight is not None:
                given.setdefault(f"{name}.bias", weight.new_zeros(weight.shape[0]))
        branch = {f"difference.{k}": v for k, v in given.items() if k.startswith("layer1.")}
        if "conv1.weight" in given:
            branch["difference.conv1.weight"] = from_rgb(given["conv1.weight"], FRAMES_AROUND)
        return branch | given


def tdn(
    spec: ModelSpec, trunk: str, difference_weight: float | None = None, **options: Any
) -> VideoModel:
    """TDN on a ResNet; see :class:`TDN`."""
    return TDN(spec, RESNETS[trunk], difference_weight, **options)


def _temporal(site: BlockSite) -> nn.Module | None:
    return LongTerm(site.mid_channels) if site.stage > 2 else None


def _he(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
