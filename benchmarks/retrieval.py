"""Finding videos of the same class by their vectors, with classes that the network never saw.

    python benchmarks/retrieval.py motion DATA...

Every clip of a data set is an example once, and the others are searched: recall@k is the share of
examples with a clip of their class among the k nearest. By chance, a clip of the class is among k
drawn ones. The blocks of the vector are measured one after another. ``reversed``: every clip is
also embedded backwards; the share whose nearest among all clips and its own reversal is that
reversal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common import parse, parser, publish, table
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.clips import Clip
from smnet.data.workers.prefetch import Prefetcher
from smnet.embed.index import Index
from smnet.inference.backends import Backend, open_backend, plan_views
from smnet.inference.vectors import WEIGHTS, pooled

BLOCKS = {"mean": (0,), "mean, deviation": (0, 1), "mean, deviation, direction": (0, 1, 2)}
COUNTS = (1, 5, 10)


def embed(backend: Backend, clips: list[Clip]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors (N, 3, C) of clips, and of the clips backwards."""
    plan = plan_views(backend)
    both: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    with Prefetcher(lambda clip: backend.read(clip.path, plan, None, clip.part), 1) as ahead:
        jobs = [ahead.submit(clip) for clip in clips]
        for job in jobs:
            views = ahead.result(job)[None]
            f = backend.features(views)
            b = backend.features(np.ascontiguousarray(views[:, :, ::-1]))
            both[0].append(pooled(f, b)[0, 0])
            both[1].append(pooled(b, f)[0, 0])
    forwards, backwards = (np.stack(found).reshape(len(clips), 3, -1) for found in both)
    return forwards, backwards


def by_chance(labels: NDArray[np.int64], count: int) -> float:
    """Recall@k of random neighbours, without replacement."""
    total, hits = len(labels), 0.0
    for label in labels:
        others = total - int((labels == label).sum())
        misses = np.arange(count)
        hits += 1 - float(np.prod((others - misses).clip(0) / (total - 1 - misses)))
    return hits / total


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint")
    arguments.add_argument("data", nargs="+", help="data sets with labels")
    arguments.add_argument("--split", default="all", help="train, val, test or all")
    given = parse(arguments)
    torch.set_num_threads(1)
    backend = open_backend(given.checkpoint, "cpu")
    rows = []
    for data in given.data:
        splits = read_clips(ClipSource(data)).splits
        names = splits if given.split == "all" else (given.split,)
        clips = [clip for name in names for clip in splits[name]]
        labels = np.array([clip.label for clip in clips])
        forwards, backwards = embed(backend, clips)
        title = f"{Path(data).name} ({len(clips)} clips, {len(set(labels.tolist()))} classes)"
        chance = [f"{by_chance(labels, k):.1%}" for k in COUNTS]
        rows.append([title, "by chance", *chance, ""])
        for name, blocks in BLOCKS.items():
            width = list(blocks)
            vectors = forwards[:, width].reshape(len(clips), -1)
            weights = [WEIGHTS[block] for block in blocks]
            index = Index(vectors, [c.path for c in clips], weights=weights)
            found = index.recall(labels.tolist(), COUNTS)
            own = index.unit(slice(None))
            mirrored = index.standardised(backwards[:, width].reshape(len(clips), -1))
            close = own @ own.T
            np.fill_diagonal(close, -np.inf)
            nearest = float((np.einsum("nd,nd->n", own, mirrored) >= close.max(1)).mean())
            rows.append(["", name, *(f"{found[k]:.1%}" for k in COUNTS), f"{nearest:.0%}"])
            print(rows[-1], flush=True)
    header = ["data", "vector", *(f"recall@{k}" for k in COUNTS), "reversed is nearest"]
    publish(given, "retrieval", f"Held-out classes, {given.checkpoint}", table(header, rows))


if __name__ == "__main__":
    main()
