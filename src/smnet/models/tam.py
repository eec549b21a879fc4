"""TAM: a temporal kernel computed from each video (Liu et al., "TAM", ICCV 2021; TANet).

With X (T, C, H, W) the features of one clip, z (C, T) their spatial means, * convolution and s the
sigmoid:

    local gate     L = s(K_1 * ReLU(BN(K_3 * z)))           over time, C -> C/4 -> C
    global kernel  g[c] = softmax(W_2 ReLU(BN(W_1 z[c])))   T -> 2T -> 3, one kernel a channel
    Y[t, c] = sum_k g[c, k] L[c, t+k-1] X[t+k-1, c]         k = 0, 1, 2; zero outside the clip

W_1 depends on T, so the number of segments is fixed when the model is built. The module stands
after conv1, its normalisation and ReLU.

The causal form has one global kernel for each frame, computed from the last T frames, and

    Y[t, c] = sum_k g[t, c, k] L[c, t+k-2] X[t+k-2, c]      L[c, t] from z[c, t-2] to z[c, t]

with zeros before the first frame. It takes clips of any length.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import CausalSum, Delay, TemporalSum
from .options import Options, declared
from .resnet import BlockSite, PlaceBesideConv
from .trunks import Trunk


class TemporalAdaptive(nn.Module):
    """The module. (B*T, C, H, W) -> the same.

    The branches are named G and L as in the article and in all published weights.
    """

    def __init__(self, channels: int, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        squeezed = max(channels // 4, 1)
        self.G = nn.Sequential(
            nn.Linear(num_segments, 2 * num_segments, bias=False),
            nn.BatchNorm1d(2 * num_segments),
            nn.ReLU(inplace=True),
            nn.Linear(2 * num_segments, 3, bias=False),
            nn.Softmax(dim=-1),
        )
        self.L = nn.Sequential(
            nn.Conv1d(channels, squeezed, 3, padding=1, bias=False),
            nn.BatchNorm1d(squeezed),
            nn.ReLU(inplace=True),
            nn.Conv1d(squeezed, channels, 1, bias=False),
            nn.Sigmoid(),
        )
        self.sum: nn.Module = TemporalSum()

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        if num_segments != self.num_segments:
            raise ValueError(
                f"this TAM was built for {self.num_segments} segments and got clips of"
                f" {num_segments}; sample {self.num_segments} segments, or build the model with"
                f" num_segments={num_segments}"
            )
        z = x.mean((2, 3)).unflatten(0, (-1, num_segments)).transpose(1, 2)  # (B, C, T)
        kernel = self.G(z.flatten(0, 1)).unflatten(0, z.shape[:2])  # (B, C, 3)
        taps = self.L(z)[..., None] * kernel[:, :, None]  # (B, C, T, 3)
        taps = taps.transpose(1, 2).flatten(0, 1)  # (B*T, C, 3), by source frame
        return self.sum(x, taps, num_segments)


class CausalAdaptive(TemporalAdaptive):
    """The causal module. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, num_segments: int) -> None:
        super().__init__(channels, num_segments)
        self.sum = CausalSum()
        self.delays = nn.ModuleList([Delay() for _ in range(max(num_segments - 1, 2))])

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        means = [x.mean((2, 3), keepdim=True)]
        for delay in self.delays:
            means.insert(0, delay(means[0], num_segments))
        z = torch.cat(means, dim=3).squeeze(2)  # (B*T, C, the last frames)
        window = z[..., -self.num_segments :]
        kernel = self.G(window.flatten(0, 1)).unflatten(0, z.shape[:2])  # (B*T, C, 3)
        convolution, *others = self.L
        weight: Any = convolution.weight
        local = F.conv1d(z[..., -3:], weight)  # (B*T, C/4, 1)
        for layer in others:
            local = layer(local)
        out: Tensor = self.sum(x * local[..., None], kernel, num_segments)
        return out


@declared
class TAMOptions(Options):
    """Options of TAM."""

    place: PlaceBesideConv = "after_conv1"
    """Where the module stands in the residual branch."""
    causal: bool = False
    """true: no frame depends on a later one, so the model also runs frame by frame on endless
    streams (`smnet live`)."""


def tam(spec: ModelSpec, trunk: Trunk, options: TAMOptions) -> VideoModel:
    """TAM on any trunk, for clips of ``spec.num_segments``."""

    def temporal(site: BlockSite) -> nn.Module:
        kind = CausalAdaptive if options.causal else TemporalAdaptive
        return kind(site.channels(options.place), spec.num_segments)

    return trunk.build(spec, temporal, options.place)
