"""Clips as tensors: the data set, its samples and batches, and their order.

The randomness of a sample is a function of (seed, epoch, index) only. So the samples of a run
depend neither on the number of workers nor on interruptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from smnet.data.clips import Clip, Part
from smnet.data.loading.transforms import scale_with_torch
from smnet.data.loading.views import Damage, ViewPlan, scale_with_pillow
from smnet.data.loading.views import read_views as read_frames
from smnet.data.packed.read import frames_kept
from smnet.data.video.memory import FrameArray
from smnet.errors import UserError

Key = tuple[int, int]
"""(epoch, index of the clip)."""


@dataclass
class Sample:
    """The views of one video, or the reason why there are none.

    Attributes:
        index: position in the list of clips.
        label: class index, after mirroring.
        views: (V, T*L, 3, h, w) uint8; None if the video cannot be read.
        problem: why it cannot be read.
        damage: what was lost of it.
        labels: all classes, after mirroring.
    """

    index: int
    label: int
    views: Tensor | None
    problem: str = ""
    damage: str = ""
    labels: tuple[int, ...] = ()


@dataclass
class Batch:
    """The samples that could be read, stacked, and the problems of the others.

    Attributes:
        views: (B, V, T*L, 3, h, w) uint8.
        labels: (B,) int64, the first or only label of each clip.
        indices: (B,) int64, positions in the list of clips.
        problems: (index, message) of clips that cannot be read.
        damaged: (index, message) of clips in which other frames stand for lost ones.
        sets: all labels of each clip.
    """

    views: Tensor
    labels: Tensor
    indices: Tensor
    problems: list[tuple[int, str]]
    damaged: list[tuple[int, str]]
    sets: list[tuple[int, ...]] = field(default_factory=list)


def read_views(
    path: str | NDArray[np.uint8] | FrameArray,
    plan: ViewPlan,
    rng: np.random.Generator | None = None,
    mirror: bool = False,
    template: str | None = None,
    num_frames: int | None = None,
    part: Part | None = None,
    damage: Damage | None = None,
) -> Tensor:
    """The views of one video as a tensor (V, T*L, 3, side, side) uint8.

    See :func:`smnet.data.loading.views.read_views` for arguments and errors.
    """
    views = read_frames(
        path,
        plan,
        scale_with_pillow if plan.scaler == "pillow" and not plan.train else scale_with_torch,
        rng=rng,
        mirror=mirror,
        template=template,
        num_frames=num_frames,
        part=part,
        damage=damage,
    )
    return torch.from_numpy(views)


class ClipDataset(Dataset[Sample]):
    """The clips of one split under a view plan; indexed by (epoch, index).

    Attributes:
        kept: decoded clips by index, see :mod:`smnet.data.loading.cache`.

    Raises:
        UserError: the plan takes frames at a fixed distance, and the clips were packed with gaps.
    """

    def __init__(self, clips: Sequence[Clip], plan: ViewPlan, seed: int = 0) -> None:
        check_frames(clips, plan)
        self.clips = clips
        self.plan = plan
        self.seed = seed
        self.kept: dict[int, FrameArray] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        clip = self.clips[index]
        rng = np.random.default_rng((self.seed, epoch, index))
        mirror = self.plan.train and self.plan.mirror is not None and rng.random() < 0.5
        label, labels = clip.label, clip.labels
        if mirror and self.plan.mirror is not None:
            label = self.plan.mirror[label]
            labels = tuple(self.plan.mirror[other] for other in labels)
        where = "" if clip.source == clip.path else f"{clip.source}: "
        damage = Damage()
        try:
            if (kept := self.kept.get(index)) is not None:
                views = read_views(kept, self.plan, rng, mirror)
            else:
                views = read_views(
                    clip.path,
                    self.plan,
                    rng,
                    mirror,
                    clip.template,
                    clip.num_frames,
                    clip.part,
                    damage,
                )
        except UserError as error:
            return Sample(index, clip.label, None, f"{where}{error}")
        lost = f"{clip.place}: {damage}" if damage.count else ""
        return Sample(index, label, views, damage=lost, labels=labels)


def check_frames(clips: Sequence[Clip], plan: ViewPlan) -> None:
    """Refuse packed clips with left-out frames if the plan depends on the distance of frames.

    Raises:
        UserError: see :class:`ClipDataset`.
    """
    several = plan.frames_per_segment > 1
    if not (several or plan.sampling.endswith("dense")) or not clips:
        return
    path = clips[0].path
    if (kept := frames_kept(path)) is not None:
        need = (
            f"this model takes {plan.frames_per_segment} consecutive frames per segment"
            if several
            else f"sampling={plan.sampling} takes frames at a fixed distance"
        )
        raise UserError(
            f"{path.rpartition('/')[0]}: packed with {kept} frames of each clip, evenly spaced, and"
            f" {need}; pack the set with --frames all"
        )


_REPEAT = 1 << 32


class TrainBatches:
    """Batches of keys in random order, which is a function of (seed, epoch).

    Each of ``world`` processes takes its part of every global batch. Clips that do not fill the
    last global batch are left out; they differ from epoch to epoch. A set smaller than one global
    batch is one smaller batch.

    With ``labels`` (the class of each clip) an epoch has as many clips of each class, within one.
    Clips of small classes are repeated, each time as a new random view; of large classes every
    epoch takes others.
    """

    def __init__(
        self,
        length: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        labels: Sequence[int] | None = None,
    ) -> None:
        if length < world:
            raise UserError(f"{length} training clips for {world} processes; start fewer processes")
        self.labels = None if labels is None else np.asarray(labels)
        self.length, self.batch, self.seed, self.rank, self.world = length, batch, seed, rank, world
        self.epoch = 0
        self.start = 0

    def set(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and the first batch (when a run is resumed inside an epoch)."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return max(self.length // (self.batch * self.world), 1)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        step = self.batch * self.world
        for number in range(self.start, len(self)):
            yield order[number * step : (number + 1) * step][self.rank :: self.world]

    def _order(self) -> list[Key]:
        """The keys of an epoch of all processes."""
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.labels is None:
            return [(self.epoch, int(i)) for i in rng.permutation(self.length)]
        classes = rng.permutation(np.unique(self.labels))
        keys: list[Key] = []
        for position, label in enumerate(classes):
            members = rng.permutation(np.flatnonzero(self.labels == label))
            wanted = len(range(position, self.length, len(classes)))
            for number in range(wanted):
                # A repeated clip is another view: the epoch in its key is one that no run reaches.
                repeat = number // len(members)
                epoch = self.epoch + repeat * _REPEAT
                keys.append((epoch, int(members[number % len(members)])))
        return [keys[i] for i in rng.permutation(self.length)]


class TestBatches:
    """Batches of keys in order; each clip exactly once over all processes."""

    __test__ = False  # a sampler, not a test for pytest

    def __init__(self, length: int, batch: int, rank: int = 0, world: int = 1) -> None:
        self.mine = range(rank, length, world)
        self.batch = batch

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch)

    def __iter__(self) -> Iterator[list[Key]]:
        for first in range(0, len(self.mine), self.batch):
            yield [(0, i) for i in self.mine[first : first + self.batch]]
