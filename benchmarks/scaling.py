"""How the cost of a model grows with segments, crop size and batch; how reading grows with workers.

    python benchmarks/scaling.py
    python benchmarks/scaling.py smnet_resnet18 --segments 4,8,16 --sizes 112,224 --batches 1,2

From one point (8 segments, 112 pixels, one clip by default) each quantity is varied alone. Time is
CPU time of one thread, measured in turns; memory is what autograd keeps between forward and
backward. All figures are ratios to that point.

Workers read H.264 and VP9 files and JPEG folders (``sample_videos.py``) as in training. Clips per
second are relative to reading in the training process (0 workers).
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from common import parse, parser, publish, table
from cost import step
from feeding import made, make_tree
from sample_videos import make_videos
from smnet.experiments.profile import forward_pass, saved_for_backward
from smnet.measure import in_turns
from smnet.models import VideoModel, accelerate, create_model, multiply_adds, to_channels_last
from smnet.system import keep_freed_memory

Point = tuple[int, int, int]
"""Segments, side of the crop in pixels, clips in the batch."""


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("model", nargs="?", default="smnet_resnet50")
    arguments.add_argument("--segments", type=numbers, default=[4, 8, 16, 32])
    arguments.add_argument("--sizes", type=numbers, default=[112, 160, 224, 288])
    arguments.add_argument("--batches", type=numbers, default=[1, 2, 4])
    arguments.add_argument("--at", type=numbers, default=[8, 112, 1], help="SEGMENTS,SIZE,BATCH")
    arguments.add_argument("--workers", type=numbers, default=[0, 1, 2])
    arguments.add_argument("--rounds", type=int, default=5)
    given = parse(arguments)
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
            models[count] = accelerate(create_model(given.model, 174, count), "training")
            to_channels_last(models[count])
    clips = {p: torch.randn(p[2], models[p[0]].spec.frames_per_clip, 3, p[1], p[1]) for p in points}
    calls = [partial(do, models[p[0]], clips[p]) for p in points for do in (forward_pass, step)]
    timings = in_turns(calls, given.rounds, clock="cpu")
    reference = next(iter(points))
    macs = {p: p[2] * multiply_adds(models[p[0]], size=p[1]) for p in points}
    saved = {p: p[2] * saved_for_backward(models[p[0]], p[1], torch.device("cpu")) for p in points}
    cells = [
        [
            *map(str, p),
            str(timings.ratio(2 * k)),
            str(timings.ratio(2 * k + 1, 1)),
            f"{macs[p] / macs[reference]:.2f}",
            f"{saved[p] / saved[reference]:.2f}",
        ]
        for k, p in enumerate(points)
    ]
    header = ["segments", "size", "batch", "forward", "training step", "multiply-adds", "memory"]
    title = f"{given.model}: segments, crop size, batch"
    publish(given, "scaling", title, table(header, cells), timings.warning)
    rates = [[str(n), f"{v:.2f}"] for n, v in reading(given.workers, size, given.rounds).items()]
    publish(given, "scaling", "Reading with workers", table(["workers", "clips per second"], rates))


def reading(workers: list[int], size: int, rounds: int) -> dict[int, float]:
    """Clips per second by number of workers, relative to the first; medians in turns."""
    rates: dict[int, list[float]] = {count: [] for count in workers}
    with TemporaryDirectory() as name:
        place = Path(name) / "videos"
        place.mkdir()
        videos = make_videos(place)
        chosen = [videos[kind] for kind in ("H.264, GOP 12", "VP9 webm, GOP 60", "JPEG folder")]
        tree = make_tree(chosen, Path(name) / "tree", copies=32)
        for _ in range(rounds):
            for count in workers:
                rates[count].append(made(tree, count, size, batch=8, epochs=1))
    medians = {count: statistics.median(r) for count, r in rates.items()}
    return {count: rate / medians[workers[0]] for count, rate in medians.items()}


if __name__ == "__main__":
    main()
