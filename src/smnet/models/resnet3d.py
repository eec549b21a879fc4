"""The 3D yardsticks: ResNets whose convolutions reach over time, on densely sampled frames.

``i3d``: the inflated ResNet of Carreira and Zisserman (CVPR 2017) in the form of Wang et al.
(Non-local Neural Networks, CVPR 2018) and of PySlowFast's "I3D". ``slow``: the Slow pathway of
SlowFast (Feichtenhofer et al., ICCV 2019), alone.

Names are torchvision's of the 2D network. A 2D weight becomes a 3D one by repeating it over the k
steps of the kernel, divided by k: on a clip of equal frames the network then answers as the 2D one
does, but near the clip's ends, where the zero padding is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, VideoModel, fold_frames
from .resnet import LAYERS
from .trunks import RESNETS


@dataclass(frozen=True)
class Reach:
    """How far the convolutions see over time, in frames: the lengths of their kernels.

    Attributes:
        stem: of the first convolution.
        stages: of the first convolution of the blocks of res2 ... res5, block after block, repeated
            through the stage. All other convolutions have length 1.
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
        out: Tensor = self.relu(y + shortcut)
        return out


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
        out: Tensor = self.relu(y + shortcut)
        return out


class ResNet3D(VideoModel):
    """A ResNet over space and time. The strides of its convolutions are spatial only.

    Args:
        spec: what the model is; its segments are the frames of a dense clip.
        depth: 18, 34, 50 or 101.
        reach: lengths of the kernels over time.
        halve_after_res2: maximum of frames two by two after res2, so that T' = T // 2 frames go
            on (a clip of one frame stays as it is). PySlowFast's I3D has it at any T, 8 included,
            its "i3d_nopool" has not; the Slow pathway has not.
        width: channels of the stem; 64 is the published network.
        dropout: probability before the classifier.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        spec: ModelSpec,
        depth: int,
        reach: Reach,
        halve_after_res2: bool = False,
        width: int = 64,
        dropout: float = 0.5,
    ) -> None:
        if depth not in LAYERS:
            raise ValueError(f"ResNet depth must be one of {sorted(LAYERS)}, not {depth}")
        if width < 8 or width % 8:
            raise ValueError(f"width must be a positive multiple of 8, not {width}")
        kind = BasicBlock3d if depth < 50 else Bottleneck3d
        super().__init__(spec, 8 * width * kind.expansion, dropout)
        self.halve_after_res2 = halve_after_res2
        self.conv1 = _conv(3, width, reach.stem, 7, 2)
        self.bn1 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
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
        if self.halve_after_res2 and length > 1:
            x = F.max_pool3d(x, (2, 1, 1))
        x = self.layer4(self.layer3(self.layer2(x)))
        return x.transpose(1, 2)  # (B, T', C, h, w)

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An image network's tensors inflated to the lengths here; 3D tensors stay as they are."""
        own = dict(self.named_parameters())
        return {
            key: _inflated(value, own[key].shape[2])
            if value.dim() == 4 and key in own and own[key].dim() == 5
            else value
            for key, value in super().trunk_weights(state).items()
        }


def i3d(spec: ModelSpec, trunk: str, halve_after_res2: bool = True, **options: Any) -> VideoModel:
    """I3D on a ResNet; see :class:`ResNet3D`."""
    return ResNet3D(spec, RESNETS[trunk], I3D, halve_after_res2, **options)


def slow(spec: ModelSpec, trunk: str, **options: Any) -> VideoModel:
    """The Slow pathway on a ResNet, no stride over time; see :class:`ResNet3D`."""
    return ResNet3D(spec, RESNETS[trunk], SLOW, **options)


def _inflated(weight: Tensor, length: int) -> Tensor:
    """(O, I, h, w) -> (O, I, length, h, w) with the same sum over time."""
    return weight.unsqueeze(2).repeat(1, 1, length, 1, 1) / length


def _conv(
    in_channels: int, out_channels: int, length: int, side: int, stride: int = 1
) -> nn.Conv3d:
    return nn.Conv3d(
        in_channels,
        out_channels,
        (length, side, side),
        stride=(1, stride, stride),
        padding=(length // 2, side // 2, side // 2),
        bias=False,
    )


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The projection shortcut, where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        _conv(in_channels, out_channels, 1, 1, stride), nn.BatchNorm3d(out_channels)
    )
