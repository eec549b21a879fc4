"""Whether the loader keeps up with the network: clips a second made against clips a second eaten.

The second part of ``benchmarks/decode.py``: a tree of films, and the same films packed by ``smnet
data pack``, go through the loader of training; a model takes training steps at the same size.
"""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.loading.dataset import ClipDataset, TrainBatches
from smnet.data.loading.loader import ClipLoader
from smnet.data.loading.views import ViewPlan
from smnet.data.packing.pack import pack_clips
from smnet.models import create_model, to_channels_last
from smnet.system import keep_freed_memory


def make_tree(films: list[Path], folder: Path, copies: int) -> Path:
    """A data set of two classes, whose clips are so many links to each film."""
    for label in ("a", "b"):
        (folder / "train" / label).mkdir(parents=True)
    for number, film in enumerate(films * copies):
        name = f"{number}{film.suffix}"
        (folder / "train" / "ab"[number % 2] / name).symlink_to(film.resolve())
    return folder


def pack_tree(tree: Path, folder: Path) -> Path:
    """The same films packed; equal ones are stored as often as they are listed."""
    shutil.rmtree(folder, ignore_errors=True)
    pack_clips(ClipSource(tree, val_fraction=0.01), folder)
    return folder


def made(data: Path, workers: int, size: int, batch: int, epochs: int) -> float:
    """Clips a second out of the loader of training; median of epochs after the first."""
    clips = read_clips(ClipSource(data, val_fraction=0.01)).splits["train"]
    plan = ViewPlan(size=size, short_side=round(size * 256 / 224), train=True)
    batches = TrainBatches(len(clips), batch, seed=0)
    loader = ClipLoader(ClipDataset(clips, plan), batches, workers)
    rates = []
    for epoch in range(epochs + 1):
        batches.set(epoch)
        began, count = time.perf_counter(), 0
        for part in loader:
            count += len(part.labels)
        if epoch:  # the first starts the workers
            rates.append(count / (time.perf_counter() - began))
    return statistics.median(rates)


def eaten(name: str, size: int, batch: int, threads: int, steps: int) -> float:
    """Clips a second of training steps on random clips; median of steps after the first."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = create_model(name, 174).to(device)
    to_channels_last(model)
    model.train()
    clips = torch.randn(batch, model.spec.frames_per_clip, 3, size, size, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    times = []
    for step in range(steps + 1):
        began = time.perf_counter()
        F.cross_entropy(model(clips), labels).backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if step:
            times.append(time.perf_counter() - began)
    return batch / statistics.median(times)
