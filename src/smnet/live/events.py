"""From scores to events: when a class begins, goes on and ends, with one id each."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from smnet.inference.decision import BACKGROUND
from smnet.timeline.segments import Limits

UPDATE_SECONDS = 1.0
"""Seconds between two updates of an event."""


@dataclass(frozen=True)
class Event:
    """A class that happens for a while.

    Attributes:
        type: ``"start"``, ``"update"`` or ``"end"``.
        id: the same in all messages on one event.
        label: the class.
        start, end: seconds of the stream; ``end`` is None until the event has ended.
        score: the score now; 0 at the end of the stream.
        top_score: the highest score so far.
    """

    type: Literal["start", "update", "end"]
    id: str
    label: str
    start: float
    end: float | None
    score: float
    top_score: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; seconds and scores rounded."""
        values = asdict(self)
        for name in ("start", "end", "score", "top_score"):
            values[name] = None if values[name] is None else round(values[name], 4)
        return values


@dataclass
class _Run:
    """A class whose score has been above its lower threshold since ``start``."""

    start: float
    top: float
    event: Event | None = None
    told: float = 0.0
    last: float = 0.0


@dataclass
class EventRule:
    """Two thresholds and a shortest length per class, one moment at a time.

    A class runs while its score is at least ``low``. Its event starts when the run has reached
    ``high`` and lasted ``shortest`` seconds, and begins where the run began. Unless classes may
    overlap, the running class with the highest score holds each moment. The class ``none`` competes
    and is never reported. This is the rule of ``smnet timeline`` without its smoothing and merging,
    which need the future.

    Args:
        classes: K names.
        limits: of all classes without their own.
        by_class: limits by class name.
        overlap: whether several classes may happen at the same time.
    """

    classes: Sequence[str]
    limits: Limits = field(default_factory=Limits)
    by_class: Mapping[str, Limits] = field(default_factory=dict)
    overlap: bool = False
    _runs: dict[int, _Run] = field(default_factory=dict)
    _prefix: str = field(default_factory=lambda: secrets.token_hex(3))
    _number: int = 0

    def add(self, seconds: float, scores: NDArray[np.float32]) -> list[Event]:
        """The events of a moment with these scores (K,)."""
        above = [k for k, name in enumerate(self.classes) if scores[k] >= self._limits(name).low]
        if not self.overlap and above:
            above = [max(above, key=lambda k: float(scores[k]))]
        found = [
            event
            for k in list(self._runs)
            if k not in above
            for event in self._ended(k, seconds, float(scores[k]))
        ]
        for k in above:
            if self.classes[k] != BACKGROUND:
                found += self._running(k, seconds, float(scores[k]))
        return found

    def end(self, seconds: float | None = None) -> list[Event]:
        """End all events, when the stream ends or begins anew.

        Args:
            seconds: None is the last moment of each event.
        """
        return [
            event
            for k in list(self._runs)
            for event in self._ended(k, self._runs[k].last if seconds is None else seconds, 0.0)
        ]

    @property
    def open(self) -> list[Event]:
        """The events that have started and not ended."""
        return [run.event for run in self._runs.values() if run.event is not None]

    def _limits(self, name: str) -> Limits:
        return self.by_class.get(name, self.limits)

    def _running(self, k: int, seconds: float, score: float) -> list[Event]:
        limits = self._limits(self.classes[k])
        run = self._runs.setdefault(k, _Run(seconds, score))
        run.top, run.last = max(run.top, score), seconds
        if run.event is None:
            if run.top < limits.high or seconds - run.start < limits.shortest - 1e-9:
                return []
            self._number += 1
            name = f"{self._prefix}-{self._number}"
            run.event = Event("start", name, self.classes[k], run.start, None, score, run.top)
        elif seconds - run.told < UPDATE_SECONDS - 1e-9:
            run.event = replace(run.event, score=score, top_score=run.top)
            return []
        else:
            run.event = replace(run.event, type="update", score=score, top_score=run.top)
        run.told = seconds
        return [run.event]

    def _ended(self, k: int, seconds: float, score: float) -> list[Event]:
        run = self._runs.pop(k)
        if run.event is None:
            return []
        return [replace(run.event, type="end", end=seconds, score=score, top_score=run.top)]
