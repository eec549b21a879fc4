"""Vectors of many videos, or of each window of recordings, as a table."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.corpus.items import Item
from smnet.corpus.run import Found, Summary, Task, Work, complete, settings_of
from smnet.data.clips import Part
from smnet.data.loading.views import ViewPlan
from smnet.data.loading.windows import frame_times, recording_end, window_starts
from smnet.data.open import open_video
from smnet.data.packed.storage import arrow
from smnet.data.workers.pool import TIME_LIMIT, Lost, ProcessPool
from smnet.embed.index import TABLE, Index
from smnet.errors import UserError
from smnet.inference.backends import Backend
from smnet.inference.pipeline import Rows, in_batches
from smnet.inference.recordings import Spans, read_windows
from smnet.inference.utilisation import Utilisation
from smnet.inference.vectors import vectors_of
from smnet.system import available_cores

VECTOR = "mean, deviation, direction"
"""What a vector consists of; part of what identifies an index."""


def embedding_work(
    backend: Backend, plan: ViewPlan, checkpoint: str | os.PathLike[str], **settings: Any
) -> Work:
    """A column ``vector`` (3C float16), averaged over the views of each video.

    Args:
        backend: a checkpoint, or an exported file with features.
        plan: of the views.
        checkpoint: the file, which identifies the vectors.
        settings: plain values that identify the vectors too, such as the length of windows.

    Raises:
        UserError: an exported file without features.
    """
    pa = arrow()
    width = 3 * backend.features(np.zeros((1, *plan.shape), np.uint8)).shape[-1]

    def compute(views: NDArray[np.uint8]) -> Rows:
        vectors = vectors_of(backend, views)
        problems = {
            int(row): "the network's features are not finite numbers"
            for row in np.flatnonzero(~np.isfinite(vectors).all(1))
        }
        return [{"vector": vector} for vector in vectors.astype(np.float16)], problems

    columns = [pa.field("vector", pa.list_(pa.float16(), width)), pa.field("damage", pa.int32())]
    described = settings_of("embed", checkpoint, plan, vector=VECTOR, **settings)
    return Work(Task(columns, described, TABLE), backend, plan, compute)


def embed_windows(
    work: Work,
    words: Sequence[str],
    out: str | os.PathLike[str],
    every: float | None,
    length: float | None,
    *,
    batch: int = 8,
    workers: int | None = None,
    timeout: float = TIME_LIMIT,
    **settings: Any,
) -> Summary:
    """A row for each window of recordings, each recording decoded once.

    Args:
        work: of :func:`embedding_work`.
        words, out, batch, workers, timeout, settings: as in :func:`smnet.corpus.run.run_corpus`.
        every, length: see :func:`windows`.
    """
    threads = workers or min(available_cores(), 8)
    summary = Summary(used=Utilisation(threads=threads))

    def found(items: Iterator[Item]) -> Iterator[Found]:
        members: dict[Item, list[Item]] = {}

        def tasks() -> Iterator[tuple[Item, Spans]]:
            for _, group in groupby(items, lambda item: (item.path, item.size, item.stamp)):
                listed = list(group)
                recording = replace(listed[0], part=None)
                if listed[0].part is None:
                    yield recording, None
                    continue
                members[recording] = listed
                spans = [(p.start or 0.0, p.end or math.inf) for i in listed if (p := i.part)]
                yield recording, np.array(spans)

        videos = read_windows(work.backend, work.plan, tasks(), threads, timeout)
        with closing(videos):
            for window, read, values in in_batches(videos, batch, work.compute, summary.used):
                if window.number is not None:
                    yield members[window.item][window.number], read, values
                elif read.stage or values:
                    yield window.item, read, values
                if window.number is None:
                    members.pop(window.item, None)

    expand = partial(windows, every=every, length=length, workers=threads, timeout=timeout)
    complete(work.task, words, out, summary, found, expand=expand, **settings)
    return summary


def windows(
    items: Iterable[Item],
    every: float | None,
    length: float | None,
    workers: int = 1,
    timeout: float = TIME_LIMIT,
) -> Iterator[Item]:
    """Windows of recordings, or of parts of them, as items. The last one ends with the recording.

    A file that cannot be opened is an item of its own, so it is reported.

    Args:
        items: the recordings.
        every: seconds between windows; None is one for each frame.
        length: of a window, seconds; None is that of a frame.
        workers: processes that look at the recordings.
        timeout: seconds for one of them.

    Raises:
        UserError: a part in frames.
    """
    waiting: deque[Item] = deque()

    def listed() -> Iterator[Item]:
        for item in items:
            waiting.append(item)
            yield item

    with ProcessPool(_frame_times, workers, timeout=timeout, window=4 * workers) as pool:
        for found in pool.map(listed()):
            item = waiting.popleft()
            part = item.part or Part()
            if part.unit != "s":
                raise UserError(f"{item.path}: a part in frames; --every takes parts in seconds")
            if isinstance(found, Lost) or found is None:
                yield item
                continue
            times, duration = found
            first, end = part.start or 0.0, min(part.end or duration, duration)
            span = length or duration / len(times)
            if end - first <= span:
                yield item
                continue
            if every is None:
                starts = times[(times >= first) & (times < end)]
            else:
                starts = first + window_starts(end - first, span, every)
            for start in starts.tolist():
                last = min(start + span, end)
                yield replace(item, part=Part(round(start, 6), round(last, 6)))


def _frame_times(item: Item) -> tuple[NDArray[np.float64], float] | None:
    """Times of the frames of a recording and its duration; None where that is not known."""
    try:
        with item.readable() as content, open_video(content) as video:
            times = frame_times(video)
            return times, recording_end(times, video.fps)
    except UserError:
        return None


def query(
    index: Index, videos: Sequence[str], checkpoint: str | None = None, device: str = "auto"
) -> NDArray[np.float32]:
    """Standardised vectors (M, D) of videos, for :meth:`smnet.embed.index.Index.find`.

    Args:
        index: has the vectors of its own videos.
        videos: paths.
        checkpoint: for other videos; None is that of the index.
        device: see :func:`smnet.inference.backends.open_backend`.

    Raises:
        UserError: a video that cannot be read; or the checkpoint has moved, or is another one.
    """
    rows = {video: index.rows_of(video) for video in videos}
    found = list(index.unit([row for video in videos for row in rows[video]]))
    others = [video for video in videos if not rows[video]]
    if others:
        place = checkpoint or str(index.settings.get("place", ""))
        if checkpoint is None and not Path(place).exists():
            raise UserError(
                f"the checkpoint of this index, {index.settings.get('checkpoint')}, is not at"
                f" {place}; give it with --from CHECKPOINT"
            )
        from smnet.inference.recognizer import Recognizer

        clips, _, crops = str(index.settings.get("views", "1x1")).partition("x")
        recognizer = Recognizer.load(place, device, (int(clips), int(crops)))
        given = settings_of("embed", place, recognizer.plan)["sha256"]
        if index.settings.get("sha256") != given:
            raise UserError(f"{place}: not the checkpoint of this index; its vectors differ")
        vectors = [recognizer.embed(video) for video in others]
        found += list(index.standardised(np.stack(vectors)))
    return np.array(found, np.float32)
