"""SMNet: spatio-temporal excitation (SE) and motion excitation (ME) in the blocks of a 2D ResNet.

Yang, Lu and Zhou, "A Spatio-Temporal Motion Network for Action Recognition Based on Spatial
Attention", Entropy 2022, 24(3), 368, doi 10.3390/e24030368.

X (B*T, C, H, W) are the features of T frames per clip, * is convolution, s the sigmoid and r the
reduction:

    SE   S1   view X as sequences over time, one per clip and pixel
         S2   Z = K_t * X                           group convolution over time, kernel 3
         S3   view Z as frames again
         S4   P = [mean_c Z, max_c Z]               pooled over the channels
         S5   M_s = s(K_7x7 * P)                    one spatial mask per frame
         S6   Y_SE = Z M_s + Z
    ME   M1   F = BN(K_r * X)                       1x1, C -> C/r
         M2   G = K_3x3 * F                         channel-wise
         M3   D[t] = G[t+1] - F[t], D[T-1] = 0      difference of adjacent frames
         M4   d = GAP(D)                            mean over the pixels
         M5   M_m = s(K_e * d)                      1x1, C/r -> C: one gate per channel
         M6   Y_ME = X M_m + X
    Y = Y_SE + Y_ME

The comments in the code count these steps. What the article leaves open is an option of
:class:`~smnet.models.smnet_options.SMNetOptions`. One of them, causal, looks at no later frame:
K_t has its taps at t-2, t-1 and t, and M3 is D[t] = G[t] - F[t-1], D[0] = 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import ModelSpec, VideoModel
from .layers import Difference, FrameDifference, TemporalConv
from .resnet import BlockSite
from .smnet_options import PAPER, SMNetOptions
from .trunks import Trunk


class SpatialAttention(nn.Module):
    """S4 and S5: the spatial mask (CBAM's, Woo et al., ECCV 2018).

    Its input is the mean over the channels, their maximum, both, or (``"3d"``) their mean under a
    3x3x3 convolution. (B*T, C, H, W) -> mask (B*T, 1, H, W) in (0, 1).
    """

    def __init__(self, options: SMNetOptions = PAPER) -> None:
        super().__init__()
        self.pool, kernel = options.attention, options.attention_kernel
        if self.pool == "3d":
            causal = options.causal
            self.conv: nn.Module = TemporalConv(1, space=3, init="identity", causal=causal)
        else:
            planes = 2 if self.pool == "mean+max" else 1
            self.conv = nn.Conv2d(planes, 1, kernel, padding=kernel // 2, bias=False)
            nn.init.zeros_(self.conv.weight)  # M_s = 1/2 everywhere: the trunk starts as trained
        self.norm = nn.BatchNorm2d(1) if options.attention_norm else nn.Identity()

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return self.mask(self.pooled(x), num_segments)

    def pooled(self, x: Tensor) -> Tensor:
        """S4: P, (B*T, 1 or 2, H, W)."""
        if self.pool == "mean+max":
            return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x.amax(1, keepdim=True) if self.pool == "max" else x.mean(1, keepdim=True)

    def mask(self, pooled: Tensor, num_segments: int) -> Tensor:
        """S5: M_s of P."""
        scores = self.conv(pooled, num_segments) if self.pool == "3d" else self.conv(pooled)
        return torch.sigmoid(self.norm(scores))


class SpatioTemporalExcitation(nn.Module):
    """SE: group convolution over time, then spatial attention. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, options: SMNetOptions = PAPER) -> None:
        super().__init__()
        self.order = options.order
        self.residual = options.residual
        self.temporal = (
            TemporalConv(
                channels,
                min(options.groups or channels, channels),
                options.temporal_space,
                options.temporal_init,
                input_share=options.input_share,
                causal=options.causal,
            )
            if options.temporal
            else None
        )
        self.attention = SpatialAttention(options) if options.attention != "none" else None

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return self.excite(x, self.over_time(x, num_segments), num_segments)

    def over_time(self, x: Tensor, num_segments: int) -> Tensor:
        """S1 to S3: Z of X. With ``order="attention_first"`` X is masked before."""
        if self.order == "attention_first" and self.attention is not None:
            x = x * self.scale(self.attention(x, num_segments))
        return self.temporal(x, num_segments) if self.temporal is not None else x

    def excite(self, x: Tensor, z: Tensor, num_segments: int) -> Tensor:
        """S4 to S6: Y_SE of X and Z."""
        if self.attention is None or self.order == "attention_first":
            return z
        mask = self.attention(x if self.order == "parallel" else z, num_segments)  # S4, S5
        y = z * self.scale(mask)  # S6
        return y + x if self.residual == "x" else y

    def scale(self, mask: Tensor) -> Tensor:
        """1 + M_s, as Z M_s + Z = Z (1 + M_s); M_s without that residual."""
        return mask + 1 if self.residual == "z" else mask


class MotionExcitation(nn.Module):
    """ME: channel gates from the difference of adjacent frames. (B*T, C, H, W) -> the same.

    Li et al., "TEA", CVPR 2020, section 3.1, with the centred gate; ACTION-Net (Wang et al., CVPR
    2021) and SMNet take the plain sigmoid. The convolutions start as PyTorch starts them.

    Args:
        channels: C.
        reduction: r.
        centred: Y_ME = X (s(BN(K_e * d)) - 1/2) + X, instead of X s(K_e * d) + X.
        difference: D of M3, see :class:`~smnet.models.layers.FrameDifference`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        centred: bool = False,
        difference: Difference = "forward",
    ) -> None:
        super().__init__()
        squeezed = max(channels // reduction, 1)
        self.difference = FrameDifference(difference)
        self.residual = 0.5 if centred else 1.0
        self.squeeze = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.norm = nn.BatchNorm2d(squeezed)
        self.transform = nn.Conv2d(squeezed, squeezed, 3, padding=1, groups=squeezed, bias=False)
        self.expand = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels) if centred else nn.Identity()

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return x * self.scale(x, num_segments)  # M6

    def scale(self, x: Tensor, num_segments: int) -> Tensor:
        """1 + M_m (B*T, C, 1, 1), as X M_m + X = X (1 + M_m); 1/2 + M_m for the centred gate."""
        return self.gates(x, num_segments) + self.residual

    def gates(self, x: Tensor, num_segments: int) -> Tensor:
        """M1 to M5: M_m of X, (B*T, C, 1, 1) in (0, 1)."""
        f = self.norm(self.squeeze(x))  # M1
        g = self.transform(f)  # M2
        d = self.difference(g, f, num_segments)  # M3
        d = d.mean((2, 3), keepdim=True)  # M4
        return torch.sigmoid(self.expand_norm(self.expand(d)))  # M5

    @torch.no_grad()
    def start_at_half(self) -> None:
        """Start with every gate at 1/2: the trunk starts as trained."""
        nn.init.zeros_(self.expand.weight)

    @torch.no_grad()
    def start_with_difference(self) -> None:
        """Start with D[t] = F[t+1] - F[t], large enough that the gates differ."""
        nn.init.dirac_(self.transform.weight, groups=len(self.transform.weight))
        # d is the mean over a frame of values normalised pixel by pixel: a tenth to a half.
        nn.init.constant_(self.norm.weight, 8.0)


class SMNetModule(nn.Module):
    """SE and ME on the same features, and their fusion. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, options: SMNetOptions = PAPER) -> None:
        super().__init__()
        self.options = options
        self.se = SpatioTemporalExcitation(channels, options) if "se" in options.parts else None
        self.me = None
        if "me" in options.parts:
            centred = options.gate == "centred"
            difference: Difference = "causal" if options.causal else options.difference
            self.me = MotionExcitation(channels, options.reduction, centred, difference)
            if options.motion_init == "half":
                self.me.start_at_half()
            else:
                self.me.start_with_difference()
        if options.fusion == "concat":
            self.join = nn.Conv2d(2 * channels, channels, 1, bias=False)
        elif options.fusion == "weighted":
            self.balance = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        if self.se is None or self.me is None:
            path: Any = self.se if self.me is None else self.me
            return path(x, num_segments)
        if self.options.fusion == "se_me":
            return self.me(self.se(x, num_segments), num_segments)
        if self.options.fusion == "me_se":
            return self.se(self.me(x, num_segments), num_segments)
        z = self.se.over_time(x, num_segments)  # S1 to S3
        y_se = self.se.excite(x, z, num_segments)  # S4 to S6
        y_me = self.me(z if self.options.motion_input == "z" else x, num_segments)  # M1 to M6
        return self.fuse(y_se, y_me)

    def fuse(self, y_se: Tensor, y_me: Tensor) -> Tensor:
        """Y of Y_SE and Y_ME."""
        match self.options.fusion:
            case "mean":
                return (y_se + y_me) / 2
            case "weighted":
                return self.balance[0] * y_se + self.balance[1] * y_me
            case "concat":
                return self.join(torch.cat([y_se, y_me], dim=1))
        return y_se + y_me


class Series(nn.ModuleList):
    """Modules one after the other. (B*T, C, H, W) -> the same."""

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        for module in self:
            x = module(x, num_segments)
        return x


def smnet(spec: ModelSpec, trunk: Trunk, options: SMNetOptions) -> VideoModel:
    """SMNet on any trunk."""

    def temporal(site: BlockSite) -> nn.Module | None:
        if not options.applies_to(site):
            return None
        here = options.at(site.stage)
        row = [SMNetModule(site.channels(options.place), here) for _ in range(options.repeat)]
        return row[0] if len(row) == 1 else Series(row)

    return trunk.build(spec, temporal, options.place)
