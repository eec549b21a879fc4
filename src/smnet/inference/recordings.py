"""Windows of recordings, each recording decoded once, in worker processes.

    (item, spans) -> read_windows -> (Window, Read, views) -> in_batches -> rows

A decoder that crashes or hangs ends its worker and loses the rest of its recording, no other.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.data.addresses import Unreachable
from smnet.data.loading.views import ViewPlan
from smnet.data.loading.windows import (
    Crops,
    WindowReader,
    Windows,
    frame_times,
    recording_end,
    window_spans,
)
from smnet.data.open import open_video
from smnet.data.workers.pool import Lost, Piece
from smnet.data.workers.streams import StreamPool
from smnet.errors import UserError
from smnet.inference.backends import Backend
from smnet.inference.pipeline import Read, Views, read_item

Spans = NDArray[np.float64] | tuple[float, float] | None
"""(N, 2) start and end of windows, seconds; the length and the distance of windows over all of a
recording; or None for one clip of all of it."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What is known of a recording before its windows come.

    Attributes:
        times: of its frames, seconds.
        fps: mean frames per second; None if unknown.
        spans: (N, 2) start and end of its windows, seconds.
    """

    times: NDArray[np.float64]
    fps: float | None
    spans: NDArray[np.float64]

    @property
    def duration(self) -> float:
        """Seconds."""
        return recording_end(self.times, self.fps)


@dataclass(frozen=True)
class Window:
    """A window, or without ``number`` a recording that has ended.

    Attributes:
        item: the recording.
        number: of the window.
        recording: None if it could not be opened, or is one clip.
    """

    item: Any
    number: int | None = None
    recording: Recording | None = None


@dataclass(frozen=True)
class _Part:
    """Crops of some frames, the frames lost so far, and the seconds that it took."""

    crops: Crops
    damage: int
    seconds: float


class _Reader:
    """What a worker does with ``(item, spans)``: it yields a recording, its parts, and a read."""

    def __init__(self, backend: Backend, plan: ViewPlan) -> None:
        self._backend, self._plan = backend, plan

    def __call__(self, task: tuple[Any, Spans]) -> Iterator[Any]:
        item, spans = task
        if spans is None:
            yield read_item(self._backend, self._plan, item)
            return
        stage, damage = "reading", 0
        began = ready = time.perf_counter()
        try:
            if item.part is not None:
                raise UserError(f"{item.path}: a part was given; whole recordings are taken here")
            with item.readable() as content:
                ready = time.perf_counter()
                if not isinstance(content, str) or Path(content).exists():
                    stage = "decoding"
                # The pool has a time limit.
                with open_video(content, timeout=None, decoder=self._plan.decoder) as video:
                    times = frame_times(video)
                    if isinstance(spans, tuple):
                        spans = window_spans(recording_end(times, video.fps), *spans)
                    yield Recording(times, video.fps, spans)
                    reader = WindowReader(video, spans, self._plan)
                    now = ready
                    for frames in reader.decode():
                        crops = reader.crop(frames)
                        yield _Part(crops, video.damage, time.perf_counter() - now)
                        now = time.perf_counter()
                    damage = video.damage
        except UserError as error:
            stage = "reading" if isinstance(error, Unreachable) else stage
            yield Read(stage, str(error), reading=ready - began), None
        else:
            yield Read(damage=damage, reading=ready - began), None


def read_windows(
    backend: Backend,
    plan: ViewPlan,
    recordings: Iterable[tuple[Any, Spans]],
    workers: int,
    timeout: float,
) -> Generator[tuple[Window, Read, Views | None], None, None]:
    """The windows of recordings, and each recording at its end; several recordings at once.

    Args:
        backend, plan: of the views.
        recordings: items and their windows.
        workers: processes.
        timeout: seconds for decoding some frames.
    """
    opened: dict[int, tuple[Recording, Windows, list[Any]]] = {}
    pool = StreamPool(_Reader(backend, plan), workers, timeout)
    with closing(pool.map(recordings)) as pieces:
        for task, message in pieces:
            item = task[0]
            if not isinstance(message, Piece):
                opened.pop(id(task), None)
                if isinstance(message, Lost):
                    yield Window(item), Read("decoding", f"{item.path}: {message.reason}"), None
                continue
            value = message.value
            if isinstance(value, Recording):
                opened[id(task)] = value, Windows(value.times, value.spans, plan), [0, 0, 0.0]
                continue
            if not isinstance(value, _Part):
                recording = opened[id(task)][0] if id(task) in opened else None
                yield Window(item, None, recording), *value
                continue
            recording, windows, counts = opened[id(task)]
            counts[1:] = value.damage, counts[2] + value.seconds
            for number, views in windows.take(value.crops):
                read = Read(damage=counts[1] - counts[0], decoding=counts[2])
                counts[0], counts[2] = counts[1], 0.0
                if views is None:
                    start, end = recording.spans[number].tolist()
                    read = Read("decoding", f"{item.path}: no frame from {start:g} s to {end:g} s")
                yield Window(item, number, recording), read, views
