"""SMNet: spatio-temporal excitation (SE) and motion excitation (ME) in the blocks of a 2D ResNet.

Yang, Lu and Zhou, "A Spatio-Temporal Motion Network for Action Recognition Based on Spatial
Attention", Entropy 2022, 24(3), 368, doi 10.3390/e24030368.

With X (B*T, C, H, W) the features of the frames, * convolution, s the sigmoid:

    SE   Z = K_t * X                        group convolution over time, kernel 3
         M_s = s(K_7x7 * [mean_c Z, max_c Z])       one spatial mask a frame
         Y_SE = Z M_s + Z
    ME   F = BN(K_r * X)                    1x1, C -> C/r
         D[t] = (K_3x3 * F)[t+1] - F[t]     channel-wise 3x3; D[T-1] = 0
         M_m = s(K_e * GAP(D))              1x1, C/r -> C: one gate a channel
         Y_ME = X M_m + X
    Y = Y_SE + Y_ME

The letters S1..S6 and M1..M6 in the comments count these steps. What the article leaves open is a
keyword of :class:`~smnet.models.smnet_options.SMNetOptions`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import fused
from .answer import answer
from .base import ModelSpec, VideoModel
from .excitation import MotionGate, excited_sum, mean_and_max, to_one_channel
from .layers import TemporalConv
from .passes import passes_over
from .resnet import BlockSite
from .smnet_options import PAPER, Attention, SMNetOptions
from .trunks import Trunk


class SpatialAttention(nn.Module):
    """S4, S5: the spatial mask M_s (CBAM's, Woo et al., ECCV 2018).

    Shape:
        x (B*T, C, H, W) -> mask (B*T, 1, H, W) in (0, 1).
    """

    def __init__(self, pool: Attention = "mean+max", kernel: int = 7, norm: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.by_frames = True  # see to_one_channel; engines.py may want it otherwise
        if pool == "3d":
            self.conv: Any = TemporalConv(1, space=3, init="identity")
        else:
            planes = 2 if pool == "mean+max" else 1
            self.conv = nn.Conv2d(planes, 1, kernel, padding=kernel // 2, bias=False)
            nn.init.zeros_(self.conv.weight)  # M_s = 1/2 everywhere: the trunk starts as trained
        self.norm = nn.BatchNorm2d(1) if norm else nn.Identity()

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return self.mask(self._over_channels(x), num_segments)  # S4: (B*T, 1|2, H, W)

    def mask(self, pooled: Tensor, num_segments: int) -> Tensor:
        """S5: M_s of the mean and/or the maximum over the channels."""
        if self.pool == "3d":
            seen = self.conv(pooled, num_segments)
        elif self.by_frames:
            seen = to_one_channel(self.conv, pooled, num_segments)
        else:
            seen = self.conv(pooled)
        return torch.sigmoid(self.norm(seen))

    def _over_channels(self, x: Tensor) -> Tensor:
        if self.pool == "mean+max":
            return mean_and_max(x)
        return x.amax(1, keepdim=True) if self.pool == "max" else x.mean(1, keepdim=True)


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
                beside=options.input_share,
            )
            if options.temporal
            else None
        )
        self.attention = (
            SpatialAttention(options.attention, options.attention_kernel, options.attention_norm)
            if options.attention != "none"
            else None
        )

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return self.apply_mask(x, *self.excitation(x, num_segments))

    def apply_mask(self, x: Tensor, z: Tensor, scale: Tensor | None) -> Tensor:
        """S6: the masked features and their residual."""
        if scale is None:
            return z
        return torch.addcmul(x, z, scale) if self.residual == "x" else z * scale

    def excitation(self, x: Tensor, num_segments: int) -> tuple[Tensor, Tensor | None]:
        """Z and what multiplies it, see :meth:`scale`; None without a mask."""
        if self.order == "attention_first" and self.attention is not None:
            x = x * self.scale(self.attention(x, num_segments))
        z = self.temporal(x, num_segments) if self.temporal is not None else x  # S1..S3
        if self.attention is None or self.order == "attention_first":
            return z, None
        seen = x if self.order == "parallel" else z
        return z, self.scale(self.attention(seen, num_segments))  # S4..S6

    def scale(self, mask: Tensor) -> Tensor:
        """What multiplies Z: 1 + M_s under the default residual, else M_s."""
        return mask + 1 if self.residual == "z" else mask


class MotionExcitation(MotionGate):
    """ME: channel gates from the difference of adjacent frames. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, options: SMNetOptions = PAPER) -> None:
        centred = options.gate == "centred"
        super().__init__(channels, options.reduction, centred, options.difference == "both")
        self.residual = 0.5 if centred else 1.0
        if options.motion_init == "half":
            nn.init.zeros_(self.expand.weight)  # as the mask does
        else:
            nn.init.dirac_(self.transform.weight, groups=len(self.transform.weight))
            # The mean over a frame of what is normalised pixel by pixel: a tenth to a half.
            nn.init.constant_(self.norm.weight, 8.0)

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return x * self.excitation(x, num_segments)

    def excitation(self, x: Tensor, num_segments: int) -> Tensor:
        """What multiplies the features: 1 + M_m, (B*T, C, 1, 1)."""
        return self.gates(x, num_segments) + self.residual  # M1..M5; M6, the residual folded in


class SMNetModule(nn.Module):
    """SE and ME on the same features, and their fusion. (B*T, C, H, W) -> the same."""

    def __init__(self, channels: int, options: SMNetOptions = PAPER) -> None:
        super().__init__()
        self.options = options
        self.se = SpatioTemporalExcitation(channels, options) if "se" in options.parts else None
        self.me = MotionExcitation(channels, options) if "me" in options.parts else None
        self.fusable = options.fusable  # asked once: compilers would trace how it is found out
        if options.fusion == "concat":
            self.join = nn.Conv2d(2 * channels, channels, 1, bias=False)
        elif options.fusion == "weighted":
            self.balance = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        if self.fusable and fused.runs_in_passes(self, x):
            return self._without_gradients(x, num_segments)
        if self.se is None or self.me is None:
            path = self.se if self.se is not None else self.me
            out: Tensor = path(x, num_segments)  # type: ignore[misc]
            return out
        match self.options.fusion:
            case "se_me":
                return self.me(self.se(x, num_segments), num_segments)
            case "me_se":
                return self.se(self.me(x, num_segments), num_segments)
        z, scale = self.se.excitation(x, num_segments)
        seen = z if self.options.motion_input == "z" else x
        gate = self.me.excitation(seen, num_segments)
        if self.options.fusion == "sum" and scale is not None and self.se.residual != "x":
            return excited_sum(z, scale, seen, gate)
        y_se = self.se.apply_mask(x, z, scale)
        match self.options.fusion:
            case "sum":
                return torch.addcmul(y_se, seen, gate)
            case "mean":
                return torch.addcmul(y_se, seen, gate) / 2
            case "weighted":
                return self.balance[0] * y_se + self.balance[1] * (seen * gate)
        joined: Tensor = self.join(torch.cat([y_se, seen * gate], dim=1))
        return joined

    def _without_gradients(self, x: Tensor, num_segments: int) -> Tensor:
        """The same in the fewest passes over the features."""
        if self._is_as_made() and (answered := answer(self, x, num_segments)) is not None:
            return answered
        se: Any = self.se  # such a module has all its parts
        me: Any = self.me
        passes = passes_over(x, se.temporal.weight[:, 0], num_segments)
        scale = se.scale(se.attention.mask(passes.seen(), num_segments))
        return passes.excited(scale, me.excitation(x, num_segments), last=True)

    def _is_as_made(self) -> bool:
        """Whether nobody has put parts of other classes, or parametrised ones, into it, or asked
        its parts for something else."""
        se, me = self._modules["se"], self._modules["me"]
        if type(se) is not SpatioTemporalExcitation or type(me) is not MotionExcitation:
            return False
        if (se.residual, se.order) != ("z", "temporal_first"):
            return False
        attention, temporal = se._modules["attention"], se._modules["temporal"]
        if type(attention) is not SpatialAttention or type(temporal) is not TemporalConv:
            return False
        return attention.pool == "mean+max"

    def before(self, conv: nn.Module, x: Tensor, num_segments: int) -> Tensor:
        """``conv(self(x))``; in training by :mod:`smnet.models.fused`, which needs less memory."""
        if not (self.fusable and fused.applies(self, conv, x)):
            out: Tensor = conv(self(x, num_segments))
            return out
        se: Any = self.se  # such a module has all its parts
        me: Any = self.me
        of_gate = (p for n, p in me.named_parameters() if not n.startswith("squeeze."))
        excitation = fused.Excitation(
            taps=se.temporal.weight,
            squeeze=me.squeeze.weight,
            mask=lambda pooled: se.scale(se.attention.mask(pooled, num_segments)),
            gate=lambda squeezed: me.gates_of(squeezed, num_segments) + me.residual,
            parameters=(*se.attention.parameters(), *of_gate),
        )
        return fused.excite_and_convolve(x, excitation, conv, num_segments)


class InARow(nn.ModuleList):
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
        return row[0] if len(row) == 1 else InARow(row)

    return trunk.build(spec, temporal, options.place)
