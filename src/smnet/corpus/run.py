"""Work on a corpus, on one machine: list, skip what is done, decode, compute, write.

Files are decoded in worker processes with a time limit each, so a file that crashes or hangs its
decoder is one row of ``unreadable.parquet``. Memory does not grow with the number of files, apart
from 16 bytes for each.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.header import checkpoint_file
from smnet.console import clip_progress
from smnet.corpus.items import Item, ItemList, list_items
from smnet.corpus.results import Results
from smnet.data.addresses import Unreachable
from smnet.data.loading.views import Damage, ViewPlan
from smnet.data.packed.storage import arrow
from smnet.data.workers.pool import TIME_LIMIT, Lost, ProcessPool
from smnet.data.workers.slots import Slots
from smnet.errors import UserError
from smnet.inference.backends import Backend, score_each
from smnet.inference.decision import BACKGROUND, decide
from smnet.system import available_cores

Rows = tuple[list[Mapping[str, Any]], dict[int, str]]
"""A row of values per video; and for videos without one, why, by their position."""
Found = tuple[Item, Mapping[str, Any], str, str]
"""(item, values, stage, reason); the stage is empty where there are values."""


@dataclass(frozen=True)
class Work:
    """What is computed of each video.

    Attributes:
        backend: reads the views.
        plan: of the views.
        columns: pyarrow fields of the values.
        compute: maps views (B, V, T*L, 3, h, w) uint8 to rows.
        settings: plain values that identify the result, with the hash of the checkpoint.
        table: file name of the merged table.
    """

    backend: Backend
    plan: ViewPlan
    columns: Sequence[Any]
    compute: Callable[[NDArray[np.uint8]], Rows]
    settings: Mapping[str, Any]
    table: str = "predictions.parquet"


@dataclass
class Summary:
    """How a run over a corpus ended.

    Attributes:
        listed: videos in the corpus (in this process's share of it).
        done: of these, done by earlier runs.
        rows, lost: written by this run.
        seconds: of this run.
        reading: seconds of the workers for fetching files from addresses and archives.
        decoding: seconds of the workers for decoding.
        computing: seconds in the network.
        workers: decoding processes.
        merged: rows of the merged tables, see :meth:`smnet.corpus.results.Results.merge`.
    """

    listed: int = 0
    done: int = 0
    rows: int = 0
    lost: int = 0
    seconds: float = 0.0
    reading: float = 0.0
    decoding: float = 0.0
    computing: float = 0.0
    workers: int = 1
    merged: dict[str, int] = field(default_factory=dict)

    @property
    def bottleneck(self) -> str:
        """``"network"`` if it was busy most of the time, else ``"reading"`` or ``"decoding"``."""
        if self.computing > 0.6 * self.seconds:
            return "network"
        return "reading" if self.reading > self.decoding else "decoding"

    def __str__(self) -> str:
        if not self.rows + self.lost:
            return f"{self.listed} videos: all done before"
        rate = (self.rows + self.lost) / max(self.seconds, 1e-9)
        line = (
            f"{self.listed} videos: {self.done} done before, {self.rows} new,"
            f" {self.lost} unreadable; {rate:.1f} videos/s"
        )
        if not self.decoding + self.computing:  # an engine measures its stages itself
            return line
        busy = max(self.seconds * self.workers, 1e-9)
        return (
            f"{line}; bottleneck: {self.bottleneck}"
            f" (network {self.computing / max(self.seconds, 1e-9):.0%} busy, {self.workers}"
            f" workers: reading {self.reading / busy:.0%}, decoding {self.decoding / busy:.0%})"
        )


def prediction_work(
    backend: Backend, plan: ViewPlan, checkpoint: str | os.PathLike[str], top: int = 5
) -> Work:
    """Labels and scores of each video, best first, and its answer.

    Columns: ``label``, ``score``, ``labels``, ``scores``; ``answer``, the classes that the network
    answers, and ``unknown``, see :mod:`smnet.inference.decision`; ``damage``, lost frames.
    """
    pa = arrow()
    names = backend.spec.class_names or tuple(map(str, range(backend.spec.num_classes)))

    def compute(views: NDArray[np.uint8]) -> Rows:
        scores, problems = score_each(backend, views)
        rows: list[Mapping[str, Any]] = []
        for row, values in enumerate(scores):
            best = np.argsort(-values, kind="stable")[:top]
            if row not in problems and not np.isfinite(values).all():
                problems[row] = "the model's scores are not finite numbers"
            labels, tops = [names[i] for i in best], values[best].tolist()
            said, unknown = decide(backend.spec, values)
            answer = [n for n, is_said in zip(names, said, strict=True) if is_said]
            rows.append(
                {
                    "label": labels[0],
                    "score": tops[0],
                    "labels": labels,
                    "scores": tops,
                    "answer": [name for name in answer if name != BACKGROUND],
                    "unknown": unknown,
                }
            )
        return rows, problems

    columns = [
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("answer", pa.list_(pa.string())),
        pa.field("unknown", pa.bool_()),
        pa.field("damage", pa.int32()),
    ]
    return Work(backend, plan, columns, compute, settings_of("predict", checkpoint, plan, top=top))


def settings_of(
    task: str, checkpoint: str | os.PathLike[str], plan: ViewPlan, **more: Any
) -> dict[str, Any]:
    """Plain values that identify results: task, hash of the checkpoint, views."""
    file = Path(checkpoint)
    if file.suffix not in (".onnx", ".xml"):
        file = checkpoint_file(checkpoint)
    digest = hashlib.sha256()
    for part in (file, *([file.with_suffix(".bin")] if file.suffix == ".xml" else [])):
        with part.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    views = f"{plan.clips}x{plan.crops}"
    described = {"sampling": plan.sampling, "segments": plan.segments, "size": plan.size}
    return {
        "task": task,
        "checkpoint": file.name,
        "place": str(file.absolute()),
        "sha256": digest.hexdigest(),
        "views": views,
        **described,
        **more,
    }


def run_corpus(
    work: Work,
    words: Sequence[str],
    out: str | os.PathLike[str],
    *,
    batch: int = 8,
    workers: int | None = None,
    timeout: float = TIME_LIMIT,
    share: tuple[int, int] = (0, 1),
    retry: bool = False,
    expand: Callable[[Iterator[Item]], Iterator[Item]] = iter,
) -> Summary:
    """Compute the rows that are missing in ``out``, then write the merged tables.

    Args:
        work: what is computed.
        words: sources, see :func:`smnet.corpus.items.list_items`.
        out: the folder of the results, see :mod:`smnet.corpus.results`.
        batch: videos per batch.
        workers: decoding processes; None is one per core, at most 8.
        timeout: seconds per video, after which it counts as unreadable.
        share: (number, count): this process works on the share with this number, from 0, of
            ``count`` shares. A video is always in the same share.
        retry: try unreadable files again.
        expand: makes items of items, such as windows of recordings.

    Raises:
        UserError: sources that cannot be listed, or a folder that cannot be written or that
            another process with the same share writes to.
    """
    summary = Summary(workers=workers or min(available_cores(), 8))

    def found(items: Iterator[Item]) -> Iterator[Found]:
        return _results(work, items, batch, timeout, summary)

    complete(work, words, out, summary, found, share=share, retry=retry, expand=expand)
    return summary


def complete(
    work: Work,
    words: Sequence[str],
    out: str | os.PathLike[str],
    summary: Summary,
    found: Callable[[Iterator[Item]], Iterator[Found]],
    *,
    share: tuple[int, int] = (0, 1),
    retry: bool = False,
    expand: Callable[[Iterator[Item]], Iterator[Item]] = iter,
) -> None:
    """List a corpus, add the rows that are missing and write the merged tables.

    Args:
        work, words, out, share, retry, expand: as in :func:`run_corpus`.
        summary: is filled.
        found: computes the rows of items, on whatever engine.
    """
    number, count = share
    results = Results(out, work.table, work.settings, work.columns, f"{number}of{count}")
    began = time.monotonic()
    with results.open(), clip_progress(work.settings["task"], "unreadable") as progress:
        items = ItemList(expand(list_items(words)))
        if not len(items):
            raise UserError(f"{', '.join(words)}: no videos there")
        done = results.done(lost=not retry)
        for item in items:
            if item.share(count) == number:
                summary.listed += 1
                summary.done += item.key in done
        todo = (i for i in items if i.share(count) == number and i.key not in done)
        for item, values, stage, reason in found(todo):
            if stage:
                summary.lost += 1
                results.add_lost(item, stage, reason)
            else:
                summary.rows += 1
                results.add(item, values)
            finished = summary.done + summary.rows + summary.lost
            progress(finished, summary.listed, summary.lost)
        results.flush()
        summary.seconds = time.monotonic() - began
        summary.merged = results.merge(items)


@dataclass(frozen=True, slots=True)
class Read:
    """How a video was read: stage and reason if it could not be, lost frames, seconds."""

    stage: str = ""
    reason: str = ""
    damage: int = 0
    reading: float = 0.0
    decoding: float = 0.0


def read_item(
    backend: Backend, plan: ViewPlan, item: Item
) -> tuple[Read, NDArray[np.uint8] | None]:
    """Fetch and decode a video. Problems are returned, not raised."""
    began = ready = time.monotonic()
    stage, damage = "reading", Damage()
    try:
        with item.readable() as content:
            ready = time.monotonic()
            if not isinstance(content, str) or Path(content).exists():
                stage = "decoding"
            views = backend.read(content, plan, damage, item.part)
    except UserError as error:
        return Read("reading" if isinstance(error, Unreachable) else stage, str(error)), None
    return Read("", "", damage.count, ready - began, time.monotonic() - ready), views


class _Reader:
    """What a worker does: read a video, leave its views in a slot, return the rest."""

    def __init__(self, backend: Backend, plan: ViewPlan, slots: Slots) -> None:
        self._backend, self._plan, self._slots = backend, plan, slots

    def __call__(self, task: tuple[int, Item]) -> Read:
        slot, item = task
        read, views = read_item(self._backend, self._plan, item)
        if views is not None:
            self._slots.frames[slot] = views
        return read


def _results(
    work: Work,
    items: Iterator[Item],
    batch: int,
    timeout: float,
    summary: Summary,
) -> Iterator[Found]:
    """The rows of items, in their order."""
    workers = summary.workers
    window = max(3 * batch, 2 * workers)
    slots = Slots((window, *work.plan.shape))
    waiting: deque[Item] = deque()

    def tasks() -> Iterator[tuple[int, Item]]:
        for number, item in enumerate(items):
            waiting.append(item)
            yield number % window, item

    buffer = np.empty((batch, *work.plan.shape), np.uint8)
    ready: list[tuple[Item, int]] = []
    pool = ProcessPool(
        _Reader(work.backend, work.plan, slots),
        workers,
        timeout=timeout,
        window=window,
        queue=-(-window // workers),
    )
    with pool:
        for number, result in enumerate(pool.map(tasks())):
            item = waiting.popleft()
            if isinstance(result, Lost):
                yield item, {}, "decoding", result.reason
                continue
            summary.reading += result.reading
            summary.decoding += result.decoding
            if result.stage:
                yield item, {}, result.stage, result.reason
                continue
            buffer[len(ready)] = slots.frames[number % window]
            ready.append((item, result.damage))
            if len(ready) == batch:
                yield from _computed(work, buffer, ready, summary)
                ready = []
        if ready:
            yield from _computed(work, buffer[: len(ready)], ready, summary)


def _computed(
    work: Work, views: NDArray[np.uint8], ready: list[tuple[Item, int]], summary: Summary
) -> Iterator[Found]:
    began = time.monotonic()
    rows, problems = work.compute(views)
    summary.computing += time.monotonic() - began
    for row, (item, damage) in enumerate(ready):
        if row in problems:
            yield item, {}, "scoring", problems[row]
        else:
            yield item, {**rows[row], "damage": damage}, "", ""
