"""Thresholds per class, chosen on labelled recordings and kept in a small file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from smnet.console import json_text
from smnet.errors import UserError
from smnet.evaluation.detection import Segment, f1_counts
from smnet.files import write_text
from smnet.inference.decision import BACKGROUND
from smnet.timeline.curves import Curves
from smnet.timeline.segments import Limits, Rule, find_segments

OVERLAP = 0.25
"""Calibration maximises segmental F1 at this IoU."""

_HIGH = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9)
_LOW = (0.6, 0.8, 1.0, 0.4)  # times the upper threshold
_SHORTEST = (0.5, 0.25, 1.0)  # windows


@dataclass(frozen=True)
class Calibration:
    """Limits per class, and what they reach on the recordings they were chosen on.

    Attributes:
        data: the recordings.
        window, every: seconds, of the curves.
        limits: by class name.
        f1: segmental F1@25 by class name.
    """

    data: str
    window: float
    every: float
    limits: Mapping[str, Limits]
    f1: Mapping[str, float]


def calibrate(
    curves: Sequence[Curves], truth: Sequence[Sequence[Segment]], rule: Rule, data: str
) -> Calibration:
    """Choose thresholds and shortest length of each class by its F1@25.

    Each class is chosen by itself. Of equal choices the one nearest to the default wins. A class
    without labelled parts keeps the default.

    Args:
        curves: of each recording, with equal windows.
        truth: its labelled parts.
        rule: smoothing and gaps.
        data: name of the recordings, for the file.
    """
    first = curves[0]
    chosen: dict[str, Limits] = {}
    reached: dict[str, float] = {}
    for k, name in enumerate(first.classes):
        parts = [[s for s in side if s.label == name] for side in truth]
        if name == BACKGROUND or not any(parts):
            continue
        own = [replace(c, classes=(name,), scores=c.scores[:, k : k + 1]) for c in curves]
        best = -1.0
        for high, low, shortest in product(_HIGH, _LOW, _SHORTEST):
            limits = Limits(high, high * low, shortest * first.window)
            one = replace(rule, limits=limits, by_class={})
            hits = wrong = missed = 0
            for curve, side in zip(own, parts, strict=True):
                counts = f1_counts(side, find_segments(curve, one), OVERLAP)
                hits, wrong, missed = hits + counts[0], wrong + counts[1], missed + counts[2]
            f1 = 2 * hits / (2 * hits + wrong + missed)
            if f1 > best + 1e-9:
                best, chosen[name], reached[name] = f1, limits, f1
    return Calibration(data, first.window, first.every, chosen, reached)


def write_calibration(path: str | os.PathLike[str], calibration: Calibration) -> None:
    """Write a calibration as JSON."""
    classes = {
        name: {
            "high": round(limits.high, 4),
            "low": round(limits.low, 4),
            "shortest": round(limits.shortest, 4),
            "f1@25": round(calibration.f1[name], 4),
        }
        for name, limits in calibration.limits.items()
    }
    values = {
        "data": calibration.data,
        "window": calibration.window,
        "every": calibration.every,
        "classes": classes,
    }
    write_text(path, json_text(values, 1) + "\n")


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read a file of :func:`write_calibration`.

    Raises:
        UserError: no such file, or not a calibration.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        classes = TypeAdapter(dict[str, dict[str, float]]).validate_python(values["classes"])
        return Calibration(
            str(values["data"]),
            float(values["window"]),
            float(values["every"]),
            {n: Limits(c["high"], c["low"], c["shortest"]) for n, c in classes.items()},
            {n: c["f1@25"] for n, c in classes.items()},
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, ValidationError):
        raise UserError(
            f"{path}: not a file of thresholds; make one with: smnet timeline CHECKPOINT"
            " --calibrate DATA --thresholds FILE"
        ) from None
