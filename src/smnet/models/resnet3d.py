"""3D baselines: ResNets with convolutions over time, on densely sampled frames.

``i3d``: the inflated ResNet of Carreira and Zisserman (CVPR 2017) in the form of Wang et al.
(Non-local Neural Networks, CVPR 2018) and of PySlowFast's "I3D". ``slow``: the Slow pathway of
SlowFast (Feichtenhofer et al., ICCV 2019), alone.

Names are those of torchvision's 2D network. A 2D weight is inflated: repeated over the k steps of
the kernel and divided by k. On a clip of equal frames the scores are those of the 2D network,
except near the ends of the clip, where the zero padding counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, VideoModel, fold_frames
from .options import TrunkOptions, declared
from .resnet import LAYERS, projection
from .trunks import Trunk


@dataclass(frozen=True)
class Reach:
    """Lengths of the kernels over time, in frames.

    Attributes:
        stem: the first convolution.
        stages: the first convolution of each block in res2 ... res5, repeated through the stage.
            All other convolutions have length 1.
    """

    stem: int
    stages: tuple[tuple[int, ...], ...]


I3D = Reach(5, ((3,), (3, 1), (3, 1), (1, 3)))
SLOW = Reach(1, ((1,), (1,), (3,), (3,)))


class BasicBlock3d(nn.Module):
    """k x 3 x 3 and 1 x 3 x 3 convolutions (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, in_channels: int, planes: int, length: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, planes, length, 3, stride)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = _conv(planes, planes, 1, 3)
        self.bn2 = nn.BatchNorm3d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(in_channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + shortcut)


class Bottleneck3d(nn.Module):
    """k x 1 x 1, 1 x 3 x 3, 1 x 1 x 1 convolutions (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, length: int, stride: int) -> None:
        super().__init__()
        out_channels = planes * self.expansion
        self.conv1 = _conv(in_channels, planes, length, 1)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = _conv(planes, planes, 1, 3, stride)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = _conv(planes, out_channels, 1, 1)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + shortcut)


@declared
class I3DOptions(TrunkOptions):
    """Options of I3D."""

    halve_after_res2: bool = True
    """Maximum over pairs of frames after res2, which leaves T // 2 frames (a single frame stays).
    PySlowFast's I3D has it at any T, its i3d_nopool has not."""
    halve_in_stem: bool = False
    """The first convolution and the maximum after it each take every second frame, which leaves a
    quarter of the frames, as in MMAction2's I3D."""


class ResNet3D(VideoModel):
    """A ResNet over space and time. The strides of its blocks are spatial only.

    The segments of ``spec`` are the frames of a dense clip.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        spec: ModelSpec,
        depth: int,
        options: TrunkOptions,
        reach: Reach,
        halve_after_res2: bool = False,
        halve_in_stem: bool = False,
    ) -> None:
        width = options.width
        kind = BasicBlock3d if depth < 50 else Bottleneck3d
        super().__init__(spec, 8 * width * kind.expansion, options.dropout, options.head)
        self.halve_after_res2 = halve_after_res2
        over_time = 2 if halve_in_stem else 1
        self.conv1 = _conv(3, width, reach.stem, 7, 2, over_time)
        self.bn1 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), stride=(over_time, 2, 2), padding=(0, 1, 1))
        channels = width
        for stage, (blocks, lengths) in enumerate(zip(LAYERS[depth], reach.stages, strict=True)):
            planes = width * 2**stage
            layer = nn.Sequential()
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                layer.append(kind(channels, planes, lengths[index % len(lengths)], stride))
                channels = planes * kind.expansion
            self.add_module(f"layer{stage + 1}", layer)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T', 8*width*expansion, H/32, W/32) of clips (B, T, 3, H, W)."""
        frames, length = fold_frames(clips)
        x = frames.unflatten(0, (-1, length)).transpose(1, 2)  # (B, 3, T, H, W)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer1(x)
        if self.halve_after_res2 and x.shape[2] > 1:
            x = F.max_pool3d(x, (2, 1, 1))
        x = self.layer4(self.layer3(self.layer2(x)))
        return x.transpose(1, 2)  # (B, T', C, h, w)

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the base; 2D weights are inflated, 3D weights are kept."""
        own = dict(self.named_parameters())
        return {
            key: _inflated(value, own[key].shape[2])
            if value.dim() == 4 and key in own and own[key].dim() == 5
            else value
            for key, value in super().trunk_weights(state).items()
        }


def i3d(spec: ModelSpec, trunk: Trunk, options: I3DOptions) -> VideoModel:
    """I3D on a ResNet."""
    halve = (options.halve_after_res2, options.halve_in_stem)
    return ResNet3D(spec, trunk.depth, options, I3D, *halve)


def slow(spec: ModelSpec, trunk: Trunk, options: TrunkOptions) -> VideoModel:
    """The Slow pathway on a ResNet, without stride over time."""
    return ResNet3D(spec, trunk.depth, options, SLOW)


def _inflated(weight: Tensor, length: int) -> Tensor:
    """(O, I, h, w) -> (O, I, length, h, w) with the same sum over time."""
    return weight.unsqueeze(2).repeat(1, 1, length, 1, 1) / length


def _conv(
    in_channels: int,
    out_channels: int,
    length: int,
    side: int,
    stride: int = 1,
    over_time: int = 1,
) -> nn.Conv3d:
    return nn.Conv3d(
        in_channels,
        out_channels,
        (length, side, side),
        stride=(over_time, stride, stride),
        padding=(length // 2, side // 2, side // 2),
        bias=False,
    )


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The projection shortcut, where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return None
    kind, stride = projection(in_channels, stride)
    return kind(_conv(in_channels, out_channels, 1, 1, stride), nn.BatchNorm3d(out_channels))
