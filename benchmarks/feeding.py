"""Whether the loader keeps up with the network: clips per second loaded and trained.

The second part of ``benchmarks/decode.py``: a tree of videos, and the same videos packed by ``smnet
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
from smnet.models import accelerate, create_model, to_channels_last
from smnet.system import keep_freed_memory


def make_tree(videos: list[Path], folder: Path, copies: int) -> Path:
    """A data set of two classes; each video is linked ``copies`` times."""
    for label in ("a", "b"):
        (folder / "train" / label).mkdir(parents=True)
    for number, video in enumerate(videos * copies):
        name = f"{number}{video.suffix}"
        (folder / "train" / "ab"[number % 2] / name).symlink_to(video.resolve())
    return folder


def pack_tree(tree: Path, folder: Path) -> Path:
    """Pack the data set; repeated videos are stored repeatedly."""
    shutil.rmtree(folder, ignore_errors=True)
    pack_clips(ClipSource(tree, val_fraction=0.01), folder)
    return folder


def loaded(data: Path, workers: int, size: int, batch: int, epochs: int) -> float:
    """Clips per second of the training loader; median of the epochs after the first."""
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


def trained(name: str, size: int, batch: int, threads: int, steps: int) -> float:
    """Clips per second of training steps on random clips; median of the steps after the first."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = accelerate(create_model(name, 174), "training").to(device)
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
