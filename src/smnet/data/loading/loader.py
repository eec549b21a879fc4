"""Loaders: batches made ahead by worker processes, with a limit to the time of each clip.

A decoder in an endless loop cannot be interrupted from Python, and one that crashes takes its
process along. Either ends a worker here: the kernel does it when the alarm that the worker set
itself runs out. The clip it was on is then treated like any other that cannot be read, and other
workers go on where these left off; a sample is a function of (seed, epoch, index), so nothing else
changes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from smnet.data.loading.dataset import (
    Batch,
    ClipDataset,
    Key,
    Sample,
    TestBatches,
    TrainBatches,
    collate,
)
from smnet.data.workers.ahead import LIMIT, endless
from smnet.errors import UserError
from smnet.system import available_cores

_TRIES = 2  # a clip whose process died may be innocent: others may have taken the memory
_PATIENCE = 1.0  # seconds for a worker to end after an error that its end may have caused
_FIELDS = 3  # of a worker on the board: its process, 1 + the clip it is on or 0, since when


class ClipLoader:
    """The batches of a data set; iterate over it once an epoch.

    Args:
        dataset: the clips.
        batches: the order; read anew for every epoch.
        workers: processes, which live as long as the loader; 0 = none, and no limit of time.
        pin_memory: have the batches in page-locked memory, for a GPU.
        timeout: seconds for one clip. Needs POSIX signals; there is none on Windows.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batches: TrainBatches | TestBatches,
        workers: int,
        pin_memory: bool = False,
        timeout: float = LIMIT,
    ) -> None:
        self.dataset = dataset
        self._workers, self._pin_memory, self._timeout = workers, pin_memory, timeout
        # Forked workers start at once and share the annotation's memory. They never touch a GPU, so
        # it does no harm where the parent has one open.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        self._context = multiprocessing.get_context(method)
        self._board = self._context.Array("d", _FIELDS * max(workers, 1), lock=False)
        self._watched = _Watched(dataset, self._board, timeout)
        self._rest = _Rest(batches)
        self._generator = torch.Generator().manual_seed(dataset.seed)  # leaves the global one alone
        self._loader: DataLoader[Batch] | None = None
        self._crew: set[BaseProcess] = set()
        self._deaths: Counter[int] = Counter()
        # When the loader is gone or the program ends, and before others wait for the workers.
        Finalize(self, _end_workers, args=(self._crew,), exitpriority=0)

    def __len__(self) -> int:
        return len(self._rest.batches)

    def __iter__(self) -> Iterator[Batch]:
        self._rest.done = 0
        source: Iterator[Batch] | None = None
        while True:
            try:
                if source is None:
                    source = self._start()
                batch = next(source, None)
            # Torch's own error is the first; the others come when a worker ends in the middle of
            # handing a batch over, and torch asks whether it lives before the kernel is done.
            except (RuntimeError, EOFError, OSError):
                if not self._clear_away():
                    raise
                source = None
                continue
            if batch is None:
                return
            self._rest.done += 1
            yield batch

    def _start(self) -> Iterator[Batch]:
        """The batches from ``_rest`` on."""
        if self._loader is None:
            self._loader = DataLoader(
                self._watched,  # type: ignore[arg-type]  # no word for what collate makes of it
                batch_sampler=self._rest,
                num_workers=self._workers,
                collate_fn=collate,
                pin_memory=self._pin_memory,
                persistent_workers=self._workers > 0,
                prefetch_factor=3 if self._workers else None,
                multiprocessing_context=self._context if self._workers else None,
                worker_init_fn=_prepare_signals,
                generator=self._generator,
            )
        before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        others = set(multiprocessing.active_children()) - self._crew
        source = iter(self._loader)
        self._crew.update(set(multiprocessing.active_children()) - others)
        # Torch has the end of a worker raise in whatever the main process is doing, the middle of
        # an optimiser step for instance. Waiting for the next batch finds out soon enough.
        if before is not None and signal.getsignal(signal.SIGCHLD) is not before:
            signal.signal(signal.SIGCHLD, before)
        return source

    def _clear_away(self) -> bool:
        """After an error: note what dead workers were on, and end the others; False = none died.

        Raises:
            UserError: a worker died that was on no clip.
        """
        # The connections of a process that is ending are closed before it counts as ended.
        ending = wait([process.sentinel for process in self._crew], _PATIENCE)
        for process in self._crew:
            if process.sentinel in ending:
                process.join()
        alive = {process.pid for process in self._crew if process.is_alive()}
        now, dead = time.monotonic(), False
        for number in range(self._workers):
            process, item, since = self._board[_FIELDS * number : _FIELDS * (number + 1)]
            if process and process not in alive:
                dead = True
                self._note(int(item) - 1, now - since >= self._timeout)
        _end_workers(self._crew)
        self._loader = None
        self._board[:] = [0.0] * len(self._board)
        return dead

    def _note(self, index: int, stuck: bool) -> None:
        if index < 0:
            raise UserError(
                "a process that reads clips was ended while it had nothing to do, perhaps as memory"
                " ran out; use fewer workers"
            )
        if stuck:
            self._watched.lost[index] = endless(self._timeout)
            return
        self._deaths[index] += 1
        if self._deaths[index] >= _TRIES:
            self._watched.lost[index] = (
                f"the process reading it died, {_TRIES} times; the file crashes the decoder,"
                " or memory ran out (use fewer workers)"
            )


def _end_workers(crew: set[BaseProcess]) -> None:
    """They are deaf to the signal by which torch and Python would end them; both then wait."""
    for process in crew:
        process.kill()
    crew.clear()


def make_loader(
    dataset: ClipDataset,
    batches: TrainBatches | TestBatches,
    workers: int | None = None,
    pin_memory: bool = False,
) -> ClipLoader:
    """A :class:`ClipLoader`; ``workers=None`` is one a core, at most 8."""
    count = min(available_cores(), 8) if workers is None else workers
    return ClipLoader(dataset, batches, count, pin_memory)


class _Watched(Dataset[Sample]):
    """A data set whose workers write on the board what they are on, under an alarm."""

    def __init__(self, dataset: ClipDataset, board: Any, timeout: float) -> None:
        self.dataset, self.board, self.timeout = dataset, board, timeout
        self.lost: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        _, index = key
        if index in self.lost:
            clip = self.dataset.clips[index]
            problem = f"{clip.source}: {clip.path}: {self.lost[index]}"
            return Sample(index, clip.label, None, problem)
        worker = get_worker_info()
        if worker is None:
            return self.dataset[key]
        place = _FIELDS * worker.id
        self.board[place : place + _FIELDS] = [os.getpid(), index + 1, time.monotonic()]
        _set_alarm(self.timeout)
        sample = self.dataset[key]
        _set_alarm(0)
        self.board[place + 1] = 0
        return sample


class _Rest:
    """Batches of keys from number ``done`` on."""

    def __init__(self, batches: TrainBatches | TestBatches) -> None:
        self.batches = batches
        self.done = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return islice(iter(self.batches), self.done, None)


def _set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _prepare_signals(worker: int) -> None:
    """Ctrl-C reaches the whole process group, and a batch system's SIGTERM every process of a job;
    ending the workers is the main process's part. The alarm ends one even inside a decoder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
