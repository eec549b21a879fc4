"""The ResNet trunk (He et al., CVPR 2016) over the frames of a clip.

Layout and names are torchvision's (v1.5), so that its weights load without renaming. A block takes
its temporal part as a constructor argument; without one this is a plain image network and, with the
consensus of :class:`~smnet.models.base.VideoModel`, a TSN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, VideoModel, fold_frames, is_temporal, unfold_frames
from .options import TrunkOptions, declared

Place = Literal["before_conv1", "after_conv1", "instead_of_conv2"]
PlaceBesideConv = Literal["before_conv1", "after_conv1"]
StrideIn = Literal["conv1", "conv2"]
Features = Literal["res5", "res4+res5"]

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks of the four stages by depth."""


@declared
class ResNetOptions(TrunkOptions):
    """Options of a 2D ResNet."""

    stride_in: StrideIn = "conv2"
    """The convolution that carries the stride of a bottleneck: conv2 in torchvision's weights,
    conv1 in Caffe's. Basic blocks (ResNet-18 and -34) have it in conv1 in both."""
    features: Features = "res5"
    """What the head sees: the last stage, or the last two side by side (res4+res5)."""


@dataclass(frozen=True)
class BlockSite:
    """The position of a residual block in the trunk.

    Attributes:
        stage: 2 to 5, as in res2 ... res5 (``layer1`` ... ``layer4``).
        index: position of the block in its stage, from 0.
        blocks: number of blocks in the stage.
        in_channels: channels of the block's input (what a part before conv1 sees).
        mid_channels: channels after conv1 (what a part after conv1 sees).
    """

    stage: int
    index: int
    blocks: int
    in_channels: int
    mid_channels: int

    def channels(self, place: Place) -> int:
        """Channels of the features at ``place``."""
        return self.in_channels if place == "before_conv1" else self.mid_channels


Temporal = Callable[[BlockSite], nn.Module | None]
"""Builds the temporal part of the block at a site: a module that is called as ``part(x,
num_segments)`` with x (B*T, C, H, W) and returns the same shape. None is a plain block."""


class ResidualBlock(nn.Module):
    """Base of the residual blocks.

    The temporal part acts in the residual branch only. The shortcut sees the raw input.
    """

    expansion: int
    conv1: nn.Module
    bn1: nn.Module

    places: ClassVar[tuple[str, ...]] = ("before_conv1", "after_conv1")

    def __init__(self, temporal: nn.Module | None, place: Place) -> None:
        super().__init__()
        if place not in self.places:
            raise ValueError(f"place must be {' or '.join(self.places)}, not {place!r}")
        self.temporal = temporal
        self.place = place
        self.relu = nn.ReLU(inplace=True)

    @classmethod
    def mid_channels(cls, planes: int) -> int:
        """Channels after conv1 in a block of ``planes``."""
        return planes

    def enter(self, x: Tensor, num_segments: int) -> Tensor:
        """conv1, its normalisation and ReLU, after the temporal part if that is its place."""
        return self.relu(self.bn1(self.convolve("before_conv1", self.conv1, x, num_segments)))

    def convolve(self, place: Place, conv: nn.Module, x: Tensor, num_segments: int) -> Tensor:
        """``conv(x)``, preceded by the temporal part if it stands at ``place``.

        A temporal part with a method ``around(conv, x, num_segments)`` applies the convolution
        itself.
        """
        if self.temporal is None or self.place != place:
            return conv(x)
        around: Callable[..., Tensor] | None = getattr(self.temporal, "around", None)
        return (
            conv(self.temporal(x, num_segments))
            if around is None
            else around(conv, x, num_segments)
        )


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    expansion = 1

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
        del stride_in  # both kinds of weights put the stride of a basic block in conv1
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.enter(x, num_segments)
        y = self.bn2(self.convolve("after_conv1", self.conv2, y, num_segments))
        return self.relu(y + shortcut)


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions (ResNet-50 and deeper).

    ``stride_in="conv2"`` is torchvision's v1.5; ``"conv1"`` is the original of He et al., which
    weights converted from Caffe require. With ``place="instead_of_conv2"`` the temporal part
    replaces the 3x3 convolution, and conv1 takes over its stride.
    """

    expansion = 4
    places = ("before_conv1", "after_conv1", "instead_of_conv2")

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
        replaced = temporal is not None and place == "instead_of_conv2"
        stride1, stride2 = (stride, 1) if stride_in == "conv1" or replaced else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, stride1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = (
            None if replaced else nn.Conv2d(planes, planes, 3, stride2, padding=1, bias=False)
        )
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = downsample

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.enter(x, num_segments)
        if self.conv2 is not None:
            y = self.convolve("after_conv1", self.conv2, y, num_segments)
        elif self.temporal is not None:
            y = self.temporal(y, num_segments)
        y = self.relu(self.bn2(y))
        y = self.bn3(self.conv3(y))
        return self.relu(y + shortcut)


class ResNet(VideoModel):
    """A 2D ResNet applied to every frame, with temporal parts in its residual blocks.

    Args:
        spec, options: of the model.
        depth: 18, 34, 50 or 101.
        temporal: builds the temporal part of each block; None is a plain image network.
        place: of the temporal part in the residual branch.
        block: the class of residual block; None is the standard one of the depth.
    """

    layer1: nn.ModuleList
    layer2: nn.ModuleList
    layer3: nn.ModuleList
    layer4: nn.ModuleList

    def __init__(
        self,
        spec: ModelSpec,
        depth: int,
        options: ResNetOptions,
        temporal: Temporal | None = None,
        place: Place = "before_conv1",
        block: type[ResidualBlock] | None = None,
    ) -> None:
        kind = block or (BasicBlock if depth < 50 else Bottleneck)
        width = options.width
        channels = 8 * width * kind.expansion
        self._joined = options.features == "res4+res5"
        if self._joined:
            channels += channels // 2
        super().__init__(spec, channels, options.dropout, options.head)
        self.depth = depth
        self.width = width
        self._kind = kind
        self._place: Place = place
        self._stride_in: StrideIn = options.stride_in
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for stage in (2, 3, 4, 5):
            self.add_module(f"layer{stage - 1}", self.make_layer(stage, temporal))
        initialise(self)

    def make_layer(self, stage: int, temporal: Temporal | None) -> nn.ModuleList:
        """The blocks of one residual stage, 2 to 5."""
        kind = self._kind
        make: Callable[..., ResidualBlock] = kind
        planes = self.width * 2 ** (stage - 2)
        channels = self.width if stage == 2 else planes // 2 * kind.expansion
        blocks = LAYERS[self.depth][stage - 2]
        layer = nn.ModuleList()
        for index in range(blocks):
            site = BlockSite(stage, index, blocks, channels, kind.mid_channels(planes))
            stride = 2 if stage > 2 and index == 0 else 1
            layer.append(
                make(
                    channels,
                    planes,
                    stride,
                    _downsample(channels, planes * kind.expansion, stride),
                    temporal(site) if temporal else None,
                    self._place,
                    self._stride_in,
                )
            )
            channels = planes * kind.expansion
        return layer

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, 8*width*expansion, H/32, W/32) of clips (B, T, 3, H, W)."""
        x, num_segments = fold_frames(clips)  # (B*T, 3, H, W)
        x = self.stem(x)
        x = self.stages(x, num_segments)
        return unfold_frames(x, num_segments)

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the base, without the convolutions that a temporal part replaces."""
        given = super().trunk_weights(state)
        for name, module in self.named_modules():
            if isinstance(module, Bottleneck) and module.conv2 is None:
                given.pop(f"{name}.conv2.weight", None)
        return given

    def stem(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, width, H/4, W/4)."""
        return self.maxpool(self.relu(self.bn1(self.conv1(frames))))

    def stages(self, x: Tensor, num_segments: int, first: int = 1) -> Tensor:
        """The stages on folded features, from ``layer1`` or a later layer on.

        With ``features="res4+res5"`` the maps of ``layer3``, at the size of the last ones, stand
        before them.
        """
        below = x
        for number in range(first, 5):
            below = x
            for block in getattr(self, f"layer{number}"):
                x = block(x, num_segments)
        if self._joined:
            half = F.avg_pool2d(below, 2, ceil_mode=True, count_include_pad=False)
            x = torch.cat([half, x], dim=1)
        return x


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The projection shortcut, where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return None
    kind, stride = projection(in_channels, stride)
    return kind(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class SampledProjection(nn.Sequential):
    """A projection shortcut on every second row and column; its convolution has no stride."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x[..., ::2, ::2])
        return out


def projection(in_channels: int, stride: int) -> tuple[type[nn.Sequential], int]:
    """The class of a projection shortcut, 2D or 3D, and the stride of its convolution.

    A 1x1 convolution with a stride and fewer than 16 channels is never used. With channels
    innermost oneDNN writes beyond its memory in the backward pass of such a convolution, and the
    process crashes (oneDNN issue 6035, seen with PyTorch 2.13).
    """
    if stride == 2 and in_channels < 16:
        return SampledProjection, 1
    return nn.Sequential, stride


def initialise(network: nn.Module) -> None:
    """Initialise convolutions as He et al., by fan-out, except in temporal parts and the head."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not is_temporal(name):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
