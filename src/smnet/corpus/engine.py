"""The row function of a corpus as callable classes, and a run of it on Ray Data.

The classes take a batch of columns and return one, as ``map_batches`` of Ray Data passes them:

    dataset.map_batches(smnet.corpus.engine.Predict, fn_constructor_args=("best.onnx",),
                        batch_size=16, concurrency=4)

Scheduling, retries and placement are the engine's.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from smnet.corpus.items import Item
from smnet.corpus.run import Found, Summary, complete, prediction_work
from smnet.data.clips import Part
from smnet.data.packed.storage import arrow
from smnet.data.workers.pool import TIME_LIMIT, Lost, ProcessPool
from smnet.errors import missing_extra
from smnet.inference.backends import open_backend, plan_views
from smnet.inference.pipeline import Read, read_item
from smnet.inference.utilisation import Utilisation

Columns = dict[str, Any]
"""A batch: an array or a list per column."""

BATCH = 8
"""Videos per batch of the network."""
ROOM = 32 << 20
"""Bytes of views that a decoder hands over at once. It rests while Ray takes them."""
TASK = 64
"""Videos of a task, which is done again if its worker is lost."""
BLOCK = 100_000
"""Videos of a corpus that are given to Ray at once, so that memory does not grow with it."""


class Predict:
    """Labels and scores of the videos in a batch.

    Args:
        checkpoint: a checkpoint or an exported file that every worker can read.
        device: see :func:`smnet.inference.backends.open_backend`.
        views: (clips, crops) averaged per video.
        top: classes per video.
        column: that holds the paths or addresses.
        timeout: seconds per video.
    """

    def __init__(
        self,
        checkpoint: str,
        device: str = "auto",
        views: tuple[int, int] = (1, 1),
        top: int = 5,
        column: str = "path",
        timeout: float = TIME_LIMIT,
    ) -> None:
        from smnet.inference.recognizer import Recognizer

        self._recognizer = Recognizer.load(checkpoint, device, views)
        self._top, self._column, self._timeout = top, column, timeout

    def __call__(self, batch: Columns) -> Columns:
        """Add the columns ``label``, ``score``, ``labels``, ``scores`` and ``error``.

        A video that cannot be read has an error and never ends the job.
        """
        paths = [str(path) for path in batch[self._column]]
        found = list(self._recognizer.predict_many(paths, self._top, timeout=self._timeout))
        return {
            **batch,
            "label": [p.label for p in found],
            "score": np.array([p.score for p in found], np.float32),
            "labels": [list(p.labels) for p in found],
            "scores": [list(p.scores) for p in found],
            "error": [p.error for p in found],
        }


class Decode:
    """The first stage: views of the videos in a batch. A crash or a hang costs one row."""

    def __init__(self, checkpoint: str, views: tuple[int, int], timeout: float) -> None:
        backend = open_backend(checkpoint, "cpu")
        self._plan, self._timeout = plan_views(backend, *views), timeout
        self._read = partial(read_item, backend, self._plan)
        self._pool = ProcessPool(self._read, 1, timeout=timeout, window=TASK)

    def __call__(self, batch: Columns) -> Columns:
        columns = zip(*(batch[name] for name in _ITEM), strict=True)
        items = [_item(dict(zip(_ITEM, row, strict=True))) for row in columns]
        nothing = np.zeros(self._plan.shape, np.uint8)
        found: Columns = {name: [] for name in ("views", *_READ)}
        for result in self._pool.map(items):
            if isinstance(result, Lost):
                result = (Read("decoding", result.reason), None)
            read, views = result
            found["views"].append(nothing if views is None else views)
            for name in _READ:
                found[name].append(getattr(read, name))
        return {**batch, **found, "views": np.stack(found["views"])}


class Compute:
    """The second stage: rows of the views."""

    def __init__(self, checkpoint: str, device: str, views: tuple[int, int], top: int) -> None:
        backend = open_backend(checkpoint, device)
        self._work = prediction_work(backend, plan_views(backend, *views), checkpoint, top)

    def __call__(self, batch: Columns) -> Columns:
        began = time.perf_counter()
        views = batch.pop("views")
        good = [row for row, stage in enumerate(batch["stage"]) if not stage]
        batch["stage"], batch["reason"] = list(batch["stage"]), list(batch["reason"])
        values: list[Mapping[str, Any]] = [{}] * len(views)
        if good:
            rows, problems = self._work.compute(np.ascontiguousarray(views[good]))
            for place, row in enumerate(good):
                values[row] = rows[place]
                if place in problems:
                    batch["stage"][row], batch["reason"][row] = "scoring", problems[place]
        blank: Columns = {"label": "", "score": 0.0, "labels": [], "scores": []}
        blank |= {"answer": [], "unknown": False}
        for name, nothing in blank.items():
            batch[name] = [value.get(name, nothing) for value in values]
        seconds = (time.perf_counter() - began) / len(views)
        return {**batch, "computing": np.full(len(views), seconds)}


_READ = ("stage", "reason", "damage", "reading", "decoding")
_ITEM = ("path", "size", "stamp", "archive", "offset", "start", "end", "unit")


def _columns(items: Sequence[Item]) -> Any:
    """Items as a table of Arrow; see :func:`_item`."""
    pa = arrow()
    text, number, time = pa.string(), pa.int64(), pa.float64()
    types = (text, number, text, text, number, time, time, text)
    rows = [
        (i.path, i.size, i.stamp, i.archive, i.offset, *astuple(i.part or Part())) for i in items
    ]
    fields = zip(_ITEM, types, zip(*rows, strict=True), strict=True)
    return pa.table({name: pa.array(values, kind) for name, kind, values in fields})


def _item(row: Mapping[str, Any]) -> Item:
    """An item of a row, whose values may be NumPy's."""
    path, size, stamp, archive, offset, *times, unit = (row[name] for name in _ITEM)
    start, end = (None if t is None or math.isnan(t) else float(t) for t in times)
    part = None if start is end is None else Part(start, end, unit)
    return Item(str(path), int(size), str(stamp), str(archive), int(offset), part)


def run_on_ray(
    checkpoint: str,
    words: Sequence[str],
    out: str | os.PathLike[str],
    *,
    address: str | None = None,
    device: str = "auto",
    views: tuple[int, int] = (1, 1),
    top: int = 5,
    timeout: float = TIME_LIMIT,
    retry: bool = False,
) -> Summary:
    """As :func:`smnet.corpus.run.run_corpus`, on a Ray cluster.

    Decoding and network are stages of their own, so CPUs and GPUs are both kept busy. The rows come
    back to this process, which alone writes ``out``. Workers read the checkpoint and the videos by
    the same paths or addresses.

    Args:
        checkpoint: a file or address that every worker can read.
        words: see :func:`smnet.corpus.items.list_items`.
        out: the folder of the results.
        address: of the cluster, ``"auto"`` for the one of this machine; None starts one here.
        device: of the network.
        views: (clips, crops) averaged per video.
        top: classes per video.
        timeout: seconds per video.
        retry: try unreadable files again.

    Raises:
        UserError: Ray is not installed, or as :func:`smnet.corpus.run.run_corpus`.
    """
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    # Workers have other working folders. A name or an address stays as it is.
    file = str(Path(checkpoint).absolute()) if Path(checkpoint).exists() else checkpoint
    backend = open_backend(file, "cpu")
    work = prediction_work(backend, plan_views(backend, *views), file, top)
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one of our own
    resources = ray.cluster_resources()
    cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    networks = gpus or max(cores // 2, 1)
    used = Utilisation(threads=max(cores - networks, 1))
    summary = Summary(used=used)
    size = int(np.prod(work.plan.shape))

    def found(items: Iterator[Item]) -> Iterator[Found]:
        while block := list(islice(items, BLOCK)):
            began = time.perf_counter()
            settings = (file, device, views, top, timeout)
            for row in _rows(ray, block, settings, size, used.threads, networks, gpus > 0):
                read = Read(*(row[name] for name in _READ))
                used.reading += read.reading
                used.decoding += read.decoding
                used.inference += row["computing"] / networks
                used.clips += not read.stage
                used.failed += bool(read.stage)
                yield _item(row), read, {field.name: row[field.name] for field in fields}
            used.elapsed += time.perf_counter() - began
            used.waiting = max(used.elapsed - used.inference, 0.0)

    fields = [field for field in work.task.columns if field.name != "damage"]
    complete(work.task, words, out, summary, found, retry=retry)
    return summary


def _rows(
    ray: Any,
    items: Sequence[Item],
    settings: tuple[Any, ...],
    size: int,
    decoders: int,
    networks: int,
    gpus: bool,
) -> Iterator[Mapping[str, Any]]:
    """Rows of items, of ``size`` bytes each when decoded.

    Ray decodes no further ahead than its memory for blocks holds.
    """
    checkpoint, device, views, top, timeout = settings
    blocks = max(len(items) // TASK, min(len(items) // BATCH, 4 * (decoders + networks)), 1)
    dataset = ray.data.from_arrow(_columns(items), override_num_blocks=blocks)
    dataset = dataset.map_batches(
        Decode,
        fn_constructor_args=(checkpoint, views, timeout),
        batch_size=min(max(ROOM // size, 1), TASK),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=decoders),
        num_cpus=1,
    ).map_batches(
        Compute,
        fn_constructor_args=(checkpoint, device, views, top),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=networks),
        **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
    )
    yield from dataset.iter_rows()
