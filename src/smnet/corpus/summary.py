"""What is in the merged tables of a corpus, read a batch at a time."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smnet.corpus.folder import Folder
from smnet.corpus.results import LOST
from smnet.data.clips import Part

BINS = 10
"""Of the histogram of scores."""
_ROWS = 4096

Sample = tuple[str, Part | None, float]
"""A video, its part and its score."""


@dataclass
class Contents:
    """Counts over a corpus.

    Attributes:
        counts: videos per class.
        scores: histogram of the best scores, over :data:`BINS` bins of [0, 1].
        samples: per class, the most and the least certain video, and the first.
        reasons: unreadable files per stage and reason, most frequent first.
    """

    counts: Counter[str] = field(default_factory=Counter)
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


def contents(folder: Folder) -> Contents:
    """The contents of ``predictions.parquet`` and ``unreadable.parquet`` in a folder."""
    import pyarrow.parquet as pq

    found = Contents()
    names = ["path", "start", "end", "unit", "label", "score", "unknown"]
    with folder.open("predictions.parquet") as file, pq.ParquetFile(file) as table:
        for batch in table.iter_batches(_ROWS, columns=names):
            scores = np.asarray(batch.column("score"))
            found.scores += np.histogram(scores, BINS, (0, 1))[0]
            for row in batch.to_pylist():
                label = "unknown" if row["unknown"] else row["label"]
                found.counts[label] += 1
                part = Part(row["start"], row["end"], row["unit"]) if row["unit"] else None
                _keep(found.samples.setdefault(label, []), (row["path"], part, row["score"]))
    reasons: Counter[str] = Counter()
    with folder.open(LOST) as file, pq.ParquetFile(file) as table:
        for batch in table.iter_batches(_ROWS, columns=["path", "stage", "reason"]):
            for row in batch.to_pylist():
                text = row["reason"].removeprefix(f"{row['path']}: ")
                kind = re.sub(r"\b[0-9]+\b", "#", text)[:120]
                reasons[f"{row['stage']}: {kind}"] += 1
    found.reasons = dict(reasons.most_common(30))
    return found


def _keep(samples: list[Sample], sample: Sample) -> None:
    """Keep the first, the least certain and the most certain."""
    if len(samples) < 3:
        samples.append(sample)
        return
    least = min(samples[1], samples[2], sample, key=lambda s: s[2])
    most = max(samples[1], samples[2], sample, key=lambda s: s[2])
    samples[1:] = [least, most]
