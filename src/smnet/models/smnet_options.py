"""The options of SMNet: every choice that the article leaves open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args, get_origin, get_type_hints

from .layers import TemporalInit
from .resnet import BlockSite

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
