"""How the cost of a model grows: with segments, the size of the crop, the batch; and how fast its
clips are read with more workers.

    python benchmarks/scaling.py
    python benchmarks/scaling.py smnet_resnet18 --segments 4,8,16 --sizes 112,224 --batches 1,2

From one point (8 segments, 112 pixels, one clip, unless told otherwise) each quantity is varied
alone. Time is CPU time of one thread, the points taking turns, medians; memory is what autograd
keeps between forward and backward. All are ratios to that point, beside the multiply-adds' own.

Workers read H.264 and VP9 films and JPEG folders (``films.py``) as training does: clips a second,
as a ratio to reading in the process that trains (0 workers).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from common import RESULTS, keep, table
from cost import forward, train_step
from feeding import made, make_tree
from films import make_films
from smnet.experiments.profile import saved_for_backward
from smnet.models import VideoModel, create_model, multiply_adds, to_channels_last
from smnet.system import keep_freed_memory

Point = tuple[int, int, int]
"""Segments, side of the crop in pixels, clips in the batch."""


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smnet_resnet50")
    parser.add_argument("--segments", type=numbers, default=[4, 8, 16, 32])
    parser.add_argument("--sizes", type=numbers, default=[112, 160, 224, 288])
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4])
    parser.add_argument("--at", type=numbers, default=[8, 112, 1], help="SEGMENTS,SIZE,BATCH")
    parser.add_argument("--workers", type=numbers, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    segments, size, batch = given.at
    base: Point = (segments, size, batch)
    points = dict.fromkeys(
        [
            base,
            *((s, size, batch) for s in given.segments),
            *((segments, s, batch) for s in given.sizes),
            *((segments, size, b) for b in given.batches),
        ]
    )
    models: dict[int, VideoModel] = {}
    for count, _, _ in points:
        if count not in models:
            models[count] = create_model(given.model, 174, count)
            to_channels_last(models[count])
    clips = {p: torch.randn(p[2], models[p[0]].spec.frames_per_clip, 3, p[1], p[1]) for p in points}
    found = {}
    for name, do in (("forward", forward), ("train", train_step)):
        times: dict[Point, list[float]] = {p: [] for p in points}
        for turn in range(given.rounds + 1):
            for point in points:
                began = time.process_time()
                do(models[point[0]], clips[point])
                if turn:  # the first round warms up
                    times[point].append(time.process_time() - began)
        found[name] = {p: statistics.median(t) for p, t in times.items()}
    found["multiply-adds"] = {p: p[2] * multiply_adds(models[p[0]], size=p[1]) for p in points}
    found["memory"] = {
        p: p[2] * saved_for_backward(models[p[0]], p[1], torch.device("cpu")) for p in points
    }
    rows = [
        {"segments": p[0], "size": p[1], "batch": p[2]}
        | {name: values[p] / values[base] for name, values in found.items()}
        for p in points
    ]
    header = ["segments", "size", "batch", *found]
    cells = [[f"{v:.2f}" if k in found else str(v) for k, v in row.items()] for row in rows]
    print(f"{given.model}: ratios to {segments} segments, {size} pixels, batch {batch}\n")
    print(table(header, cells))
    read = reading(given.workers, size, given.rounds)
    print(f"\nclips a second, ratios to {given.workers[0]} workers\n")
    print(table(["workers", "clips a second"], [[str(n), f"{v:.2f}"] for n, v in read.items()]))
    keep(given.out, {"model": given.model, "rows": rows, "workers": read})


def reading(workers: list[int], size: int, rounds: int) -> dict[int, float]:
    """Clips a second with each number of workers, of that with the first; medians, in turns."""
    rates: dict[int, list[float]] = {count: [] for count in workers}
    with TemporaryDirectory() as name:
        place = Path(name) / "films"
        place.mkdir()
        films = make_films(place)
        chosen = [films[kind] for kind in ("H.264, GOP 12", "VP9 webm, GOP 60", "JPEG folder")]
        tree = make_tree(chosen, Path(name) / "tree", copies=32)
        for _ in range(rounds):
            for count in workers:
                rates[count].append(made(tree, count, size, batch=8, epochs=1))
    found = {count: statistics.median(r) for count, r in rates.items()}
    return {count: rate / found[workers[0]] for count, rate in found.items()}


if __name__ == "__main__":
    main()
