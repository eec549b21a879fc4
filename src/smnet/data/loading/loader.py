"""The loader of training and evaluation: batches prefetched by worker processes.

Each clip has a time limit, see :mod:`smnet.data.workers.pool`. A clip that hangs or crashes its
worker is treated like one that cannot be read. A sample is a function of (seed, epoch, index), so
neither the number of workers nor a replaced worker changes the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from smnet.data.loading.dataset import Batch, ClipDataset, Key, Sample, TestBatches, TrainBatches
from smnet.data.workers.pool import TIME_LIMIT, Lost, ProcessPool, timeout_message
from smnet.data.workers.slots import Slots
from smnet.system import available_cores

_PREFETCH = 3  # batches


class ClipLoader:
    """The batches of a data set; iterate over it once per epoch.

    Args:
        dataset: the clips.
        batches: the order, read again for each epoch.
        workers: processes, which live as long as the loader. 0 reads in this process, without a
            time limit.
        pin_memory: place the batches in page-locked memory, for a GPU.
        timeout: seconds for one clip.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batches: TrainBatches | TestBatches,
        workers: int,
        pin_memory: bool = False,
        timeout: float = TIME_LIMIT,
    ) -> None:
        self.dataset = dataset
        self._batches, self._pin_memory, self._timeout = batches, pin_memory, timeout
        self._lost: dict[int, str] = {}
        self._pool: ProcessPool[tuple[int, Key], Sample] | None = None
        if workers:
            window = max(min(max(_PREFETCH * batches.batch, 2 * workers), len(dataset)), 1)
            self._slots = Slots((window, *dataset.plan.shape))
            self._pool = ProcessPool(
                _Reader(dataset, self._slots),
                workers,
                timeout=timeout,
                window=window,
                queue=-(-window // workers),
                prepare=_use_one_thread,
            )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        lost = dict(self._lost)
        keys = (key for batch in self._batches for key in batch if key[1] not in lost)
        samples = self._prefetched(keys) if self._pool else map(self.dataset.__getitem__, keys)
        for batch in self._batches:
            yield self._batch(batch, samples, lost)

    def _prefetched(self, keys: Iterator[Key]) -> Iterator[Sample]:
        """Samples whose views are valid until the next one is taken."""
        assert self._pool is not None
        count = len(self._slots.frames)
        waiting: deque[Key] = deque()

        def tasks() -> Iterator[tuple[int, Key]]:
            for number, key in enumerate(keys):
                waiting.append(key)
                yield number % count, key

        for number, sample in enumerate(self._pool.map(tasks())):
            key = waiting.popleft()
            if isinstance(sample, Lost):
                yield self._lose(key[1], sample)
            elif sample.problem:
                yield sample
            else:
                yield replace(sample, views=torch.from_numpy(self._slots.frames[number % count]))

    def _lose(self, index: int, lost: Lost) -> Sample:
        clip = self.dataset.clips[index]
        if lost.kind == "error":
            raise RuntimeError(f"{clip.path}: {lost.reason}")
        if lost.kind == "timeout":
            self._lost[index] = timeout_message(self._timeout)
        else:
            self._lost[index] = (
                f"{lost.reason}, twice; the file crashes the decoder, or memory ran out (use fewer"
                " workers)"
            )
        return self._lost_sample(index, self._lost[index])

    def _lost_sample(self, index: int, reason: str) -> Sample:
        clip = self.dataset.clips[index]
        return Sample(index, clip.label, None, f"{clip.place}: {reason}")

    def _batch(self, keys: list[Key], samples: Iterator[Sample], lost: dict[int, str]) -> Batch:
        views = self._empty((len(keys), *self.dataset.plan.shape))
        read: list[Sample] = []
        unread: list[Sample] = []
        for _, index in keys:
            sample = self._lost_sample(index, lost[index]) if index in lost else next(samples)
            if sample.views is None:
                unread.append(sample)
            else:
                # NumPy copies in this thread; PyTorch's threads would compete with the workers.
                views.numpy()[len(read)] = sample.views.numpy()
                read.append(sample)
        labels = self._empty((len(read),), torch.int64)
        labels[:] = torch.tensor([sample.label for sample in read], dtype=torch.int64)
        return Batch(
            views=views[: len(read)],
            labels=labels,
            indices=torch.tensor([sample.index for sample in read], dtype=torch.int64),
            problems=[(sample.index, sample.problem) for sample in unread],
            damaged=[(sample.index, sample.damage) for sample in read if sample.damage],
            sets=[sample.labels for sample in read],
        )

    def _empty(self, shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Tensor:
        return torch.empty(*shape, dtype=dtype, pin_memory=self._pin_memory)


def make_loader(
    dataset: ClipDataset,
    batches: TrainBatches | TestBatches,
    workers: int | None = None,
    pin_memory: bool = False,
) -> ClipLoader:
    """A :class:`ClipLoader`; ``workers=None`` is one per core, at most 8."""
    count = min(available_cores(), 8) if workers is None else workers
    return ClipLoader(dataset, batches, count, pin_memory)


class _Reader:
    """What a worker does: read a clip, leave its views in a slot, return the rest."""

    def __init__(self, dataset: ClipDataset, slots: Slots) -> None:
        self._dataset, self._slots = dataset, slots

    def __call__(self, task: tuple[int, Key]) -> Sample:
        slot, key = task
        sample = self._dataset[key]
        if sample.views is not None:
            self._slots.frames[slot] = sample.views.numpy()
        return replace(sample, views=None)


def _use_one_thread() -> None:
    """OpenMP's threads do not survive a fork, and the workers share the cores anyway."""
    torch.set_num_threads(1)
