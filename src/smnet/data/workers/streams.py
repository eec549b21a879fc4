"""Worker processes that send what they make of an item in pieces, such as a long recording.

A worker has one item at a time, and waits with a piece until its last one was taken. A worker that
dies or exceeds its time limit loses the rest of its item and is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.util import Finalize
from typing import Any, Generic, TypeVar

from smnet.data.workers.pool import Lost, Piece, Worker, end_all, wait_for

T = TypeVar("T")
R = TypeVar("R")


class StreamPool(Generic[T, R]):
    """Workers for :meth:`map`.

    Args:
        work: called with each item in a worker, an iterator of pieces. With the start method
            "spawn" it must be picklable.
        workers: number of processes.
        timeout: seconds for one piece, after which its process is killed; None is no limit.
    """

    def __init__(
        self, work: Callable[[T], Iterator[R]], workers: int, timeout: float | None
    ) -> None:
        self._work, self._count, self._timeout = work, workers, timeout
        self._workers: list[Worker[T, Any]] = []
        self._finalizer = Finalize(self, end_all, args=(self._workers,), exitpriority=0)

    def map(self, items: Iterable[T]) -> Generator[tuple[T, Piece | Lost | None], None, None]:
        """The pieces of items as they come, with their items.

        The last one of an item is None, or a :class:`Lost` in its place.
        """
        source = enumerate(items)
        more = True
        try:
            while True:
                while more and (worker := self._idle()) is not None:
                    if more := (item := next(source, None)) is not None:
                        worker.give(item, self._timeout)
                busy = [worker for worker in self._workers if worker.queue]
                if not busy:
                    return
                wait_for(busy)
                for worker in busy:
                    if (found := self._received(worker)) is not None:
                        yield found
        finally:
            end_all(self._workers)

    def _idle(self) -> Worker[T, Any] | None:
        """A worker without an item, if there may be one more."""
        for worker in self._workers:
            if not worker.queue:
                return worker
        if len(self._workers) == self._count:
            return None
        self._workers.append(Worker(self._work, None, self._workers, self._timeout))
        return self._workers[-1]

    def _received(self, worker: Worker[T, Any]) -> tuple[T, Piece | Lost | None] | None:
        """The next piece of a worker, if there is one."""
        _, item = worker.queue[0]
        try:
            if worker.connection.poll():
                _, message = worker.connection.recv()
                worker.start_clock(self._timeout)
                if not isinstance(message, Piece):
                    worker.queue.popleft()
                return item, message
        except (EOFError, OSError):
            worker.alive = False
        if (lost := worker.lost(self._timeout)) is None:
            return None
        self._workers.remove(worker)
        return item, lost
