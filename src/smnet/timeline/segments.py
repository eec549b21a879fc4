"""From curves to segments: smoothing, two thresholds per class, merging, minimum length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError
from smnet.evaluation.detection import Segment
from smnet.inference.decision import BACKGROUND
from smnet.timeline.curves import Curves


@dataclass(frozen=True)
class Limits:
    """When a class begins and ends.

    Attributes:
        high: a segment reaches this score.
        low: it lasts while the score is at least this; at most ``high``.
        shortest: seconds; shorter segments are dropped.
    """

    high: float = 0.5
    low: float = 0.3
    shortest: float = 0.0


@dataclass(frozen=True)
class Rule:
    """How curves become segments.

    Attributes:
        limits: of the classes without limits of their own.
        by_class: limits by class name, as calibration chooses them.
        smooth: seconds over which the scores are averaged.
        gap: seconds; a shorter gap between two segments of a class is filled.
        overlap: whether classes may happen at the same time; otherwise the class with the highest
            score holds each moment.
    """

    limits: Limits = Limits()
    by_class: Mapping[str, Limits] = field(default_factory=dict)
    smooth: float = 0.0
    gap: float = 0.0
    overlap: bool = False

    def of(self, name: str) -> Limits:
        return self.by_class.get(name, self.limits)


def make_rule(
    window: float,
    *,
    high: float = 0.5,
    low: float | None = None,
    shortest: float | None = None,
    smooth: float | None = None,
    gap: float | None = None,
    overlap: bool = False,
    by_class: Mapping[str, Limits] | None = None,
) -> Rule:
    """A rule whose lengths follow the window where they are not given.

    Args:
        window: seconds.
        high, low: of the classes without limits of their own; ``low`` is 0.6 ``high``.
        shortest, smooth: half a window.
        gap: a quarter of a window.
        overlap, by_class: see :class:`Rule`.

    Raises:
        UserError: ``low`` above ``high``.
    """
    low = 0.6 * high if low is None else low
    if low > high:
        raise UserError(f"the lower threshold {low:g} is above the upper one, {high:g}")
    half = window / 2
    limits = Limits(high, low, half if shortest is None else shortest)
    return Rule(
        limits,
        by_class or {},
        half if smooth is None else smooth,
        half / 2 if gap is None else gap,
        overlap,
    )


def smoothed(curves: Curves, seconds: float) -> NDArray[np.float64]:
    """(N, K): the mean of the scores in ``seconds`` around each window.

    At both ends the mean is over the windows that exist.
    """
    reach = int(seconds / curves.every / 2 + 1e-6)
    scores = curves.scores.astype(np.float64)
    if not reach:
        return scores
    sums = np.concatenate([np.zeros_like(scores[:1]), np.cumsum(scores, axis=0)])
    number = np.arange(len(scores))
    first = np.maximum(number - reach, 0)
    stop = np.minimum(number + reach + 1, len(scores))
    means: NDArray[np.float64] = (sums[stop] - sums[first]) / (stop - first)[:, None]
    return means


def step_edges(curves: Curves) -> NDArray[np.float64]:
    """(N + 1,) seconds: each window speaks for the time around its middle, halfway to the next."""
    between = (curves.times[1:] + curves.times[:-1]) / 2
    return np.concatenate([[0.0], between, [curves.duration]])


def runs(active: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """(first, stop) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def hysteresis(scores: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    """(N,): runs of scores of at least ``low`` that reach ``high``."""
    active = scores >= low
    for first, stop in runs(active):
        if scores[first:stop].max() < high:
            active[first:stop] = False
    return active


def find_segments(curves: Curves, rule: Rule) -> list[Segment]:
    """The segments of a recording, in the order of time.

    The score of a segment is its mean. Background competes for each moment and is left out.
    """
    scores, edges = smoothed(curves, rule.smooth), step_edges(curves)
    names = curves.classes
    limits = [rule.of(name) for name in names]
    active = np.stack(
        [
            hysteresis(column, limit.low, limit.high)
            for column, limit in zip(scores.T, limits, strict=True)
        ],
        axis=1,
    )
    if not rule.overlap:
        held = np.where(active, scores, -1.0)
        active &= np.arange(len(names)) == held.argmax(axis=1)[:, None]
    taken = active.any(axis=1)
    found: list[Segment] = []
    for k, (name, limit) in enumerate(zip(names, limits, strict=True)):
        if name == BACKGROUND:
            continue
        column = active[:, k]
        # What another class left of a run has to reach the upper threshold on its own.
        pieces = [run for run in runs(column) if scores[slice(*run), k].max() >= limit.high]
        free = None if rule.overlap else taken & ~column
        for first, stop in _filled(pieces, edges, rule.gap, free):
            start, end = float(edges[first]), float(edges[stop])
            if end - start >= limit.shortest - 1e-9:
                found.append(Segment(start, end, name, float(scores[first:stop, k].mean())))
    return sorted(found, key=lambda s: (s.start, s.end, s.label))


def _filled(
    pieces: Sequence[tuple[int, int]],
    edges: NDArray[np.float64],
    gap: float,
    others: NDArray[np.bool_] | None,
) -> list[tuple[int, int]]:
    """Join pieces over short gaps in which no other class is active."""
    joined: list[tuple[int, int]] = []
    for first, stop in pieces:
        if joined:
            last = joined[-1][1]
            empty = others is None or not others[last:first].any()
            if empty and edges[first] - edges[last] <= gap + 1e-9:
                joined[-1] = (joined[-1][0], stop)
                continue
        joined.append((first, stop))
    return joined


@dataclass(frozen=True)
class Timeline:
    """The segments of a recording, with the curves and the rule that gave them.

    Attributes:
        curves: scores over time.
        rule: how they became segments.
        segments: in the order of time.
    """

    curves: Curves
    rule: Rule
    segments: tuple[Segment, ...]

    def summary(self, curves: bool = True) -> dict[str, Any]:
        """Plain values for JSON; ``curves`` includes the scores of every window."""
        c = self.curves
        values: dict[str, Any] = {
            "file": c.path,
            "duration": round(c.duration, 3),
            "window": c.window,
            "every": c.every,
            "segments": [
                {
                    "start": round(s.start, 3),
                    "end": round(s.end, 3),
                    "label": s.label,
                    "score": round(s.score, 4),
                }
                for s in self.segments
            ],
        }
        if c.damage.count:
            values["damage"] = str(c.damage)
        if curves:
            limits = {name: asdict(self.rule.of(name)) for name in c.classes}
            values["limits"] = limits
            values["times"] = [round(float(t), 3) for t in c.times]
            values["scores"] = {
                name: [round(float(s), 4) for s in c.scores[:, k]]
                for k, name in enumerate(c.classes)
            }
        return values
