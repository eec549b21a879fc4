"""Threads that decode clips before they are needed, each clip under a time limit.

Prediction uses threads and not :mod:`smnet.data.workers.pool`: its frames need no copy between
processes, and a program that calls it may have threads or a GPU context that do not survive a fork.
The price: a thread in an endless loop cannot be ended. It is abandoned, another takes its place,
and a core is lost until the process ends. A decoder that crashes ends the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, Self, TypeVar

from smnet.data.workers.pool import TIME_LIMIT, timeout_message
from smnet.errors import UserError

R = TypeVar("R")

_GRACE = 5.0  # seconds for busy threads at the end; Python does not exit cleanly amid their work


class Job(Generic[R]):
    """A clip that is being read; see :meth:`Prefetcher.result`.

    Attributes:
        path: the clip, or another object that ``read`` takes and that prints as its name.
        seconds: that reading took; set with the result.
    """

    def __init__(self, path: Any) -> None:
        self.path = path
        self.seconds = 0.0
        self.future: Future[R] = Future()
        self.thread: threading.Thread | None = None
        self.began = 0.0


class Prefetcher(Generic[R]):
    """Threads that read clips in the order of submission; a context manager.

    Args:
        read: maps a path to the result.
        threads: the largest number at work. 0 reads each clip when its result is asked for, in the
            caller's thread and without a time limit.
        limit: seconds for one clip.
    """

    def __init__(self, read: Callable[[Any], R], threads: int, limit: float = TIME_LIMIT) -> None:
        if threads < 0:
            raise UserError(f"workers is {threads}; it must be at least 0")
        self._read, self._count, self._limit = read, threads, limit
        self._queue: SimpleQueue[Job[R] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, path: Any) -> Job[R]:
        """Queue a clip."""
        job: Job[R] = Job(path)
        self._queue.put(job)
        if len(self._threads) < self._count:
            self._add_thread()
        return job

    def result(self, job: Job[R]) -> R:
        """Wait for the result of a job. Jobs must be awaited in the order of submission.

        Raises:
            UserError: the clip was not read within the limit.
            Exception: whatever ``read`` raised.
        """
        if not self._count:
            began = time.monotonic()
            try:
                return self._read(job.path)
            finally:
                job.seconds = time.monotonic() - began
        while not wait([job.future], self._remaining(job)).done:
            if self._remaining(job) <= 0:
                self._abandon(job)
        return job.future.result()

    def close(self) -> None:
        """Drop the clips that are not begun and end the threads."""
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + _GRACE
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remaining(self, job: Job[R]) -> float:
        """Seconds that a job may still take."""
        if job.thread is None:  # not begun
            return self._limit
        return max(job.began + self._limit - time.monotonic(), 0.0)

    def _abandon(self, job: Job[R]) -> None:
        with suppress(InvalidStateError):  # it was read at the last moment
            job.future.set_exception(UserError(f"{job.path}: {timeout_message(self._limit)}"))
            job.seconds = self._limit
            self._threads = [thread for thread in self._threads if thread is not job.thread]
            self._add_thread()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name="decode", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            job.began = time.monotonic()
            job.thread = threading.current_thread()
            try:
                try:
                    result = self._read(job.path)
                except BaseException as error:
                    job.seconds = time.monotonic() - job.began
                    job.future.set_exception(error)
                else:
                    job.seconds = time.monotonic() - job.began
                    job.future.set_result(result)
            except InvalidStateError:
                return  # the job was abandoned, and another thread took this one's place
