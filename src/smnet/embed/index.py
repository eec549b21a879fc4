"""An index of vectors: nearest videos by example, and near-duplicates.

Vectors are standardised by the index's own mean and deviation per value, so that no block and no
channel counts more than another, and compared by their cosine. The search is exact: a matrix
product over blocks of the index. :mod:`smnet.embed.approximate` is for more than a million vectors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Part, part_name
from smnet.data.packed.storage import arrow
from smnet.errors import UserError
from smnet.files import atomic_path
from smnet.inference.vectors import WEIGHTS

TABLE = "embeddings.parquet"
"""Name of the table of vectors in the folder of an index."""
BLOCK = 4096
"""Vectors compared at once."""


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


def table_of(place: str | Path) -> Path:
    """The table of vectors in the folder of an index, or the table itself."""
    path = Path(place)
    return path / TABLE if path.is_dir() else path


class Index:
    """Vectors with the videos that they are of.

    Attributes:
        paths: the videos.
        parts: their parts; None is all of a video.
        settings: of the run that made the vectors.
    """

    def __init__(
        self,
        vectors: NDArray[np.floating],
        paths: Sequence[str],
        parts: Sequence[Part | None] | None = None,
        settings: dict[str, Any] | None = None,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        """Keep vectors (N, D) as they are, in float16 or float32.

        Args:
            vectors: of the videos, in blocks of equal size.
            paths, parts, settings: see the attributes.
            weights: of the blocks in a comparison.
        """
        if not len(vectors):
            raise UserError("an empty index: no video has a vector")
        self.paths, self.parts = list(paths), list(parts or [None] * len(paths))
        self.settings = settings or {}
        self._vectors = vectors
        count = len(vectors)
        # From the first vector on, so that values that hardly change lose no digits.
        first, sums = self._wide(0)[0], np.zeros(vectors.shape[1])
        squares = np.zeros_like(sums)
        for at in range(0, count, BLOCK):
            block = self._wide(at) - first
            ones = np.ones(len(block), np.float32)
            sums += ones @ block
            squares += ones @ np.square(block)
        self._mean = np.asarray(first + sums / count, np.float32)
        spread = np.maximum(squares / count - np.square(sums / count), 0)
        deviation = np.asarray(np.sqrt(spread), np.float32)
        # A value that is the same in all videos says nothing, and a single video has no deviation.
        constant = deviation <= 1e-6 * np.abs(self._mean).max(initial=1e-6)
        self._scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation)).astype(np.float32)
        size = vectors.shape[1] // len(weights)
        self._scale *= np.repeat(np.asarray(weights, np.float32), size)
        if count == 1:
            self._mean, self._scale = np.zeros_like(self._mean), np.ones_like(self._scale)

    @classmethod
    def load(cls, folder: str | Path) -> Index:
        """Read the table of vectors that ``smnet embed`` wrote.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        arrow("find")
        import pyarrow.parquet as pq
        from pyarrow import ArrowException

        path = table_of(folder)
        if not path.is_file():
            raise UserError(f"{folder}: no {TABLE}; make one with: smnet embed CHECKPOINT VIDEOS")
        try:
            with path.open("rb") as file, pq.ParquetFile(file) as table:
                width = getattr(table.schema_arrow.field("vector").type, "list_size", 0)
                if width < 1 or width % len(WEIGHTS):
                    raise ValueError(f"vectors of {width} values")
                vectors = np.empty((table.metadata.num_rows, width), np.float16)
                paths: list[str] = []
                parts: list[Part | None] = []
                # A batch at a time: whole columns would be in memory twice.
                for batch in table.iter_batches(BLOCK, columns=["path", *_PART, "vector"]):
                    flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                    vectors[len(paths) : len(paths) + len(batch)] = flat.reshape(-1, width)
                    paths += batch.column("path").to_pylist()
                    times = zip(*(batch.column(name).to_pylist() for name in _PART), strict=True)
                    parts += [None if s is e is None else Part(s, e, u) for s, e, u in times]
                settings = json.loads((table.schema_arrow.metadata or {}).get(b"settings", b"{}"))
        except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a table of vectors ({error})") from None
        return cls(vectors, paths, parts, settings, WEIGHTS)

    def save_npz(self, file: str | Path) -> None:
        """Write the vectors as a NumPy archive, atomically.

        Its arrays are ``vectors`` (N, D), ``paths`` (N,), ``starts`` and ``ends`` (N,) of parts in
        their ``units``, NaN where a part has no border, and ``settings``, a text of JSON with the
        checkpoint's SHA-256.

        Raises:
            UserError: it cannot be written.
        """
        borders = {
            side: np.array([_number(getattr(part, side, None)) for part in self.parts])
            for side in ("start", "end")
        }
        with atomic_path(file) as temporary, temporary.open("wb") as opened:
            np.savez(
                opened,
                vectors=self._vectors,
                paths=np.array(self.paths),
                starts=borders["start"],
                ends=borders["end"],
                units=np.array([getattr(part, "unit", "") for part in self.parts]),
                settings=np.array(json.dumps(self.settings)),
            )

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """A video, or a part of one, in words."""
        return part_name(self.paths[row], self.parts[row])

    def rows_of(self, path: str) -> list[int]:
        """The rows of a video."""
        names = (path, os.path.abspath(path))  # noqa: PTH100, which resolves no links
        return [row for row, known in enumerate(self.paths) if known in names]

    def unit(self, rows: Sequence[int] | slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Standardised vectors of rows, of length 1."""
        return self.standardised(self._vectors[rows])

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """:meth:`unit` of all rows, :data:`BLOCK` at a time."""
        for at in range(0, len(self), BLOCK):
            yield self.unit(slice(at, at + BLOCK))

    def find(
        self,
        like: NDArray[np.floating],
        unlike: NDArray[np.floating] | None = None,
        count: int = 10,
        leave_out: Sequence[int] = (),
        candidates: Callable[[NDArray[np.float32], int], NDArray[np.int64]] | None = None,
    ) -> list[Match]:
        """The nearest videos, best first.

        Args:
            like: standardised vectors (M, D) of examples; several are averaged.
            unlike: the same of counterexamples.
            count: of videos.
            leave_out: rows that are not found, such as those of the examples.
            candidates: maps the query (D,) and a number to the rows that are compared, as
                :class:`smnet.embed.approximate.Approximate` does; None compares all.
        """
        query = np.asarray(np.atleast_2d(like).mean(0), np.float32)
        if unlike is not None and len(unlike):
            query = query - np.atleast_2d(unlike).mean(0)
        if candidates is None:
            rows = np.arange(len(self))
            scores = np.concatenate([block @ query for block in self.blocks()])
        else:
            rows = candidates(query, count + len(leave_out))
            scores = self.unit(rows) @ query
        wanted = ~np.isin(rows, list(leave_out))
        rows, scores = rows[wanted], scores[wanted]
        order = np.argsort(-scores, kind="stable")[:count]
        return [
            Match(int(row), self.paths[row], self.parts[row], float(score))
            for row, score in zip(rows[order], scores[order], strict=True)
        ]

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

        for at in range(0, len(self), BLOCK):
            block = self.unit(slice(at, at + BLOCK))
            for below in range(at, len(self), BLOCK):
                close = block @ self.unit(slice(below, below + BLOCK)).T
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
        for at in range(0, len(several), BLOCK):
            rows = several[at : at + BLOCK]
            wanted = self.unit(rows)
            close = np.concatenate([wanted @ block.T for block in self.blocks()], axis=1)
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

    def _wide(self, at: int) -> NDArray[np.float32]:
        return np.asarray(self._vectors[at : at + BLOCK], np.float32)


_PART = ("start", "end", "unit")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
