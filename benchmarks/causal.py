"""What causal costs in accuracy, as clips and as streams, with and without a warm start.

    python benchmarks/causal.py OUT [--seeds N] [--train N] [--val N] [--epochs N] [KEY=VALUE]...
    python benchmarks/causal.py OUT --data CLIPS [--seeds N] [--epochs N] [KEY=VALUE]...

Trains on the drawn set ``motion``, or on other clips: the two-sided model, the causal one, and the
causal one whose state is warm in training (``warm=8``). All are evaluated on the held-back clips by
themselves, and on streams: all clips one after another with still gaps between them, the state
never reset, the answer to a clip being the mean of the logits of its T frames. A two-sided model
scores the windows that coincide with the clips. Existing runs are not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smnet.checkpoints.file import load
from smnet.checkpoints.metadata import view_plan
from smnet.data.annotations.read import ClipSet, read_clips
from smnet.data.loading.dataset import read_views
from smnet.data.loading.transforms import normalise
from smnet.data.synthetic.motion import write_motion
from smnet.models import VideoModel, accelerate
from smnet.recipes.recipe import read_recipe
from smnet.training.loop import train

KINDS = {
    "two-sided": [],
    "causal": ["options.causal=true"],
    "causal, warm=8": ["options.causal=true", "warm=8"],
}
STREAMS = 16
"""Streams that are stepped together."""
GAP = (2, 12)
"""Frames of a gap, from and to."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", help="clips with a split val; default: drawn motion")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=480)
    parser.add_argument("--val", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    data = given.data or str(given.out / "motion")
    if not given.data:
        write_motion(data, train=given.train, val=given.val, size=64, workers=1)
    clips = read_clips(data)
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for seed in range(given.seeds):
        for kind, keys in KINDS.items():
            folder = given.out / f"{kind.replace(', ', '-').replace('=', '')}-{seed}"
            changes = [f"epochs={given.epochs}", f"seed={seed}", "workers=0", *keys, *given.keys]
            recipe = read_recipe("motion", changes, {"data": data})
            last = folder / "last.safetensors"
            if not last.exists() or (folder / "resume.pt").exists():
                train(recipe, folder, resume=(folder / "resume.pt").exists())
            found[kind].append(accuracies(load(last), clips, seed))
            print(seed, kind, *(f"{value:.1%}" for value in found[kind][-1]), flush=True)
    print("| model | clips | streams |\n| --- | --- | --- |")
    for kind, rows in found.items():
        cells = " | ".join(_cell(column) for column in zip(*rows, strict=True))
        print(f"| {kind} | {cells} |")


def _cell(values: tuple[float, ...]) -> str:
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f} %{spread}"


@torch.inference_mode()
def accuracies(model: VideoModel, clips: ClipSet, seed: int) -> tuple[float, float]:
    """Top-1 of held-back clips by themselves, and in streams."""
    plan = view_plan(model.spec)
    rows = clips.splits["val"]
    views = torch.stack([read_views(clip.path, plan)[0] for clip in rows])
    labels = np.array([clip.label for clip in rows])
    network = accelerate(model, "inference")
    logits = torch.cat([network(_input(model, part)) for part in views.split(STREAMS)])
    alone = float((logits.argmax(1).numpy() == labels).mean())
    if not model.spec.options.get("causal"):
        return alone, alone  # the windows that coincide with the clips are the clips
    found = stream_logits(network, views, np.random.default_rng(seed)).argmax(1)
    return alone, float((found == labels).mean())


def stream_logits(
    network: VideoModel, views: Tensor, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Logits (N, K) of clips (N, T*L, 3, h, w) that are shown in streams, in a random order."""
    count, length = len(views), network.spec.num_segments
    segments = views.unflatten(1, (length, -1))  # (N, T, L, 3, h, w)
    order = rng.permutation(count)
    order = np.concatenate([order, order[: -count % STREAMS]]).reshape(-1, STREAMS)
    state = network.initial_state(STREAMS)
    found = np.zeros((count, network.spec.num_classes), np.float32)
    step: Callable[..., tuple[Tensor, dict[str, Tensor]]] = network.step
    for row in order:
        still = _input(network, segments[rng.integers(count, size=STREAMS), 0, :1])
        still = still.expand(-1, segments.shape[2], -1, -1, -1)
        for _ in range(rng.integers(*GAP, endpoint=True)):
            _, state = step(still, state)
        total = torch.zeros(STREAMS, network.spec.num_classes)
        for t in range(length):
            logits, state = step(_input(network, segments[row, t]), state)
            total += logits
        found[row] = total / length
    return found


def _input(model: VideoModel, frames: Tensor) -> Tensor:
    return normalise(frames, model.spec.mean, model.spec.std)


if __name__ == "__main__":
    main()
