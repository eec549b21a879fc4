"""Swaps the modules of a plain model for faster twins."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from ..base import VideoModel
from ..layers import CausalSum, TemporalSum
from ..smnet import MotionExcitation, SMNetModule, SpatialAttention
from ..tsm import TemporalShift
from . import switch, volumes
from .engines import MaskedSum, PlanarRowsSum, RowsSum, ShiftedSum
from .folding import fold_norms
from .modules import (
    FastCausalSum,
    FastMotionExcitation,
    FastSMNetModule,
    FastSpatialAttention,
    FastTemporalShift,
    FastTemporalSum,
    PooledMotionExcitation,
    is_hooked,
)
from .packed import PackedConv2d

Purpose = Literal["training", "inference", "export", "onnx", "onnxruntime", "openvino", "volumes"]

Twins = dict[type[nn.Module], type[nn.Module]]

_IN_PYTORCH: Twins = {
    SMNetModule: FastSMNetModule,
    MotionExcitation: FastMotionExcitation,
    SpatialAttention: FastSpatialAttention,
    TemporalSum: FastTemporalSum,
    CausalSum: FastCausalSum,
    TemporalShift: FastTemporalShift,
}
# Engines run the operators of the modules that they get.
_EXPORTED: Twins = {
    MotionExcitation: FastMotionExcitation,
    SpatialAttention: FastSpatialAttention,
    TemporalSum: MaskedSum,
}
TWINS: dict[str, Twins] = {
    "training": _IN_PYTORCH,
    "inference": {**_IN_PYTORCH, nn.Conv2d: PackedConv2d},
    "export": _EXPORTED,
    "onnx": {
        **_EXPORTED,
        MotionExcitation: PooledMotionExcitation,
        TemporalSum: PlanarRowsSum,
    },
    "onnxruntime": {**_EXPORTED, TemporalSum: RowsSum},
    # OpenVINO pays for the reshaping that puts frames in the place of channels.
    "openvino": {MotionExcitation: FastMotionExcitation, TemporalSum: ShiftedSum},
    "volumes": volumes.TWINS,
}
_PLAIN = {twin: plain for twins in TWINS.values() for plain, twin in twins.items()}


def accelerate(model: VideoModel, purpose: Purpose) -> VideoModel:
    """Make a model faster for a purpose, with the same results.

    Modules get another class, a twin with the same parameters and the same names in the state
    dict. So optimizers, copies and checkpoints work as before. A module is left plain if its twin
    would skip a hook or has no kernels for an option, see ``report``. If a hook is registered
    later, its module runs plain until the hook is removed.

    Args:
        model: a model of any family.
        purpose: ``"training"`` changes ``model`` itself. The others change a copy in evaluation
            mode, with batch normalisation folded: ``"inference"`` in PyTorch, ``"export"`` as a
            program of PyTorch, ``"onnx"`` as an ONNX file, ``"onnxruntime"`` as one in int8,
            ``"openvino"`` as one for that engine, ``"volumes"`` as one for it in floats, which is
            that of ``"openvino"`` if the model has no form for volumes.

    Returns:
        ``model`` itself for training, else the copy. With ``set_fast``
        switched off, the model or its copy without any change.

    Raises:
        ValueError: unknown purpose.
    """
    if purpose not in get_args(Purpose):
        raise ValueError(f"purpose must be one of {', '.join(get_args(Purpose))}, not {purpose!r}")
    if purpose != "training":
        model = _plain_copy(model)
    if switch.enabled():
        if purpose != "training":
            fold_norms(model)
        if purpose == "volumes" and not _takes_volumes(model):
            purpose = "openvino"
        twins = TWINS[purpose]
        for module in model.modules():
            if type(module) in twins and obstacle(module) is None:
                module.__class__ = twins[type(module)]
    return model


def _plain_copy(model: VideoModel) -> VideoModel:
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))
    return model


def _takes_volumes(model: VideoModel) -> bool:
    """Whether every module can be swapped. A mixture of forms would not run."""
    causal = model.spec.options.get("causal")
    return not causal and volumes.takes_volumes(model) and not any(map(obstacle, model.modules()))


def obstacle(module: nn.Module) -> str | None:
    """Why a twin cannot take the place of a plain module; None if it can."""
    if is_hooked(module):
        return "it has hooks"
    return _unknown_option(module) if isinstance(module, SMNetModule) else None


_KNOWN_OPTIONS = {
    "parts": "se+me",
    "temporal": True,
    "attention": "mean+max",
    "order": "temporal_first",
    "residual": "z",
    "motion_input": "x",
    "fusion": "sum",
}


def _unknown_option(module: SMNetModule) -> str | None:
    """The options of SMNet for which there are no kernels."""
    unknown = [
        f"{name}={getattr(module.options, name)}"
        for name, known in _KNOWN_OPTIONS.items()
        if getattr(module.options, name) != known
    ]
    se: Any = module.se
    if not unknown and not se.temporal.channelwise:
        unknown = ["groups or temporal_space"]
    return f"no kernels for {', '.join(unknown)}" if unknown else None


@dataclass(frozen=True)
class Swap:
    """The modules of one plain class in a model: how many, whether swapped, and why not."""

    module: str
    count: int
    fast: bool
    why: str = ""

    def __str__(self) -> str:
        state = "fast" if self.fast else f"plain: {self.why}"
        return f"{self.count} x {self.module}: {state}"


def report(model: nn.Module) -> list[Swap]:
    """What ``accelerate`` has swapped in a model, what it left plain, and why."""
    kinds: Counter[tuple[str, bool, str]] = Counter()
    for module in model.modules():
        kind: Any = type(module)
        if kind in _PLAIN:
            hooked = is_hooked(module)
            off = not switch.enabled()
            why = "switched off" if off else "a hook was registered" if hooked else ""
            kinds[_PLAIN[kind].__name__, not why, why] += 1
        elif kind in _IN_PYTORCH:
            why = obstacle(module) or ("not accelerated" if switch.enabled() else "switched off")
            kinds[kind.__name__, False, why] += 1
    return [Swap(module, count, fast, why) for (module, fast, why), count in kinds.items()]
