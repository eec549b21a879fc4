"""A pool of worker processes for files that may hang or crash their decoder.

A crash in C ends its process, and an endless loop in C cannot be interrupted from Python. So each
item has a time limit: a worker that exceeds it is killed, a worker that dies is replaced, and only
the item that it was working on is lost.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any, Generic, Literal, Self, TypeVar

from smnet.system import available_cores

T = TypeVar("T")
R = TypeVar("R")

TIME_LIMIT = 180.0
"""Seconds for one clip, decoded and scaled. The limit of ``open_video`` is shorter, but it cannot
interrupt a decoder that does not return."""

_TRIES = 2  # another process's need of memory may have killed a worker
_ORPHAN = 30.0  # seconds beyond the limit of an item, which its parent has then not kept
_PARENT_CHECK = 5.0  # seconds between looks whether the parent still lives


def timeout_message(seconds: float) -> str:
    """The reason why a clip that exceeded its time limit has no result."""
    return (
        f"not read within {seconds:g} seconds: the decoder does not come to an end; the file is"
        " damaged, fetch it again or leave it out"
    )


@dataclass(frozen=True, slots=True)
class Lost:
    """Takes the place of the result of an item that has none.

    Attributes:
        kind: the time limit was exceeded, the process died, or the work raised an exception.
        reason: one line for the user.
    """

    kind: Literal["timeout", "crash", "error"]
    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the result of an item; more follows."""

    value: Any


class ProcessPool(Generic[T, R]):
    """Worker processes that live until :meth:`close`; a context manager.

    Args:
        work: called with each item in a worker. With the start method "spawn" it must be picklable.
        workers: number of processes; None is one per core.
        timeout: seconds for one item, after which its process is killed; None is no limit.
        window: items that may be in progress or finished beyond the one awaited.
        queue: items that a worker holds, so that it need not wait for the next one.
        prepare: called once in each worker.
    """

    def __init__(
        self,
        work: Callable[[T], R],
        workers: int | None = None,
        *,
        timeout: float | None = TIME_LIMIT,
        window: int = 256,
        queue: int = 4,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self._work, self._prepare = work, prepare
        self._count = workers or available_cores()
        self._timeout, self._window, self._queue = timeout, window, queue
        self._workers: list[Worker[T, R]] = []
        # Also when the pool is garbage or the program ends, before Python waits for its children.
        self._finalizer = Finalize(self, end_all, args=(self._workers,), exitpriority=0)

    def map(self, items: Iterable[T]) -> Iterator[R | Lost]:
        """Apply ``work`` to each item; the results come in the order of the items.

        An item whose worker dies is tried once more. Only one iteration at a time.
        """
        return (result for _, result in self._results(items, in_order=True))

    def map_unordered(self, items: Iterable[T]) -> Iterator[tuple[int, R | Lost]]:
        """As :meth:`map`, but each result comes as soon as it is there, with its item's number."""
        return self._results(items, in_order=False)

    def _results(self, items: Iterable[T], in_order: bool) -> Iterator[tuple[int, R | Lost]]:
        source = enumerate(items)
        retry: deque[tuple[int, T]] = deque()
        deaths: Counter[int] = Counter()
        done: dict[int, R | Lost] = {}
        taken = given = 0
        # Some may be busy with an abandoned iteration, or have been killed since.
        self._end(lambda worker: bool(worker.queue) or worker.process.exitcode is not None)
        try:
            while True:
                while self._has_room():
                    item = retry.popleft() if retry else None
                    if item is None and taken - given < self._window:
                        item = next(source, None)
                        taken += item is not None
                    if item is None:
                        break
                    self._next_worker().give(item, self._timeout)
                for worker in self._workers:
                    done.update(worker.results(self._timeout))
                    if (lost := worker.lost(self._timeout)) is None:
                        continue
                    if worker.queue:
                        first = worker.queue.popleft()
                        deaths[first[0]] += 1
                        if lost.kind == "timeout" or deaths[first[0]] == _TRIES:
                            done[first[0]] = lost
                        else:
                            retry.appendleft(first)
                    retry.extend(worker.queue)
                    worker.queue.clear()
                self._end(lambda worker: not worker.alive)
                ready = given if in_order else next(iter(done), -1)
                if ready in done:
                    yield ready, done.pop(ready)
                    given += 1
                elif any(worker.queue for worker in self._workers):
                    wait_for(self._workers)
                elif not retry:
                    return
        finally:
            self._end(lambda worker: bool(worker.queue))

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has_room(self) -> bool:
        return len(self._workers) < self._count or any(
            len(worker.queue) < self._queue for worker in self._workers
        )

    def _next_worker(self) -> Worker[T, R]:
        """The worker with the shortest queue; a new one if all are busy and more may be started."""
        best = min(self._workers, key=lambda worker: len(worker.queue), default=None)
        if best is None or (best.queue and len(self._workers) < self._count):
            best = Worker(self._work, self._prepare, self._workers, self._timeout)
            self._workers.append(best)
        return best

    def _end(self, which: Callable[[Worker[T, R]], bool]) -> None:
        for worker in [worker for worker in self._workers if which(worker)]:
            worker.end()
            self._workers.remove(worker)


class Worker(Generic[T, R]):
    """A process and the items that it holds; it is working on the first one in ``queue``.

    Args:
        work, prepare: see :class:`ProcessPool`.
        others: workers whose connections a forked process would keep open.
        limit: seconds per item, after which the process ends by itself if its parent is dead.

    Attributes:
        connection: carries items and results.
        process: the process.
    """

    def __init__(
        self,
        work: Callable[[T], R],
        prepare: Callable[[], object] | None,
        others: Sequence[Worker[T, R]],
        limit: float | None = None,
    ) -> None:
        # Forked workers start at once and share the parent's memory.
        forks = "fork" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self.connection, theirs = context.Pipe()
        # A forked process inherits the parent's ends. If it kept them open, its siblings would not
        # see the end of the parent.
        inherited = [self.connection, *(w.connection for w in others)] if forks else []
        self.process = context.Process(
            target=_serve, args=(work, prepare, theirs, os.getpid(), inherited, limit), daemon=True
        )
        self.process.start()
        theirs.close()
        self.queue: deque[tuple[int, T]] = deque()
        self.deadline: float | None = None
        self.alive = True

    def give(self, item: tuple[int, T], timeout: float | None) -> None:
        """Send a numbered item; it has ``timeout`` seconds from when work on it begins."""
        if not self.queue:
            self.start_clock(timeout)
        self.queue.append(item)
        try:
            self.connection.send(item)
        except OSError:
            self.alive = False

    def results(self, timeout: float | None) -> Iterator[tuple[int, R | Lost]]:
        """The results that have arrived, with the numbers of their items."""
        try:
            while self.connection.poll():
                result = self.connection.recv()
                self.queue.popleft()
                self.start_clock(timeout)
                yield result
        except (EOFError, OSError):
            self.alive = False

    def lost(self, timeout: float | None) -> Lost | None:
        """Why the worker has to be replaced; None if it works."""
        if self.queue and self.deadline is not None and time.monotonic() > self.deadline:
            self.end()
            return Lost("timeout", f"not done within {timeout:g} seconds")
        if self.alive and self.process.exitcode is None:
            return None
        self.end()
        code = self.process.exitcode
        if code is None or code >= 0:
            return Lost("crash", f"the process working on it ended (status {code})")
        return Lost("crash", f"the process working on it died ({_signal_name(-code)})")

    def end(self) -> None:
        """Kill the process, whatever it is doing."""
        self.alive = False
        self.connection.close()
        if self.process.exitcode is None:
            self.process.kill()
        # A process that waits for a dead network drive outlives even that.
        self.process.join(1.0)

    def start_clock(self, timeout: float | None) -> None:
        """The first item, or its next piece, has ``timeout`` seconds from now."""
        self.deadline = None if timeout is None else time.monotonic() + timeout


def end_all(workers: list[Worker[Any, Any]]) -> None:
    for worker in workers:
        worker.end()
    workers.clear()


def wait_for(workers: Sequence[Worker[Any, Any]]) -> None:
    """Sleep until a worker has a result, dies, or runs out of time."""
    deadlines = [w.deadline for w in workers if w.queue and w.deadline is not None]
    rest = max(min(deadlines) - time.monotonic(), 0.0) + 0.01 if deadlines else None
    wait([w.connection for w in workers] + [w.process.sentinel for w in workers], rest)


def _serve(
    work: Callable[[Any], Any],
    prepare: Callable[[], object] | None,
    connection: Connection,
    parent: int,
    inherited: Sequence[Connection],
    limit: float | None,
) -> None:
    # Ctrl-C reaches the whole process group, and a batch system's SIGTERM every process of a job.
    # The parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Ends an endless loop in C after the parent, which would end it, was killed.
    watch = limit if hasattr(signal, "setitimer") else None
    if watch is not None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for end in inherited:
        end.close()
    if prepare is not None:
        prepare()
    try:
        while True:
            # Workers of another pool may hold the parent's end open after it was killed.
            while not connection.poll(_PARENT_CHECK):
                if os.getppid() != parent:
                    return
            position, item = connection.recv()
            for result in _results_of(work, item, watch):
                connection.send((position, result))
    except (EOFError, OSError):
        return


def _results_of(work: Callable[[Any], Any], item: Any, watch: float | None) -> Iterator[Any]:
    """The result of an item. If it is an iterator, its pieces and then None.

    An alarm of ``watch`` seconds, and some, runs during the work and not while a result is sent.
    """

    def alarm(seconds: float) -> None:
        if watch is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds and watch + seconds)

    try:
        alarm(_ORPHAN)
        result = work(item)
        if isinstance(result, Iterator):
            for piece in result:
                alarm(0)
                yield Piece(piece)
                alarm(_ORPHAN)
            result = None
    except Exception as error:
        result = Lost("error", f"{type(error).__name__}: {error}")
    alarm(0)
    yield result


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
