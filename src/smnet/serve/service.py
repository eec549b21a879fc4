"""What the routes share: models, workers, batchers, limits, counts, and a folder for uploads."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from smnet.console import printable
from smnet.files import temporary_folder
from smnet.serve.batching import Batcher, Work
from smnet.serve.limits import Limits
from smnet.serve.metrics import Metrics
from smnet.serve.models import Model, Pixels
from smnet.serve.workers import Answer, Task, Workers

_KEY_LIFE = 60.0  # seconds
_MOST_KEYS = 64


class Upload:
    """A video of a request: the name that the client gave, and where it lies.

    Attributes:
        seconds: that decoding took.
    """

    def __init__(self, name: str, path: str, folder: Path) -> None:
        self.name, self.path, self._folder, self.seconds = name, path, folder, 0.0

    def task(self, kind: Literal["views", "timeline"], model: int) -> Task:
        return Task(kind, model, self.path, str(self._folder))

    def reason(self, answer: Answer) -> str:
        """Why it was not read, with the client's name for it."""
        reason = answer.read.reason.replace(self.path, self.name)
        reason = reason.replace(str(self._folder), "")
        return reason if self.name in reason else f"{self.name}: {reason}"


class Unreadable(Exception):
    """A video could not be read; the message is for its client."""


class Service:
    """What the routes share.

    Args:
        models: the networks; the first one is the default.
        limits: of a request.
        workers: decoding processes.
        batch: videos per run of a network.
        wait: seconds to wait for further videos.
        report: a page that smnet wrote, as HTML; empty if there is none.

    Attributes:
        draining: whether the server is about to end.
    """

    def __init__(
        self,
        models: Sequence[Model],
        limits: Limits,
        workers: int = 1,
        batch: int = 8,
        wait: float = 0.005,
        report: str = "",
    ) -> None:
        self.models, self.limits, self.metrics, self.report = models, limits, Metrics(), report
        self._open = ExitStack()
        # The next process of smnet removes this folder if the server is killed.
        self.folder = self._open.enter_context(temporary_folder()) / "uploads"
        self.folder.mkdir()
        self.batchers: list[Batcher] = []
        self.workers = Workers(models, self.batchers, limits, workers, batch)
        for model in models:  # after the workers are forked
            ran = _Ran(self.metrics, model.name)
            self.batchers.append(Batcher(batch, wait, ran))
        self.draining = False
        self.cameras = 0
        self.explaining = asyncio.Semaphore(1)
        self._keys: dict[str, float] = {}

    def warm_up(self) -> None:
        """Run every network once, so that the first request does not wait for it."""
        for model, batcher in zip(self.models, self.batchers, strict=True):
            views = np.zeros((1, *model.recognizer.plan.shape), np.uint8)
            batcher.submit(model.scores, views).result()

    def close(self) -> None:
        """End the workers and remove the folder."""
        self.workers.close()
        for batcher in self.batchers:
            batcher.close()
        self._open.close()

    def number(self, name: str | None) -> int:
        """The number of a model; the first one without a name."""
        names = [model.name for model in self.models]
        if name is None:
            return 0
        if name not in names:
            raise HTTPException(404, f"no model {printable(name)!r}; there are: {', '.join(names)}")
        return names.index(name)

    async def read(self, upload: Upload, task: Task) -> Answer:
        """Have a video read. If this is cancelled, so is the work.

        Raises:
            Unreadable: with the reason.
        """
        job = self.workers.submit(task)
        try:
            answer = await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            job.stop()
            raise
        upload.seconds = answer.read.decoding
        self.metrics.reading.observe(answer.read.decoding)
        if answer.read.stage:
            self.metrics.unreadable.inc()
            raise Unreadable(upload.reason(answer))
        return answer

    async def views(self, upload: Upload, number: int) -> tuple[Pixels, int]:
        """The views of a video for a model, and how much of it is damaged.

        Raises:
            Unreadable: with the reason.
        """
        answer = await self.read(upload, upload.task("views", number))
        assert answer.views is not None
        return answer.views, answer.read.damage

    async def compute(self, number: int, work: Work, views: Pixels) -> NDArray[Any]:
        """The row of a video."""
        rows, problems = await asyncio.wrap_future(self.batchers[number].submit(work, views[None]))
        if problems:
            raise HTTPException(503, problems[0])
        row: NDArray[Any] = rows[0]
        return row

    def new_key(self) -> str:
        """A key to the report, for a browser's window, which cannot send the token."""
        now = time.monotonic()
        alive = [(key, end) for key, end in self._keys.items() if end > now][-_MOST_KEYS:]
        key = secrets.token_urlsafe(24)
        self._keys = {**dict(alive), key: now + _KEY_LIFE}
        return key

    def has_key(self, key: str) -> bool:
        """Whether a key is valid still."""
        return self._keys.get(key, 0.0) > time.monotonic()


class _Ran:
    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name

    def __call__(self, videos: int, seconds: float) -> None:
        self._metrics.ran(self._name, videos, seconds)
