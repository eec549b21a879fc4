"""Videos of different requests are scored together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np

from smnet.serve.models import Pixels, Rows

Work = Callable[[Pixels], Rows]


@dataclass
class _Job:
    work: Work
    views: Pixels
    future: Future[Rows] = field(default_factory=Future)


class Batcher:
    """A thread that runs one network on all that waits.

    Args:
        batch: videos per run.
        wait: seconds to wait for further videos.
        ran: is called with the videos and the seconds of each run.
    """

    def __init__(
        self,
        batch: int = 8,
        wait: float = 0.005,
        ran: Callable[[int, float], None] = lambda videos, seconds: None,
    ) -> None:
        self._batch, self._wait, self._ran = batch, wait, ran
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._next: _Job | None = None
        self._thread = threading.Thread(target=self._run, name="smnet-batch", daemon=True)
        self._thread.start()

    def submit(self, work: Work, views: Pixels) -> Future[Rows]:
        """Queue videos.

        Args:
            work: what is computed; only jobs with the same work share a run.
            views: (B, V, T*L, 3, h, w).

        Returns:
            The rows of these videos. A job that is cancelled before it begins is not computed.
        """
        job = _Job(work, views)
        self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Finish what waits and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._next or self._queue.get()) is not None:
            self._next = None
            jobs, ended = self._more(job)
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if jobs:
                self._compute(jobs)
            if ended:
                return

    def _more(self, first: _Job) -> tuple[list[_Job], bool]:
        """The jobs of a batch, and whether there is no further one."""
        jobs, rows = [first], len(first.views)
        deadline = time.monotonic() + self._wait
        while rows < self._batch:
            try:
                job = self._queue.get(timeout=max(deadline - time.monotonic(), 0.0))
            except Empty:
                break
            if job is None:
                return jobs, True
            rows += len(job.views)
            if job.work != first.work or rows > self._batch:
                self._next = job
                break
            jobs.append(job)
        return jobs, False

    def _compute(self, jobs: list[_Job]) -> None:
        began = time.monotonic()
        try:
            rows, problems = jobs[0].work(np.concatenate([job.views for job in jobs]))
        except BaseException as error:
            for job in jobs:
                job.future.set_exception(error)
            return
        first = 0
        for job in jobs:
            last = first + len(job.views)
            own = {row - first: why for row, why in problems.items() if first <= row < last}
            job.future.set_result((rows[first:last], own))
            first = last
        self._ran(first, time.monotonic() - began)
