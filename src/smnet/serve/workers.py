"""Uploads are decoded in processes with limits of time and memory.

A timeline runs in such a process too. It sends its windows to this one to be scored.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from smnet.corpus.items import Item
from smnet.data.video.base import MAX_PIXELS
from smnet.data.video.container import open_container, video_stream
from smnet.data.video.webp import is_webp
from smnet.data.workers.pool import Lost, Worker
from smnet.data.workers.slots import Slots
from smnet.errors import UserError
from smnet.inference.backends import Backend
from smnet.inference.pipeline import Read, read_item
from smnet.serve.batching import Batcher
from smnet.serve.limits import Limits
from smnet.serve.models import Delegate, Model, Pixels, Values
from smnet.timeline.curves import score_recording
from smnet.timeline.run import make_timeline

_LOOK = 0.1  # seconds between looks whether a job was cancelled
_PARENT_CHECK = 5.0
_MICROSECONDS = 1e6  # FFmpeg's unit of a duration


@dataclass(frozen=True)
class Task:
    """A video to read.

    Attributes:
        kind: ``"views"`` reads the views; ``"timeline"`` finds segments.
        model: number of the model.
        path: the upload, or an address.
        folder: for temporary files.
    """

    kind: Literal["views", "timeline"]
    model: int
    path: str
    folder: str


@dataclass(frozen=True)
class Answer:
    """What became of a task.

    Attributes:
        read: how the video was read; its ``stage`` is empty if it was.
        views: (V, T*L, 3, h, w).
        timeline: of a recording, as plain values.
    """

    read: Read
    views: Pixels | None = None
    timeline: Mapping[str, Any] = field(default_factory=dict)


class Job:
    """A task that waits or is worked on; ``future`` has the answer."""

    def __init__(self, task: Task, timeout: float) -> None:
        self.task, self.timeout = task, timeout
        self.future: Future[Answer] = Future()
        self.stopped = False

    def stop(self) -> None:
        """Nobody needs the answer: leave it out, or kill the process that works on it."""
        self.stopped = True
        self.future.cancel()


class Workers:
    """Processes that read uploads, each with a thread that looks after it.

    Args:
        models: the networks.
        batchers: of the models.
        limits: of a video.
        count: of processes.
        batch: windows of a timeline that are scored at once.
    """

    def __init__(
        self,
        models: Sequence[Model],
        batchers: Sequence[Batcher],
        limits: Limits,
        count: int,
        batch: int = 8,
    ) -> None:
        self._models, self._batchers, self._limits = models, batchers, limits
        self._batch = batch
        self._slots = [Slots((count, batch, *model.recognizer.plan.shape)) for model in models]
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._workers: list[Worker[Task, Read | dict[str, Any]]] = []
        self._calls: list[Connection] = []
        # Forked before there are threads.
        for number in range(count):
            self._start(number)
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name="smnet-worker", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> Job:
        """Queue a task."""
        limits = self._limits
        job = Job(task, limits.timeline if task.kind == "timeline" else limits.timeout)
        self._queue.put(job)
        return job

    def close(self) -> None:
        """Finish what waits and end the processes."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.end()

    @property
    def alive(self) -> bool:
        """Whether every process lives."""
        return all(worker.process.exitcode is None for worker in self._workers)

    def _start(self, number: int) -> None:
        """Start a process, in place of the one with this number."""
        calls, theirs = multiprocessing.Pipe()
        work = _Work(self._models, self._slots, number, self._batch, theirs, self._limits)
        others = [w for w in self._workers if w.alive]
        worker: Worker[Task, Read | dict[str, Any]] = Worker(work, work.prepare, others)
        theirs.close()
        self._workers[number : number + 1] = [worker]
        self._calls[number : number + 1] = [calls]

    def _run(self, number: int) -> None:
        while (job := self._queue.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                result = self._result(job, number)
                if isinstance(result, Lost):
                    answer = Answer(Read("decoding", result.reason))
                elif isinstance(result, Read):
                    # The slot is free for the next video after this.
                    frames = self._slots[job.task.model].frames[number, 0]
                    answer = Answer(result, None if result.stage else frames.copy())
                else:
                    answer = Answer(Read(), None, result)
                job.future.set_result(answer)
            except BaseException as error:
                job.future.set_exception(error)
            if not self._workers[number].alive:
                self._calls[number].close()
                self._start(number)

    def _result(self, job: Job, number: int) -> Read | dict[str, Any] | Lost:
        worker, calls = self._workers[number], self._calls[number]
        worker.give((0, job.task), job.timeout)
        while True:
            wait([worker.connection, worker.process.sentinel, calls], _LOOK)
            if job.stopped:
                worker.end()
                return Lost("error", "cancelled")
            if calls.poll():
                self._score(job.task.model, number)
            for _, result in worker.results(job.timeout):
                return result
            if lost := worker.lost(job.timeout):
                return lost

    def _score(self, model: int, number: int) -> None:
        """Score the windows that a worker left in its slot."""
        calls = self._calls[number]
        try:
            count = calls.recv()
        except (EOFError, OSError):
            return  # the worker died; its sentinel tells
        views = self._slots[model].frames[number, :count].copy()
        rows, problems = self._batchers[model].submit(self._models[model].scores, views).result()
        calls.send(next(iter(problems.values())) if problems else rows)


class _Work:
    """What a process does."""

    def __init__(
        self,
        models: Sequence[Model],
        slots: Sequence[Slots],
        number: int,
        batch: int,
        calls: Connection,
        limits: Limits,
    ) -> None:
        self._models, self._slots, self._number = models, slots, number
        self._batch, self._calls, self._limits = batch, calls, limits

    def prepare(self) -> None:
        """Limit what this process may take."""
        limit_resources(self._limits)

    def __call__(self, task: Task) -> Read | dict[str, Any]:
        tempfile.tempdir = task.folder
        model = self._models[task.model]
        slot = self._slots[task.model].frames[self._number]
        backend = _RemoteBackend(model.backend, slot, self._calls, self._limits)
        if task.kind == "views":
            read, views = read_item(backend, model.recognizer.plan, Item(task.path, -1, ""))
            if views is not None:
                slot[0] = views
            return read
        settings = model.recording
        try:
            with Item(task.path, -1, "").readable() as path:
                check_video(str(path), self._limits)
                curves = score_recording(
                    backend,
                    settings.plan,
                    str(path),
                    settings.window,
                    settings.every,
                    batch=self._batch,
                    timeout=self._limits.timeout,
                )
        except UserError as error:
            return Read("decoding", str(error))
        return make_timeline(curves, settings.rule).summary()


class _RemoteBackend(Delegate):
    """Reads within the limits, and has its windows scored in the parent process."""

    def __init__(self, backend: Backend, slot: Pixels, calls: Connection, limits: Limits) -> None:
        super().__init__(backend)
        self._slot, self._calls, self._limits = slot, calls, limits
        self._parent = os.getppid()

    def read(self, path: str | Pixels, *words: Any, **named: Any) -> Pixels:
        check_video(str(path), self._limits)
        return super().read(path, *words, **named)

    def score(self, views: Pixels) -> Values:
        self._slot[: len(views)] = views
        self._calls.send(len(views))
        while not self._calls.poll(_PARENT_CHECK):
            if os.getppid() != self._parent:
                os._exit(1)
        rows = self._calls.recv()
        if isinstance(rows, str):
            raise UserError(rows)
        scores: Values = rows
        return scores


def check_video(path: str, limits: Limits) -> None:
    """Refuse a video whose header says that it exceeds the limits. Nothing is decoded.

    Raises:
        UserError: it does, or is no video.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: not a video file")
    if is_webp(path):
        return
    with open_container(path, limits.timeout) as container:
        stream = video_stream(path, container)
        size = stream.codec_context.width * stream.codec_context.height
        most = min(limits.pixels, MAX_PIXELS)
        if size > most:
            raise UserError(
                f"{path}: frames of {stream.codec_context.width}x{stream.codec_context.height}"
                f" pixels; this server takes {most / 1e6:.1f} million per frame"
            )
        seconds = (container.duration or 0) / _MICROSECONDS
        if seconds > limits.length:
            raise UserError(f"{path}: {seconds:.0f} s long; this server takes {limits.length:g} s")
        if stream.frames > limits.frames:
            raise UserError(f"{path}: {stream.frames} frames; this server takes {limits.frames}")


def limit_resources(limits: Limits) -> None:
    """Limit the memory of this process and the size of the files that it writes (POSIX only)."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.upload, limits.upload))
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return
    most = pages * resource.getpagesize() + limits.memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
