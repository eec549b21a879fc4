"""Vectors of many videos, or of each window of recordings, as a table."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.corpus.items import Item
from smnet.corpus.run import Task, Work, settings_of
from smnet.data.clips import Part
from smnet.data.loading.views import ViewPlan
from smnet.data.open import probe
from smnet.data.packed.storage import arrow
from smnet.embed.index import TABLE, Index
from smnet.errors import UserError
from smnet.inference.backends import Backend
from smnet.inference.pipeline import Rows
from smnet.inference.vectors import vectors_of

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


def windows(items: Iterable[Item], every: float, length: float) -> Iterator[Item]:
    """Windows of recordings as items: one each ``every`` seconds, ``length`` seconds long.

    The last window ends with the recording. A file that cannot be opened is an item of its own, so
    it is reported.
    """
    for item in items:
        try:
            with item.readable() as content:
                seconds = probe(content).duration if isinstance(content, str) else None
        except UserError:
            seconds = None
        if seconds is None or seconds <= length:
            yield item
            continue
        count = max(math.ceil((seconds - length) / every - 1e-9), 0) + 1
        for number in range(count):
            start = min(number * every, seconds - length)
            yield replace(item, part=Part(round(start, 6), round(start + length, 6)))


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
