"""Clips as tensors: the dataset, its batches, and the order in which they come.

Every sample's randomness is a function of (seed, epoch, index) alone, so what a run sees depends
neither on the number of workers nor on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from smnet.data.annotations.read import Clip
from smnet.data.loading.transforms import protocol_views, train_view
from smnet.data.loading.views import Damage, ViewPlan, pillow_views, read_frames
from smnet.data.packed.read import frames_kept
from smnet.errors import UserError

Key = tuple[int, int]
"""(epoch, index of the clip)."""


@dataclass
class Sample:
    """One video: its views (V, T*L, 3, h, w) uint8 and what was lost of them, or why there are
    none."""

    index: int
    label: int
    views: Tensor | None
    problem: str = ""
    damage: str = ""


@dataclass
class Batch:
    """Videos that could be read, side by side, and the problems of those that could not.

    Attributes:
        views: (B, V, T*L, 3, h, w) uint8.
        labels: (B,) int64.
        indices: (B,) int64, which clips of the list these are.
        problems: (index, message) of clips that gave no frames.
        damaged: (index, message) of clips that gave other frames for some that are lost.
    """

    views: Tensor
    labels: Tensor
    indices: Tensor
    problems: list[tuple[int, str]]
    damaged: list[tuple[int, str]]


def read_views(
    path: str | NDArray[np.uint8],
    plan: ViewPlan,
    rng: np.random.Generator | None = None,
    mirror: bool = False,
    template: str | None = None,
    num_frames: int | None = None,
    damage: Damage | None = None,
) -> Tensor:
    """Decode the views of one video.

    Args:
        path: a video file, a folder of frames, or frames (T, H, W, 3).
        plan: how.
        rng: the randomness of a training view.
        mirror: turn left and right round (training only).
        template: file names of the frames in a folder; None finds them by looking.
        num_frames: how many frames the annotation says there are; those after are not used.
        damage: takes what was lost on the way.

    Returns:
        (V, T*L, 3, h, w) uint8.

    Raises:
        UserError: the video cannot be read, or has fewer frames than its annotation says.
    """
    # (clips*T*L, H, W, 3)
    frames = read_frames(path, plan, rng, template, num_frames, damage)
    if plan.train:
        if rng is None:
            raise ValueError("a training view needs an rng")
        return train_view(frames, plan.size, plan.crop, mirror, rng)
    if plan.scaler == "pillow":
        return torch.from_numpy(pillow_views(frames, plan))
    views = protocol_views(
        frames, plan.size, plan.short_side, plan.crops
    )  # (crops, clips*T*L, ...)
    return views.unflatten(1, (plan.clips, -1)).transpose(0, 1).flatten(0, 1)


class ClipDataset(Dataset[Sample]):
    """The clips of one split under a view plan; indexed by (epoch, index).

    Raises:
        UserError: the plan takes frames by their distance, and the clips were packed with gaps.
    """

    def __init__(self, clips: Sequence[Clip], plan: ViewPlan, seed: int = 0) -> None:
        check_frames(clips, plan)
        self.clips = clips
        self.plan = plan
        self.seed = seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        clip = self.clips[index]
        rng = np.random.default_rng((self.seed, epoch, index))
        mirror = self.plan.train and self.plan.mirror is not None and rng.random() < 0.5
        label = clip.label
        if mirror and self.plan.mirror is not None:
            label = self.plan.mirror[label]
        where = "" if clip.source == clip.path else f"{clip.source}: "  # the file itself says so
        damage = Damage()
        try:
            views = read_views(
                clip.path, self.plan, rng, mirror, clip.template, clip.num_frames, damage
            )
        except UserError as error:
            return Sample(index, clip.label, None, f"{where}{error}")
        lost = f"{where}{clip.path}: {damage}" if damage.count else ""
        return Sample(index, label, views, damage=lost)


def check_frames(clips: Sequence[Clip], plan: ViewPlan) -> None:
    """Refuse packed clips whose frames do not follow one another where that has a meaning.

    Raises:
        UserError: see :class:`ClipDataset`.
    """
    several = plan.frames_per_segment > 1
    if not (several or plan.sampling.endswith("dense")) or not clips:
        return
    path = clips[0].path
    if (kept := frames_kept(path)) is not None:
        what = (
            f"this model takes {plan.frames_per_segment} frames in a row for each segment"
            if several
            else f"sampling={plan.sampling} takes frames at a fixed distance"
        )
        raise UserError(
            f"{path.rpartition('/')[0]}: packed with {kept} frames of each clip, evenly spaced, and"
            f" {what}; pack the set with --frames all"
        )


class TrainBatches:
    """Batches of keys in a random order that is a function of (seed, epoch).

    Every process of ``world`` takes its part of each global batch. Clips that do not fill a last
    global batch are left out of this epoch (another order leaves out others); a set smaller than
    one global batch is one smaller batch.
    """

    def __init__(self, length: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if length < world:
            raise UserError(f"{length} training clips for {world} processes; start fewer of them")
        self.length, self.batch, self.seed, self.rank, self.world = length, batch, seed, rank, world
        self.epoch = 0
        self.start = 0

    def set(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and the batch to begin at (when resuming inside it)."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return max(self.length // (self.batch * self.world), 1)

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        step = self.batch * self.world
        for number in range(self.start, len(self)):
            together = order[number * step : (number + 1) * step]
            yield [(self.epoch, int(i)) for i in together[self.rank :: self.world]]


class TestBatches:
    """Every clip exactly once, in order, over any number of processes."""

    __test__ = False  # a sampler, not a test for pytest

    def __init__(self, length: int, batch: int, rank: int = 0, world: int = 1) -> None:
        self.mine = range(rank, length, world)
        self.batch = batch

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch)

    def __iter__(self) -> Iterator[list[Key]]:
        for first in range(0, len(self.mine), self.batch):
            yield [(0, i) for i in self.mine[first : first + self.batch]]
