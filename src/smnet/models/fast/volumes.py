"""ResNets on clips as volumes, (B, C, T, H, W), for engines that keep channels innermost.

With channels innermost, a volume and the folded frames (B*T, C, H, W) are the same memory, but an
engine that moves the frames of a folded batch copies them. On volumes the temporal convolution is
one depthwise operator, and a gate of frames or channels is a broadcast. OpenVINO runs 1x1x1 and
1x3x3 convolutions of volumes as fast as those of images, in floats; in int8 the depthwise
convolution over time is slower than the copies.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import VideoModel
from ..layers import FrameDifference, TemporalConv, TemporalSum
from ..resnet import BasicBlock, Bottleneck, ResNet, SampledProjection
from ..smnet import MotionExcitation, SMNetModule, SpatialAttention, SpatioTemporalExcitation
from ..tsm import TemporalShift
from .modules import FastMotionExcitation, is_hooked
from .operators import edge_means_in_pytorch


class VolumeConv2d(nn.Conv2d):
    """A convolution of every frame of a volume."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:  # the small maps of a gate
            return super().forward(x)
        pads: Any = self.padding
        stride, dilation = (1, *self.stride), (1, *self.dilation)
        kernel = self.weight[:, :, None]
        return F.conv3d(x, kernel, self.bias, stride, (0, *pads), dilation, self.groups)


class VolumeMaxPool2d(nn.MaxPool2d):
    """A pooling of every frame of a volume."""

    def forward(self, x: Tensor) -> Tensor:
        sizes: list[Any] = [self.kernel_size, self.stride, self.padding]
        size, stride, pad = sizes
        return F.max_pool3d(x, (1, size, size), (1, stride, stride), (0, pad, pad))


class VolumeShift(TemporalShift):
    """TSM's shift along the frames of a volume."""

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        fold = x.shape[1] // self.shift_div
        after, before, rest = x[:, :fold], x[:, fold : 2 * fold], x[:, 2 * fold :]
        zeros = torch.zeros_like(after[:, :, :1])
        after, before = (
            torch.cat([after[:, :, 1:], zeros], dim=2),
            torch.cat([zeros, before[:, :, :-1]], dim=2),
        )
        return torch.cat([after, before, rest], dim=1)


class VolumeSMNetModule(SMNetModule):
    """SMNet's module on a volume."""

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        se: Any = self.se
        me: Any = self.me
        kernel = se.temporal.weight[..., None, None]  # (C, 1, 3, 1, 1)
        z = F.conv3d(x, kernel, padding=(1, 0, 0), groups=x.shape[1])  # S2
        a = se.scale(se.attention(z, num_segments))  # S4, S5
        return z * a + x * me.scale(x, num_segments)


class VolumeMotionExcitation(FastMotionExcitation):
    """Gates (B, C, T, 1, 1) of a volume. The edge means are small, so they are folded again."""

    def gates(self, x: Tensor, num_segments: int) -> Tensor:
        edges = edge_means_in_pytorch(x).transpose(1, 2).flatten(0, 1)  # (B*T, C, 3, 3)
        gates = self._gates(self.norm(self.squeeze(edges)), x, num_segments)
        return gates.unflatten(0, (-1, num_segments)).transpose(1, 2)


class VolumeResNet(ResNet):
    """A ResNet that sees a clip as one volume."""

    def forward_features(self, clips: Tensor) -> Tensor:
        x = self.stem(clips.transpose(1, 2))
        return self.stages(x, clips.shape[1]).transpose(1, 2)


TWINS: dict[type[nn.Module], type[nn.Module]] = {
    ResNet: VolumeResNet,
    nn.Conv2d: VolumeConv2d,
    nn.MaxPool2d: VolumeMaxPool2d,
    SMNetModule: VolumeSMNetModule,
    MotionExcitation: VolumeMotionExcitation,
    TemporalShift: VolumeShift,
}
# Modules without a twin that take a volume, or that the twins do not call.
_AS_THEY_ARE = {
    *(BasicBlock, Bottleneck, SampledProjection),
    *(SpatialAttention, SpatioTemporalExcitation, TemporalConv, TemporalSum, FrameDifference),
    *(nn.Sequential, nn.ModuleList, nn.Identity, nn.ReLU, nn.Dropout, nn.Linear),
}


def takes_volumes(model: VideoModel) -> bool:
    """Whether all modules of a model with folded batch normalisation have a form for volumes.

    The caller asks the modules of SMNet for obstacles. A hook would see volumes.
    """
    parts = {type(module) for module in model.modules()}
    known = parts <= {*TWINS, *_AS_THEY_ARE}
    return known and type(model) is ResNet and not model._joined and not is_hooked(model)
