"""Work on a corpus, on one machine: list, skip what is done, decode, compute, write.

Files are decoded in worker processes with a time limit each, so a file that crashes or hangs its
decoder is one row of ``unreadable.parquet``. Memory does not grow with the number of files, apart
from 16 bytes for each.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.header import checkpoint_file
from smnet.console import clip_progress
from smnet.corpus.items import Item, ItemList, list_items
from smnet.corpus.results import Keys, Results, joined
from smnet.data.loading.views import ViewPlan
from smnet.data.packed.storage import arrow
from smnet.data.workers.pool import TIME_LIMIT
from smnet.errors import UserError
from smnet.inference.backends import Backend, score_each
from smnet.inference.decision import BACKGROUND, decide
from smnet.inference.pipeline import Read, Rows, in_batches, read_in_processes, read_item
from smnet.inference.utilisation import Utilisation
from smnet.system import available_cores

Found = tuple[Item, Read, Mapping[str, Any]]
"""An item, how it was read, and its values; these are empty where a stage failed."""


@dataclass(frozen=True)
class Task:
    """What a corpus becomes.

    Attributes:
        columns: pyarrow fields of the values of a video.
        settings: plain values that identify the result, with the hash of the checkpoint.
        table: file name of the merged table.
    """

    columns: Sequence[Any]
    settings: Mapping[str, Any]
    table: str


@dataclass(frozen=True)
class Work:
    """How the values are computed from views.

    Attributes:
        task: what they are.
        backend: reads the views.
        plan: of the views.
        compute: maps views (B, V, T*L, 3, h, w) uint8 to rows.
    """

    task: Task
    backend: Backend
    plan: ViewPlan
    compute: Callable[[NDArray[np.uint8]], Rows]


@dataclass
class Summary:
    """How a run over a corpus ended.

    Attributes:
        listed: videos in the corpus (in this process's share of it).
        done: of these, done by earlier runs.
        rows, lost: written by this run.
        seconds: of this run, without the start of the program.
        listing: of these, seconds to list the videos and to find what is done.
        used: where the time went.
        merged: rows of the merged tables, see :meth:`smnet.corpus.results.Results.merge`.
    """

    listed: int = 0
    done: int = 0
    rows: int = 0
    lost: int = 0
    seconds: float = 0.0
    listing: float = 0.0
    used: Utilisation = field(default_factory=Utilisation)
    merged: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.rows + self.lost:
            return f"{self.listed} videos: all done before"
        rate = (self.rows + self.lost) / max(self.seconds - self.listing, 1e-9)
        return (
            f"{self.listed} videos: {self.done} done before, {self.rows} new,"
            f" {self.lost} unreadable; {rate:.1f} videos/s; {self.used.shares}"
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
        scores, distances, problems = score_each(backend, views)
        rows: list[Mapping[str, Any]] = []
        for row, values in enumerate(scores):
            best = np.argsort(-values, kind="stable")[:top]
            if row not in problems and not np.isfinite(values).all():
                problems[row] = "the model's scores are not finite numbers"
            labels, tops = [names[i] for i in best], values[best].tolist()
            said, unknown = decide(backend.spec, values, distances[row])
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
    settings = settings_of("predict", checkpoint, plan, top=top)
    return Work(Task(columns, settings, "predictions.parquet"), backend, plan, compute)


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
    threads = workers or min(available_cores(), 8)
    summary = Summary(used=Utilisation(threads=threads))

    def found(items: Iterator[Item]) -> Iterator[Found]:
        videos = read_in_processes(
            partial(read_item, work.backend, work.plan),
            work.plan.shape,
            items,
            threads,
            max(3 * batch, 2 * threads),
            timeout,
        )
        with closing(videos):
            yield from in_batches(videos, batch, work.compute, summary.used)

    complete(work.task, words, out, summary, found, share=share, retry=retry, expand=expand)
    return summary


def complete(
    task: Task,
    words: Sequence[str],
    out: str | os.PathLike[str],
    summary: Summary,
    found: Callable[[Iterator[Item]], Iterator[Found]],
    *,
    share: tuple[int, int] = (0, 1),
    retry: bool = False,
    expand: Callable[[Iterator[Item]], Iterator[Item]] = iter,
    made: Callable[[Item], bool] = lambda item: True,
) -> None:
    """List a corpus, add the rows that are missing and write the merged tables.

    Args:
        task: what the corpus becomes.
        words, out, share, retry, expand: as in :func:`run_corpus`.
        summary: is filled.
        found: computes the rows of items, on whatever engine.
        made: whether what is beside the row of an item is there too; otherwise it is made again.
    """
    number, count = share
    results = Results(out, task.table, task.settings, task.columns, f"{number}of{count}")
    began = time.monotonic()
    with results.open(), clip_progress(task.settings["task"], "unreadable") as progress:
        items = ItemList(expand(list_items(words)))
        if not len(items):
            raise UserError(f"{', '.join(words)}: no videos there")
        done, lost = results.done(), Keys() if retry else results.lost()
        mine = (item for item in items if count == 1 or item.share(count) == number)
        todo = ItemList(_missing(mine, done, lost, made, summary))
        summary.listing = time.monotonic() - began
        for item, read, values in found(iter(todo)):
            if read.stage:
                summary.lost += 1
                results.add_lost(item, read.stage, read.reason)
            else:
                summary.rows += 1
                results.add(item, {**values, "damage": read.damage})
            limit = f"bottleneck: {summary.used.bottleneck}" if summary.used.elapsed else ""
            progress(summary.rows + summary.lost, len(todo), summary.lost, limit)
        results.flush()
        summary.seconds = time.monotonic() - began
        summary.merged = results.merge(items)


def _missing(
    items: Iterable[Item], done: Keys, lost: Keys, made: Callable[[Item], bool], summary: Summary
) -> Iterator[Item]:
    """The items that are not done. Counts them."""
    remaining = iter(items)
    while block := list(islice(remaining, 4096)):
        keys = joined(item.key for item in block)
        failed = lost.find(keys)
        if len(lost):  # also with its whole recording
            failed = np.maximum(failed, lost.find(joined(item.whole for item in block)))
        summary.listed += len(block)
        for item, row, place in zip(block, done.find(keys), failed, strict=True):
            if place >= 0 or (row >= 0 and made(item)):
                summary.done += 1
            else:
                yield item
