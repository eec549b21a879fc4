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
keyword of :class:`SMNetOptions`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from . import fused
from .answer import answer
from .base import ModelSpec, VideoModel
from .excitation import MotionGate, excited_sum, mean_and_max, to_one_channel
from .layers import TemporalConv, TemporalInit
from .passes import passes_over
from .resnet import BlockSite, Place
from .trunks import build_trunk

Parts = Literal["se+me", "se", "me"]
Attention = Literal["mean+max", "mean", "max", "3d", "none"]
Order = Literal["temporal_first", "parallel", "attention_first"]
Residual = Literal["z", "x", "none"]
Gate = Literal["sigmoid", "centred"]
MotionInit = Literal["half", "difference"]
Fusion = Literal["sum", "mean", "se_me", "me_se", "concat", "weighted"]


@dataclass(frozen=True)
class SMNetOptions:
    """The choices that the article leaves open.

    Attributes:
        parts: both paths, or one of them (ablation).
        groups: G of the temporal convolution; None is G = C, channel-wise. So is a layer of fewer
            than G channels (printing the model shows the G of each); otherwise G must divide C.
        temporal: False leaves the temporal convolution out, Z = X (ablation).
        temporal_space: spatial side of the temporal kernel: 1 (3x1x1) or 3 (3x3x3).
        temporal_init: start of the temporal convolution, so that the module as a whole starts as
            what is named (see :class:`~smnet.models.layers.TemporalConv`): ``"difference"``, the
            input and half the difference of its neighbours in time, which finds motion sooner
            from all seeds; ``"motion"``, in the first stage that carries the module the difference
            to the next frame alone, beside the shortcut, which hands on the frames, and in the
            others ``"difference"``: before backgrounds that say nothing far better from some seeds
            and no better from others, a little worse where there are none; ``"shift"``, TSM's
            partial shift, as ACTION-Net's code (where X is added beside Z, the shifted channels of
            Z start at 2 X[t+1] - X[t], else the sum would blur them); or ``"identity"``, Z = X.
            Measured in benchmarks/results.
        attention: what the spatial mask sees of the channels: mean and max (CBAM), one of them,
            ``"3d"`` (their mean, under one 3x3x3 convolution: ACTION-Net), or no mask.
        attention_kernel: side of the mask's convolution, odd.
        attention_norm: BatchNorm after that convolution (as CBAM's code has).
        order: the mask is computed on Z and applied to it; computed on X in parallel; or applied
            to X before the temporal convolution.
        residual: what is added to the masked features: Z, X or nothing.
        reduction: r of the motion path.
        gate: ``"sigmoid"``: Y_ME = X s(.) + X; ``"centred"``: X (s(BN(.)) - 1/2) + X, as TEA.
        motion_init: start of the motion path. ``"half"``: every gate at 1/2, the trunk as trained.
            ``"difference"``: D is F[t+1] - F[t], large enough that the gates differ from the first
            step on. By itself, under ``gate="sigmoid"``, the path finds motion only so; beside SE
            it makes no difference that was measured (benchmarks/results).
        motion_input: the motion path sees X, or Z as in ACTION-Net.
        difference: D forward in time, or forward and backward averaged (TDN).
        fusion: sum or mean of the two paths, SE then ME or ME then SE in series, a 1x1 convolution
            of both (``"concat"``), or a learned weight for each (``"weighted"``).
        stages: the residual stages, of 2 to 5, that carry the module.
        blocks: the blocks of those stages that carry it.
        repeat: how many modules stand in a row at each place.
    """

    parts: Parts = "se+me"
    groups: int | None = None
    temporal: bool = True
    temporal_space: int = 1
    temporal_init: TemporalInit = "difference"
    attention: Attention = "mean+max"
    attention_kernel: int = 7
    attention_norm: bool = False
    order: Order = "temporal_first"
    residual: Residual = "z"
    reduction: int = 16
    gate: Gate = "sigmoid"
    motion_init: MotionInit = "half"
    motion_input: Literal["x", "z"] = "x"
    difference: Literal["forward", "both"] = "forward"
    fusion: Fusion = "sum"
    stages: tuple[int, ...] = (2, 3, 4, 5)
    blocks: Literal["all", "first", "last"] = "all"
    repeat: int = 1

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                allowed = ", ".join(map(str, get_args(hint)))
                raise ValueError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}")
        if self.attention_kernel < 1 or self.attention_kernel % 2 == 0:
            raise ValueError(f"attention_kernel must be odd, not {self.attention_kernel}")
        if self.repeat < 1:
            raise ValueError(f"repeat must be at least 1, not {self.repeat}")
        if self.reduction < 1:
            raise ValueError(f"reduction must be at least 1, not {self.reduction}")
        if self.groups is not None and self.groups < 1:
            raise ValueError(f"groups must be at least 1, or None, not {self.groups}")
        if not self.stages or not set(self.stages) <= {2, 3, 4, 5}:
            raise ValueError(f"stages are numbered 2 to 5, got {tuple(self.stages)}")
        if self.parts != "se+me" and (self.fusion not in ("sum", "mean")):
            raise ValueError(f"fusion={self.fusion} joins two paths; parts={self.parts} has one")
        if self.motion_input == "z" and self.fusion in ("se_me", "me_se"):
            raise ValueError("motion_input=z has no meaning when the paths stand in series")
        if self.motion_input == "z" and self.parts != "se+me":
            raise ValueError(f"motion_input=z needs both paths; parts={self.parts} has one")
        if self.residual == "x" and self.order == "attention_first":
            raise ValueError("residual=x has no meaning with order=attention_first; see residual=z")

    @property
    def beside(self) -> float:
        """How much of X the module adds to Z at its start, of what it takes of Z.

        Every mask and gate starts at 1/2 (``attention="3d"`` near it).
        """
        masked = self.attention != "none"
        of_z = {"z": 1.5, "x": 0.5, "none": 0.5}[self.residual] if masked else 1.0
        of_x = 1.0 if masked and self.residual == "x" else 0.0
        both = self.parts == "se+me" and self.fusion in ("sum", "mean", "weighted")
        if both and self.motion_input == "x":
            of_x += 1.0 if self.gate == "centred" else 1.5
        elif both:
            of_z += 1.0 if self.gate == "centred" else 1.5
        return of_x / of_z

    @property
    def fusable(self) -> bool:
        """Whether :mod:`smnet.models.fused` knows this form of the module."""
        open_to_it = SMNetOptions(
            reduction=self.reduction,
            attention_kernel=self.attention_kernel,
            attention_norm=self.attention_norm,
            temporal_init=self.temporal_init,
            gate=self.gate,
            motion_init=self.motion_init,
            difference=self.difference,
            stages=self.stages,
            blocks=self.blocks,
        )
        return self == open_to_it

    def at(self, stage: int) -> SMNetOptions:
        """The options of a module in ``stage``."""
        if self.temporal_init != "motion" or stage == min(self.stages):
            return self
        return replace(self, temporal_init="difference")

    def carries(self, site: BlockSite) -> bool:
        """Whether the block at ``site`` carries the module."""
        chosen = {"all": site.index, "first": 0, "last": site.blocks - 1}[self.blocks]
        return site.stage in self.stages and site.index == chosen


PAPER = SMNetOptions()
"""The defaults: the article as far as it is known."""


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
                beside=options.beside,
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


def smnet(spec: ModelSpec, trunk: str, place: Place = "before_conv1", **options: Any) -> VideoModel:
    """SMNet on any trunk; keywords of :class:`SMNetOptions` are taken, the rest go to the trunk."""
    names = {f.name for f in fields(SMNetOptions)}
    chosen = {k: options.pop(k) for k in list(options) if k in names}
    if "stages" in chosen:
        stages = chosen["stages"]
        chosen["stages"] = (stages,) if isinstance(stages, int) else tuple(stages)
    module = SMNetOptions(**chosen)

    def temporal(site: BlockSite) -> nn.Module | None:
        if not module.carries(site):
            return None
        here = module.at(site.stage)
        row = [SMNetModule(site.channels(place), here) for _ in range(module.repeat)]
        return row[0] if len(row) == 1 else InARow(row)

    return build_trunk(spec, trunk, temporal, place, **options)
