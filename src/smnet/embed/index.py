"""An index of vectors: nearest videos by example, and near-duplicates.

Vectors are standardised by the index's own mean and deviation per value, so that no block and no
channel counts more than another, and compared by their cosine. The search is exact. Up to about a
million vectors it is one matrix product; beyond that faiss can search the standardised vectors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Part, part_name
from smnet.data.packed.storage import arrow
from smnet.errors import UserError

TABLE = "embeddings.parquet"
"""Name of the table of vectors in the folder of an index."""
_BLOCK = 4096  # vectors compared at once


@dataclass(frozen=True)
class Match:
    """A video that was found.

    Attributes:
        row: its row in the index.
        path: the video.
        part: of a recording; None is all of it.
        score: cosine to the examples, in [-1, 1]; with counterexamples, less the cosine to these.
    """

    row: int
    path: str
    part: Part | None
    score: float

    @property
    def name(self) -> str:
        """The video, or the part of it, in words."""
        return part_name(self.path, self.part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        part = {} if self.part is None else {"start": self.part.start, "end": self.part.end}
        return {"path": self.path, **part, "score": round(self.score, 6)}


class Index:
    """Vectors with the videos that they are of.

    Attributes:
        paths: the videos.
        parts: their parts; None is all of a video.
        settings: of the run that made the vectors.
        unit: standardised vectors (N, D) float32 of length 1.
    """

    def __init__(
        self,
        vectors: NDArray[np.floating],
        paths: Sequence[str],
        parts: Sequence[Part | None] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Standardise vectors (N, D)."""
        if not len(vectors):
            raise UserError("an empty index: no video has a vector")
        self.paths, self.parts = list(paths), list(parts or [None] * len(paths))
        self.settings = settings or {}
        wide = np.asarray(vectors, np.float32)
        self._mean, deviation = wide.mean(0), wide.std(0)
        # A value that is the same in all videos says nothing, and a single video has no deviation.
        constant = deviation <= 1e-6 * np.abs(self._mean).max(initial=1e-6)
        self._scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation))
        if len(wide) == 1:
            self._mean, self._scale = np.zeros_like(self._mean), np.ones_like(self._scale)
        self.unit = self.standardised(wide)

    @classmethod
    def load(cls, folder: str | Path) -> Index:
        """Read the table of vectors that ``smnet embed`` wrote.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        arrow()
        import pyarrow.parquet as pq
        from pyarrow import ArrowException

        path = Path(folder)
        path = path / TABLE if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"{folder}: no {TABLE}; make one with: smnet embed CHECKPOINT VIDEOS")
        try:
            table = pq.read_table(path)
            flat = table.column("vector").combine_chunks().flatten()
            vectors = flat.to_numpy(zero_copy_only=False).reshape(len(table), -1)
            times = zip(*(table.column(name).to_pylist() for name in _PART), strict=True)
            settings = json.loads((table.schema.metadata or {}).get(b"settings", b"{}"))
        except (ArrowException, OSError, KeyError, ValueError) as error:
            raise UserError(f"{path}: not a table of vectors ({error})") from None
        parts = [None if start is end is None else Part(start, end, u) for start, end, u in times]
        return cls(vectors, table.column("path").to_pylist(), parts, settings)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """A video, or a part of one, in words."""
        return part_name(self.paths[row], self.parts[row])

    def rows_of(self, path: str) -> list[int]:
        """The rows of a video."""
        names = (path, os.path.abspath(path))  # noqa: PTH100, which resolves no links
        return [row for row, known in enumerate(self.paths) if known in names]

    def find(
        self,
        like: NDArray[np.floating],
        unlike: NDArray[np.floating] | None = None,
        count: int = 10,
        leave_out: Sequence[int] = (),
    ) -> list[Match]:
        """The nearest videos, best first.

        Args:
            like: standardised vectors (M, D) of examples; several are averaged.
            unlike: the same of counterexamples.
            count: of videos.
            leave_out: rows that are not found, such as those of the examples.
        """
        query = np.atleast_2d(like).mean(0)
        if unlike is not None and len(unlike):
            query = query - np.atleast_2d(unlike).mean(0)
        scores = np.concatenate(
            [self.unit[at : at + _BLOCK] @ query for at in range(0, len(self), _BLOCK)]
        )
        scores[list(leave_out)] = -np.inf
        order = np.argsort(-scores, kind="stable")[: min(count, len(self) - len(set(leave_out)))]
        return [Match(int(i), self.paths[i], self.parts[i], float(scores[i])) for i in order]

    def duplicates(self, threshold: float = 0.95) -> list[list[int]]:
        """Groups of rows whose vectors have a cosine of at least ``threshold``, largest first.

        Two rows are in one group if a chain of such pairs joins them.
        """
        parent = np.arange(len(self))

        def root(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = int(parent[i])
            return i

        for at in range(0, len(self), _BLOCK):
            for below in range(at, len(self), _BLOCK):
                close = self.unit[at : at + _BLOCK] @ self.unit[below : below + _BLOCK].T
                for i, j in np.argwhere(close >= threshold):
                    if at + i < below + j:
                        parent[root(int(below + j))] = root(int(at + i))
        groups: dict[int, list[int]] = {}
        for row in range(len(self)):
            groups.setdefault(root(row), []).append(row)
        found = [members for members in groups.values() if len(members) > 1]
        return sorted(found, key=lambda members: (-len(members), members))

    def recall(self, labels: Sequence[Any], counts: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
        """Recall@k: the share of rows with one of the same label among their k nearest others.

        Rows whose label is unique have none to find and are left out.

        Args:
            labels: of the rows.
            counts: the values of k.
        """
        _, numbers = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
        several = np.flatnonzero(np.bincount(numbers)[numbers] > 1)
        if not len(several):
            raise UserError("no label occurs twice, so there is nothing to find")
        hits = dict.fromkeys(counts, 0)
        for at in range(0, len(several), _BLOCK):
            rows = several[at : at + _BLOCK]
            close = self.unit[rows] @ self.unit.T
            close[np.arange(len(rows)), rows] = -np.inf
            order = np.argsort(-close, axis=1, kind="stable")[:, : max(counts)]
            same = numbers[order] == numbers[rows][:, None]
            for k in counts:
                hits[k] += int(same[:, :k].any(1).sum())
        return {k: hits[k] / len(several) for k in counts}

    def standardised(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Vectors (M, D) on the scale of the index, with length 1."""
        scaled = (np.asarray(vectors, np.float32) - self._mean) * self._scale
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (scaled / np.maximum(length, 1e-12)).astype(np.float32)
        return unit


_PART = ("start", "end", "unit")
