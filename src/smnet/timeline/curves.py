"""The scores of a recording over time: windows, decoded once and scored in batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from smnet.console import clock
from smnet.data.loading.views import Damage, ViewPlan
from smnet.data.loading.windows import (
    Frames,
    Views,
    WindowReader,
    frame_times,
    recording_end,
    window_spans,
)
from smnet.data.open import open_video
from smnet.data.workers.pool import TIME_LIMIT
from smnet.data.workers.prefetch import Prefetcher
from smnet.errors import UserError
from smnet.inference.backends import Backend
from smnet.inference.utilisation import Utilisation
from smnet.models.spec import ModelSpec

DEFAULT_WINDOW = 2.0
"""Seconds of a window where the checkpoint does not state the length of its training clips."""
STEPS = 4
"""Windows begin this often per length of a window, by default."""

_AHEAD = 3  # groups of frames that are decoded before they are needed
_CLOSING = 1.0  # seconds to wait for the decoding thread


@dataclass(frozen=True)
class Curves:
    """The scores of every window of a recording.

    Attributes:
        path: the recording.
        duration: seconds.
        fps: mean frames per second; None if unknown.
        window, every: length of the windows and the distance of their beginnings, seconds.
        classes: K names.
        times: (N,) middle of each window, seconds.
        scores: (N, K); a row of zeros is a window without frames.
        damage: what was lost while decoding.
    """

    path: str
    duration: float
    fps: float | None
    window: float
    every: float
    classes: tuple[str, ...]
    times: NDArray[np.float64]
    scores: NDArray[np.float32]
    damage: Damage = field(default_factory=Damage)


@dataclass
class RecordingUse(Utilisation):
    """Where the time went; ``clips`` counts windows.

    Attributes:
        seconds: length of the recordings.
    """

    seconds: float = 0.0
    threads: int = 1

    @property
    def speed(self) -> float:
        """Seconds of video per second."""
        return self.seconds / max(self.wall, 1e-9)

    def __str__(self) -> str:
        wall = max(self.wall, 1e-9)
        return (
            f"{clock(self.seconds)} of video, {self.clips} windows in {clock(wall)},"
            f" {self.speed:.0f} times real time; bottleneck: {self.bottleneck}"
            f" (inference {self.inference / wall:.0%} busy, decoding {self.decoding_share:.0%})"
        )


def window_and_step(
    spec: ModelSpec, window: float | None = None, every: float | None = None
) -> tuple[float, float]:
    """Length and distance of the windows, seconds.

    Args:
        spec: states the length of the training clips, or their rate.
        window: None is that length, or :data:`DEFAULT_WINDOW` where it is not stated.
        every: None is a quarter of the window.
    """
    trained = spec.num_segments / spec.rate if spec.rate else spec.clip_seconds
    length = window or trained or DEFAULT_WINDOW
    return length, every or length / STEPS


def score_recording(
    backend: Backend,
    plan: ViewPlan,
    path: str,
    window: float,
    every: float,
    *,
    batch: int = 8,
    used: RecordingUse | None = None,
    progress: Callable[[float, float], None] = lambda done, duration: None,
    timeout: float = TIME_LIMIT,
) -> Curves:
    """Score every window of a recording.

    The scores of a window equal those of :meth:`smnet.inference.recognizer.Recognizer.predict` of
    the same part. Memory does not depend on the length of the recording.

    Args:
        backend: the network.
        plan: of :func:`smnet.inference.backends.plan_views`.
        path: a video file.
        window, every: see :func:`window_and_step`.
        batch: windows per batch.
        used: is filled with where the time went.
        progress: is called with the seconds done and the seconds in all.
        timeout: seconds for decoding some frames, after which the file counts as unreadable.

    Raises:
        UserError: the recording cannot be read, has no times, or the scores are not finite.
    """
    used = used if used is not None else RecordingUse()
    began = time.perf_counter()
    decoding = Lock()
    video = open_video(path, timeout=None, decoder=plan.decoder)  # the prefetcher has a time limit
    try:
        times = frame_times(video)
        fps = video.fps
        duration = recording_end(times, fps)
        spans = window_spans(duration, window, every)
        reader = WindowReader(video, spans, plan)
        spec = backend.spec
        scores = np.zeros((len(spans), spec.num_classes), np.float32)
        used.waiting += time.perf_counter() - began
        used.decoding += time.perf_counter() - began
        waiting: list[tuple[int, Views]] = []
        done = 0.0
        for number, views in _windows(path, reader, decoding, used, timeout):
            if views is not None:
                waiting.append((number, views))
            if len(waiting) == batch:
                _score(backend, waiting, scores, used)
                used.seconds += float(spans[number, 1]) - done
                done = float(spans[number, 1])
                progress(done, duration)
        if waiting:
            _score(backend, waiting, scores, used)
        damage = Damage(video.damage, video.missing)
    finally:
        if decoding.acquire(timeout=_CLOSING):  # a thread that hangs still uses the file
            video.close()
    used.elapsed = used.wall
    used.seconds += duration - done
    progress(duration, duration)
    if not np.isfinite(scores).all():
        raise UserError(f"{path}: the model's scores are not finite numbers")
    classes = spec.class_names or tuple(str(i) for i in range(spec.num_classes))
    middles = spans.mean(axis=1)
    return Curves(path, duration, fps, window, every, classes, middles, scores, damage)


def _windows(
    path: str, reader: WindowReader, decoding: Lock, used: RecordingUse, timeout: float
) -> Iterator[tuple[int, Views | None]]:
    """All windows, while a thread decodes ahead."""
    decoded = reader.decode()

    def read(name: str) -> Frames:
        with decoding:
            return next(decoded, [])

    with Prefetcher(read, 1, timeout) as prefetcher:
        jobs = deque(prefetcher.submit(path) for _ in range(_AHEAD))
        while True:
            began = time.perf_counter()
            job = jobs.popleft()
            frames = prefetcher.result(job)
            jobs.append(prefetcher.submit(path))
            ready = time.perf_counter()
            used.waiting += ready - began
            used.decoding += job.seconds
            for number, views in reader.assemble(frames):
                used.inference += time.perf_counter() - ready
                yield number, views
                ready = time.perf_counter()
            used.inference += time.perf_counter() - ready
            if not frames:
                return


def _score(
    backend: Backend,
    waiting: list[tuple[int, Views]],
    scores: NDArray[np.float32],
    used: RecordingUse,
) -> None:
    began = time.perf_counter()
    scores[[number for number, _ in waiting]] = backend.score(
        np.stack([views for _, views in waiting])
    )
    used.clips += len(waiting)
    used.inference += time.perf_counter() - began
    waiting.clear()
