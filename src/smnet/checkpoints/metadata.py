"""The input description of a model: its JSON in a file, and the test views it implies.

Checkpoints and exported files carry the same JSON. Does not import PyTorch.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import TypeAdapter, ValidationError

from smnet.data.loading.views import ViewPlan
from smnet.data.sampling.rules import check
from smnet.errors import UserError
from smnet.models.spec import ModelSpec

MAX_SEGMENTS = 256
"""Largest number of segments that a file may ask for."""

MAX_DISCRIMINANTS = 64
"""Largest number of directions for distances."""

_TABLE = TypeAdapter(dict[str, Any])
_SPEC = TypeAdapter(ModelSpec)


def dump_specification(spec: ModelSpec) -> str:
    """The specification as JSON."""
    return json.dumps(spec.to_dict(), ensure_ascii=False, allow_nan=False)


def read_specification(text: str) -> ModelSpec:
    """The specification in a file's header, which is not trusted.

    Raises:
        ValueError: damaged JSON, values of wrong types, sizes that would exhaust the memory, or a
            normalisation by which nothing can be computed.
    """
    try:
        _SPEC.validate_json(text, strict=True)  # the types
        spec = ModelSpec.from_dict(_TABLE.validate_json(text))
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    if not (spec.num_segments <= MAX_SEGMENTS and 1 <= spec.frames_per_segment <= 64):
        raise ValueError(f"{spec.num_segments} segments of {spec.frames_per_segment} frames")
    if not 1 <= spec.input_size <= spec.short_side <= 2048:
        raise ValueError(f"input_size {spec.input_size} and short_side {spec.short_side}")
    if spec.clip_seconds is not None and not 0.01 <= spec.clip_seconds <= 3600:
        raise ValueError(f"clip_seconds {spec.clip_seconds}")
    if not all(map(math.isfinite, (*spec.mean, *spec.std))) or min(spec.std) <= 0:
        raise ValueError(
            f"mean {spec.mean} and std {spec.std}: finite numbers are needed, std above 0"
        )
    if spec.rate is not None and not 0.1 <= spec.rate <= 240:
        raise ValueError(f"rate {spec.rate}: 0.1 to 240 frames per second are possible")
    decision = spec.decision
    limits = (decision.unknown_below, *(decision.thresholds or ()))
    if not (0.001 <= decision.temperature <= 1000 and all(0 <= x <= 1 for x in limits)):
        raise ValueError(f"{decision}: a temperature above 0 and thresholds from 0 to 1 are needed")
    if not (0 <= decision.discriminants <= MAX_DISCRIMINANTS and decision.unknown_beyond >= 0):
        raise ValueError(f"{decision}: discriminants and a distance that are possible are needed")
    if decision.thresholds is not None and len(decision.thresholds) != spec.num_classes:
        raise ValueError(f"{len(decision.thresholds)} thresholds for {spec.num_classes} classes")
    return spec


def first_problem(error: ValidationError) -> str:
    """Place and message of the first problem that pydantic saw."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def view_plan(
    spec: ModelSpec, clips: int = 1, crops: int = 1, *, validation: bool = False
) -> ViewPlan:
    """The test views of a model: ``clips`` x ``crops``.

    Raises:
        UserError: a number of clips that the sampling rule does not define for its test or
            validation, or crops other than 1, 3 or 5.
    """
    if crops not in (1, 3, 5):
        raise UserError(f"views {clips}x{crops}: crops must be 1, 3 or 5")
    if spec.rate is None:
        check(spec.sampling, "val" if validation else "test", clips, spec.frames_per_segment)
    return ViewPlan(
        sampling=spec.sampling,
        segments=spec.num_segments,
        frames_per_segment=spec.frames_per_segment,
        rate=spec.rate,
        size=spec.input_size,
        short_side=spec.short_side,
        validation=validation,
        clips=clips,
        crops=crops,
    )
