"""The answers for a live stream, one after another."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from smnet.console import plural
from smnet.errors import UserError
from smnet.live.capture import SILENCE, Capture, Counts, Sample
from smnet.live.events import Event, EventRule
from smnet.live.scoring import Scorer, open_scorer
from smnet.live.sources import Source, source_of
from smnet.models.spec import ModelSpec
from smnet.timeline.curves import window_and_step
from smnet.timeline.segments import Limits

BACKLOG = 2.0
"""Seconds of samples that may wait for a causal network; more is dropped."""
_REMEMBERED = 100_000
"""Delays of which the summary takes the median."""


@dataclass(frozen=True)
class Answer:
    """What the network says at a moment.

    Attributes:
        seconds: presentation time of the newest frame, from the beginning of the stream.
        middle: the middle of the window that the scores speak for.
        labels, scores: classes and their scores, best first; empty while the window fills.
        delay: seconds from the capture of the newest frame to this answer.
        events: what began, went on or ended.
        restart: why the window or state began anew since the last answer; empty if it did not.
    """

    seconds: float
    middle: float
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    delay: float
    events: tuple[Event, ...] = ()
    restart: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the events."""
        pairs = zip(self.labels, self.scores, strict=True)
        return {
            "type": "scores",
            "seconds": round(self.seconds, 3),
            "delay": round(self.delay, 4),
            "top": [{"label": label, "score": round(score, 4)} for label, score in pairs],
        }


@dataclass
class Watch:
    """A running stream: iterate over it for its :class:`Answer` objects, or call :meth:`close`.

    Attributes:
        scorer: the network.
        rate: samples per second.
        rate_from: where the rate comes from, in words.
        counts: what became of the frames.
        delays: seconds from capture to answer, of the last answers.
    """

    scorer: Scorer
    source: Source
    rate: float
    rate_from: str
    rule: EventRule
    capture: Capture
    top: int = 5
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def counts(self) -> Counts:
        return self.capture.counts

    def __iter__(self) -> Iterator[Answer]:
        with closing(self.capture):
            self.capture.start()
            seconds = 0.0
            while (samples := self.capture.take()) is not None:
                for answer in self._answers(samples):
                    seconds = answer.seconds
                    yield answer
            if events := self.rule.end():
                yield Answer(seconds, seconds, (), (), 0.0, tuple(events))

    def close(self) -> list[Event]:
        """Stop reading. Returns the ends of the events that were open."""
        self.capture.close()
        return self.rule.end()

    def _answers(self, samples: list[Sample]) -> Iterator[Answer]:
        """A window is scored once for all samples that wait; a causal network answers each."""
        waiting = len(samples)
        if self.scorer.mode == "window" and self.capture.live:
            waiting = 1  # the newest alone
        events: list[Event] = []
        restart = ""
        for number, sample in enumerate(samples):
            if sample.restart:
                restart = sample.restart
                self.scorer.restart()
                self.counts.restarts += 1
                events += self.rule.end()
            self.scorer.add(sample)
            self.counts.used += 1
            if number >= len(samples) - waiting:
                yield self._answer(sample, self.scorer.scores(), events, restart)
                events, restart = [], ""

    def _answer(
        self,
        sample: Sample,
        scores: NDArray[np.float32] | None,
        events: list[Event],
        restart: str,
    ) -> Answer:
        middle = sample.seconds - (self.scorer.spec.num_segments - 1) / self.rate / 2
        labels: tuple[str, ...] = ()
        best: tuple[float, ...] = ()
        if scores is not None:
            if not np.isfinite(scores).all():
                raise UserError(f"{self.source.name}: the model's scores are not finite numbers")
            order = np.argsort(-scores, kind="stable")[: self.top]
            labels = tuple(self.rule.classes[k] for k in order)
            best = tuple(scores[order].tolist())
            events = events + self.rule.add(middle, scores)
        delay = time.monotonic() - sample.arrived
        self.delays.append(delay)
        return Answer(sample.seconds, middle, labels, best, delay, tuple(events), restart)

    def summary(self) -> dict[str, Any]:
        """Counts of frames; of a live source also the delays in seconds."""
        delays = np.array(self.delays or [0.0])
        median, p99 = (round(float(np.percentile(delays, share)), 4) for share in (50, 99))
        return {
            "seen": self.counts.seen,
            "used": self.counts.used,
            "dropped": self.counts.dropped,
            "repeated": self.counts.repeated,
            "damaged": self.counts.damaged,
            "restarts": self.counts.restarts,
            "reopened": self.counts.reopened,
            "delay_median": median if self.capture.live else None,
            "delay_p99": p99 if self.capture.live else None,
        }

    def __str__(self) -> str:
        s = self.summary()
        line = f"{plural(s['seen'], 'frame')} seen, {s['used']} used, {s['dropped']} dropped"
        if self.capture.live:
            line += (
                f"; capture to answer {1000 * s['delay_median']:.0f} ms (median),"
                f" {1000 * s['delay_p99']:.0f} ms (99th percentile)"
            )
        for name, words in (
            ("repeated", "moments without a frame of their own"),
            ("damaged", "packets that did not decode"),
            ("restarts", "restarts"),
            ("reopened", "times reopened"),
        ):
            line += f"; {s[name]} {words}" if s[name] else ""
        return line


def watch(
    checkpoint: str | os.PathLike[str] | Scorer,
    source: str,
    *,
    mode: str = "auto",
    rate: float | None = None,
    realtime: bool = False,
    limits: Limits | None = None,
    by_class: Mapping[str, Limits] | None = None,
    overlap: bool = False,
    top: int = 5,
    silence: float = SILENCE,
    device: str = "auto",
    backend: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
    frames: Callable[[av.VideoFrame, float], None] = lambda frame, seconds: None,
) -> Watch:
    """Open a network and a source.

    Args:
        checkpoint: a checkpoint, an exported file, or a network that is open.
        source: a camera, an address or a file, see ``smnet.live.sources.source_of``.
        mode: ``"window"``, ``"causal"`` or ``"auto"``, see ``smnet.live.scoring.open_scorer``.
            Has no effect on a network that is open, as ``device`` and ``backend``.
        rate: samples per second; None is that of the checkpoint.
        realtime: play a file at its own pace; standard input is live.
        limits: thresholds of an event, see ``smnet.live.events.EventRule``.
        by_class: thresholds of single classes.
        overlap: whether events of several classes may be at one time.
        top: classes per answer.
        silence: seconds without a frame after which a source is lost.
        device: see ``smnet.inference.backends.open_backend``.
        backend: likewise.
        tell: receives lines for people, also in other threads.
        frames: receives each decoded frame and its time, in the thread that decodes.

    Raises:
        UserError: the network or the source cannot be opened.

    Example:
        >>> for answer in watch("runs/mine", "rtsp://camera/1"):    # doctest: +SKIP
        ...     print(answer.seconds, answer.labels[:1], answer.events)
    """
    opened = source_of(source, realtime)
    if isinstance(checkpoint, str | os.PathLike):
        scorer = open_scorer(checkpoint, mode, device, backend)
    else:
        scorer = checkpoint
    spec = scorer.spec
    chosen, origin = rate_of(spec, rate)
    sliding = scorer.mode == "window"
    capacity = spec.num_segments if sliding else max(1, round(BACKLOG * chosen))
    capture = Capture(
        opened,
        chosen,
        scorer.prepare,
        length=spec.frames_per_segment,
        capacity=capacity,
        first=0 if sliding else spec.num_segments,
        sliding=sliding,
        silence=silence,
        tell=tell,
        watch=frames,
    )
    classes = spec.class_names or tuple(str(k) for k in range(spec.num_classes))
    rule = EventRule(classes, limits or Limits(), by_class or {}, overlap or spec.several)
    return Watch(scorer, opened, chosen, origin, rule, capture, top)


def rate_of(spec: ModelSpec, given: float | None = None) -> tuple[float, str]:
    """Samples per second, and where the number comes from.

    A checkpoint that was trained at a fixed rate states it. One that was trained on segments of
    whole clips has T segments per typical clip.
    """
    if given is not None:
        if not 0.1 <= given <= 240:
            raise UserError(f"--rate {given:g}: give 0.1 to 240 frames per second")
        return given, "given"
    if spec.rate:
        return spec.rate, "as trained"
    seconds, _ = window_and_step(spec)
    known = "its training clips last" if spec.clip_seconds else "assumed (--rate sets it): clips of"
    return spec.num_segments / seconds, f"{spec.num_segments} segments, {known} {seconds:.3g} s"
