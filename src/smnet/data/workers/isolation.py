"""Work on files that may crash or hang a decoder, in processes that may die of it.

A crash in C takes its process along and an endless loop in C cannot be interrupted from Python, so
neither can be survived within one process. Here a worker that dies costs the item it was on, and
one that exceeds the time limit is killed; another takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from smnet.system import available_cores

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4  # items a worker holds, so that it need not wait for the next
_TRIES = 3
_PATIENCE = 5.0  # seconds between looks whether the parent still lives


@dataclass(frozen=True, slots=True)
class Lost:
    """In place of the result of an item that gave none.

    Attributes:
        stuck: the time limit was exceeded; otherwise the work crashed.
        reason: a few words for people.
    """

    stuck: bool
    reason: str


def run_isolated(
    work: Callable[[T], R],
    items: Sequence[T],
    *,
    workers: int | None = None,
    timeout: float | None = 30.0,
) -> Iterator[tuple[int, R | Lost]]:
    """Do ``work`` on every item in worker processes; the results come as they are done.

    An item whose worker dies is tried again, in case somebody else's hunger for memory killed it;
    what exceeds the limit is not. Every item gives exactly one result.

    Args:
        work: a function at the top level of a module, so that it can be sent to a process.
        items: what to work on; small, picklable.
        workers: processes; None = one a core.
        timeout: seconds for one item, at the end of which its process is killed; None = no limit.

    Yields:
        (position of the item, its result or :class:`Lost`).
    """
    # Forked workers start at once, and take the place of a dead one as fast.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    count = min(workers or available_cores(), len(items))
    pending = deque(range(len(items)))
    deaths: Counter[int] = Counter()
    crew: list[_Worker[T, R]] = []
    try:
        for _ in range(count):
            crew.append(_Worker(context, work, crew))
        while pending or any(worker.queue for worker in crew):
            for worker in crew:
                while pending and len(worker.queue) < _AHEAD and worker.alive:
                    position = pending.popleft()
                    worker.give(position, items[position], timeout)
            _wait(crew)
            for place, worker in enumerate(crew):
                yield from worker.results(timeout)
                lost = worker.lost(timeout)
                if lost is None:
                    continue
                if worker.queue:
                    position = worker.queue.popleft()
                    deaths[position] += 1
                    if lost.stuck or deaths[position] == _TRIES:
                        yield position, lost
                    else:
                        pending.appendleft(position)
                    pending.extendleft(reversed(worker.queue))
                crew[place] = _Worker(context, work, crew)
    finally:
        for worker in crew:
            worker.end()


class _Worker(Generic[T, R]):
    """A process and what it was given; the head of ``queue`` is what it is on."""

    def __init__(self, context: Any, work: Callable[[T], R], crew: Sequence[_Worker[T, R]]) -> None:
        self.connection, theirs = context.Pipe()
        # A forked process inherits the parent's ends. Left open, they would outlive the parent, and
        # who has a result that nobody takes any more would wait for ever.
        forks = context.get_start_method() == "fork"
        ours = [self.connection, *(worker.connection for worker in crew)] if forks else []
        self.process = context.Process(
            target=_serve, args=(work, theirs, os.getpid(), ours), daemon=True
        )
        self.process.start()
        theirs.close()
        self.queue: deque[int] = deque()
        self.deadline: float | None = None
        self.alive = True

    def give(self, position: int, item: T, timeout: float | None) -> None:
        if not self.queue:
            self._start_clock(timeout)
        self.queue.append(position)
        try:
            self.connection.send((position, item))
        except OSError:
            self.alive = False

    def results(self, timeout: float | None) -> Iterator[tuple[int, R | Lost]]:
        """What the worker has done since."""
        try:
            while self.connection.poll():
                result = self.connection.recv()
                self.queue.popleft()
                self._start_clock(timeout)
                yield result
        except (EOFError, OSError):
            self.alive = False

    def lost(self, timeout: float | None) -> Lost | None:
        """Why the worker has to be replaced; None = it need not be."""
        late = bool(self.queue) and self.deadline is not None and time.monotonic() > self.deadline
        if late:
            self.end()
            return Lost(True, f"not done within {timeout:g} seconds")
        if self.alive and self.process.exitcode is None:
            return None
        self.end()
        code = self.process.exitcode
        if code is None or code >= 0:
            return Lost(False, f"the process working on it ended (status {code})")
        return Lost(False, f"the process working on it died ({_signal_name(-code)})")

    def end(self) -> None:
        self.alive = False
        self.connection.close()
        if self.process.exitcode is None:
            self.process.kill()
        # A process in the grip of a dead network drive may outlive even that.
        self.process.join(1.0)

    def _start_clock(self, timeout: float | None) -> None:
        self.deadline = None if timeout is None else time.monotonic() + timeout


def _wait(crew: Sequence[_Worker[Any, Any]]) -> None:
    """Sleep until a worker has done something, died, or run out of time."""
    deadlines = [w.deadline for w in crew if w.queue and w.deadline is not None]
    rest = max(min(deadlines) - time.monotonic(), 0.0) + 0.01 if deadlines else None
    wait([w.connection for w in crew] + [w.process.sentinel for w in crew], rest)


def _serve(
    work: Callable[[Any], Any], connection: Connection, parent: int, inherited: Sequence[Connection]
) -> None:
    # Ctrl-C reaches the whole process group; ending the workers is the parent's part.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in inherited:
        end.close()
    try:
        while True:
            # Other processes of a parent that was killed may hold its end of the pipe.
            while not connection.poll(_PATIENCE):
                if os.getppid() != parent:
                    return
            position, item = connection.recv()
            try:
                result = work(item)
            except Exception as error:
                result = Lost(False, f"{type(error).__name__}: {error}")
            connection.send((position, result))
    except (EOFError, OSError):
        return


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
