"""Approximate search with faiss, for more than a million vectors.

faiss proposes candidates from a smaller copy of the vectors: projected to the directions in which
they are longest, in 8 bits, in lists of near ones of which a part is looked at. The candidates are
then compared exactly. Only the copy is approximate: a near video may be missed, and no score is
wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.embed.index import Index
from smnet.errors import missing_extra
from smnet.files import atomic_path

MANY = 1_000_000
"""Vectors beyond which ``smnet find`` searches in this way."""
FILE = "nearest.faiss"
DIMENSIONS = 64
"""Of the projected vectors."""
CANDIDATES = 200
"""Compared exactly per video that is wanted; at least 1,000."""

_SAMPLE = 50_000  # vectors from which directions and lists are learned
_LOOKED_AT = 16  # one list in so many


class Approximate:
    """Candidates for :meth:`smnet.embed.index.Index.find`.

    Args:
        index: the vectors.
        table: of the vectors. Its folder keeps the copy, which is made again if it is older.

    Raises:
        UserError: faiss is not installed.
    """

    def __init__(self, index: Index, table: Path) -> None:
        try:
            import faiss
        except ImportError as error:
            raise missing_extra("faiss", "find") from error
        file = table.with_name(FILE)
        fresh = file.exists() and file.stat().st_mtime_ns >= table.stat().st_mtime_ns
        self._copy: Any = faiss.read_index(str(file)) if fresh else None
        if self._copy is None or self._copy.ntotal != len(index):
            self._copy = _make(faiss, index)
            with atomic_path(file) as temporary:
                faiss.write_index(self._copy, str(temporary))
        lists = faiss.extract_index_ivf(self._copy)
        lists.nprobe = max(lists.nlist // _LOOKED_AT, 1)

    def __call__(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows that may be the nearest to a query (D,)."""
        wanted = min(max(CANDIDATES * count, 1000), self._copy.ntotal)
        _, rows = self._copy.search(query[None], wanted)
        return np.asarray(rows[0][rows[0] >= 0], np.int64)


def _make(faiss: Any, index: Index) -> Any:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(index), min(_SAMPLE, len(index)), replace=False))
    sample = index.unit(rows)
    size = min(DIMENSIONS, sample.shape[1])
    _, directions = np.linalg.eigh(sample.T @ sample)
    projection = faiss.LinearTransform(sample.shape[1], size, False)
    faiss.copy_array_to_vector(
        np.ascontiguousarray(directions[:, -size:].T, np.float32).ravel(), projection.A
    )
    projection.is_trained = True
    lists = max(min(round(4 * len(index) ** 0.5), len(sample) // 40), 1)
    inner = faiss.index_factory(size, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    inner.train(np.ascontiguousarray(projection.apply(sample)))
    made = faiss.IndexPreTransform(projection, inner)
    for block in index.blocks():
        made.add(block)
    return made
