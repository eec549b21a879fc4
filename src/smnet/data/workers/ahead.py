"""Clips decoded ahead in threads, none of which is waited for without limit.

A decoder in an endless loop cannot be interrupted from Python, nor can its thread be ended. Such a
thread is left behind: another takes its place, the clip it was on costs its own answer alone, and
a core is lost until the process ends. A decoder that crashes takes the process along; what survives
that is in :mod:`smnet.data.workers.isolation`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, Self, TypeVar

from smnet.errors import UserError

R = TypeVar("R")

LIMIT = 180.0
"""Seconds for one clip, decoded and scaled. Where a decoder lets itself be interrupted, its own
limit (see ``open_video``) comes first."""

_GRACE = 5.0  # seconds for threads that are at work when nobody wants their clips any more


def endless(limit: float) -> str:
    """What is wrong with a clip that was given up."""
    return (
        f"not read within {limit:g} seconds: the decoder does not come to an end; the file is"
        " damaged, fetch it again or leave it out"
    )


class Job(Generic[R]):
    """A clip on its way; see :meth:`Ahead.result`.

    Attributes:
        path: the clip.
        seconds: that reading it took, once there is a result.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.seconds = 0.0
        self.answer: Future[R] = Future()
        self.thread: threading.Thread | None = None
        self.began = 0.0


class Ahead(Generic[R]):
    """Threads that read clips in the order in which they are given; a context manager.

    Args:
        read: path -> what is wanted of the clip.
        threads: at most so many at work.
        limit: seconds for one clip.
    """

    def __init__(self, read: Callable[[str], R], threads: int, limit: float = LIMIT) -> None:
        if threads < 1:
            raise UserError(f"{threads} workers cannot read anything; give 1 or more")
        self._read, self._threads, self._limit = read, threads, limit
        self._queue: SimpleQueue[Job[R] | None] = SimpleQueue()
        self._crew: list[threading.Thread] = []

    def submit(self, path: str) -> Job[R]:
        """Have a clip read."""
        job: Job[R] = Job(path)
        self._queue.put(job)
        if len(self._crew) < self._threads:
            self._add_thread()
        return job

    def result(self, job: Job[R]) -> R:
        """What ``read`` made of a clip; to be asked for in the order of submission.

        Raises:
            UserError: it was not read within the limit. What ``read`` raises is raised too.
        """
        while not wait([job.answer], self._left(job)).done:
            if self._left(job) <= 0:
                self._give_up(job)
        return job.answer.result()

    def close(self) -> None:
        """Drop the clips that are not begun; end the threads, waiting for those at work a little.

        Python does not like to end in the middle of their work.
        """
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            pass
        for _ in self._crew:
            self._queue.put(None)
        deadline = time.monotonic() + _GRACE
        for thread in self._crew:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _left(self, job: Job[R]) -> float:
        """Seconds that a clip may still take."""
        if job.thread is None:  # not begun
            return self._limit
        return max(job.began + self._limit - time.monotonic(), 0.0)

    def _give_up(self, job: Job[R]) -> None:
        with suppress(InvalidStateError):  # it was read in the very last moment
            job.answer.set_exception(UserError(f"{job.path}: {endless(self._limit)}"))
            job.seconds = self._limit
            self._crew = [thread for thread in self._crew if thread is not job.thread]
            self._add_thread()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name="decode", daemon=True)
        self._crew.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            job.began = time.monotonic()
            job.thread = threading.current_thread()
            try:
                try:
                    found = self._read(job.path)
                except BaseException as error:
                    job.seconds = time.monotonic() - job.began
                    job.answer.set_exception(error)
                else:
                    job.seconds = time.monotonic() - job.began
                    job.answer.set_result(found)
            except InvalidStateError:
                return  # it was given up, and another thread took this one's place
