"""The options of SMNet: every choice that the article leaves open."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .layers import TemporalInit
from .options import Count, Options, declared
from .resnet import BlockSite, Place

Parts = Literal["se+me", "se", "me"]
Attention = Literal["mean+max", "mean", "max", "3d", "none"]
Order = Literal["temporal_first", "parallel", "attention_first"]
Residual = Literal["z", "x", "none"]
Gate = Literal["sigmoid", "centred"]
MotionInit = Literal["half", "difference"]
Fusion = Literal["sum", "mean", "se_me", "me_se", "concat", "weighted"]


def _as_tuple(stages: object) -> object:
    """A single stage, or a list as in YAML and JSON, as a tuple."""
    if isinstance(stages, int):
        return (stages,)
    return tuple(stages) if isinstance(stages, list) else stages


Stages = Annotated[tuple[Literal[2, 3, 4, 5], ...], BeforeValidator(_as_tuple), Field(min_length=1)]


@declared
class SMNetOptions(Options):
    """The choices that the article leaves open. The defaults are the article as far as known."""

    place: Place = "before_conv1"
    """Where the module stands in the residual branch. instead_of_conv2 replaces the 3x3 convolution
    of bottlenecks."""
    parts: Parts = "se+me"
    """Both paths, or one of them (ablation)."""
    groups: Count | None = None
    """G of the temporal convolution, a divisor of C. null: G = C, channel-wise. Layers with fewer
    than G channels are channel-wise, too."""
    temporal: bool = True
    """false leaves out the temporal convolution, Z = X (ablation)."""
    temporal_space: Literal[1, 3] = 1
    """Spatial side of the temporal kernel: 3x1x1 or 3x3x3."""
    temporal_init: TemporalInit = "difference"
    """Start of the temporal convolution, and thereby of the module. difference: the input plus half
    the difference of its neighbours in time. motion: the difference to the next frame alone in the
    first stage with the module, difference in the others. shift: TSM's partial shift. identity:
    Z = X. benchmarks/results compares them."""
    attention: Attention = "mean+max"
    """Input of the spatial mask: mean and maximum over the channels (CBAM), one of them, or the
    mean under one 3x3x3 convolution (3d, ACTION-Net). none: no mask."""
    attention_kernel: Annotated[int, Field(ge=1, le=31)] = 7
    """Side of the mask's convolution, an odd number."""
    attention_norm: bool = False
    """BatchNorm after the mask's convolution, as in CBAM's code."""
    order: Order = "temporal_first"
    """The mask is computed on Z and applied to Z; computed on X and applied to Z (parallel); or
    applied to X before the temporal convolution (attention_first)."""
    residual: Residual = "z"
    """Added to the masked features: Z, X or nothing."""
    reduction: Count = 16
    """r of the motion path: it works on C/r channels."""
    gate: Gate = "sigmoid"
    """sigmoid: Y_ME = X s(.) + X. centred: Y_ME = X (s(BN(.)) - 1/2) + X, as in TEA."""
    motion_init: MotionInit = "half"
    """Start of the motion path. half: every gate is 1/2. difference: D is F[t+1] - F[t], and the
    gates differ from the first step on, which parts=me needs under gate=sigmoid."""
    motion_input: Literal["x", "z"] = "x"
    """Input of the motion path: X, or Z as in ACTION-Net."""
    difference: Literal["forward", "both"] = "forward"
    """D forward in time, or the average of forward and backward (TDN)."""
    causal: bool = False
    """true: no frame depends on a later one, so the model also runs frame by frame on endless
    streams (`smnet live`)."""
    fusion: Fusion = "sum"
    """Sum or mean of the two paths, the paths in series (se_me, me_se), a 1x1 convolution of both
    (concat), or a learned weight for each (weighted)."""
    stages: Stages = (2, 3, 4, 5)
    """The residual stages that carry the module."""
    blocks: Literal["all", "first", "last"] = "all"
    """The blocks of those stages that carry the module."""
    repeat: Annotated[int, Field(ge=1, le=16)] = 1
    """Modules in series at each place."""

    def __post_init__(self) -> None:
        if self.attention_kernel % 2 == 0:
            raise ValueError(f"attention_kernel must be odd, not {self.attention_kernel}")
        if self.parts != "se+me" and (self.fusion not in ("sum", "mean")):
            raise ValueError(f"fusion={self.fusion} joins two paths; parts={self.parts} has one")
        if self.motion_input == "z" and self.fusion in ("se_me", "me_se"):
            raise ValueError(f"motion_input=z needs parallel paths; fusion={self.fusion} is serial")
        if self.motion_input == "z" and self.parts != "se+me":
            raise ValueError(f"motion_input=z needs both paths; parts={self.parts} has one")
        if self.causal and self.difference != "forward":
            raise ValueError("causal=true has one difference, to the frame before; leave out both")
        if self.residual == "x" and self.order == "attention_first":
            raise ValueError("residual=x needs another order than attention_first; use residual=z")

    @property
    def input_share(self) -> float:
        """Share of X relative to Z in the module's output at its start.

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

    def at(self, stage: int) -> SMNetOptions:
        """The options of the modules in a stage."""
        if self.temporal_init != "motion" or stage == min(self.stages):
            return self
        return replace(self, temporal_init="difference")

    def applies_to(self, site: BlockSite) -> bool:
        """Whether the block at ``site`` has the module."""
        chosen = {"all": site.index, "first": 0, "last": site.blocks - 1}[self.blocks]
        return site.stage in self.stages and site.index == chosen


PAPER = SMNetOptions()
"""The defaults."""
