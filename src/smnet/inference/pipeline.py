"""Videos in, rows out: decoded ahead in threads or processes, computed in batches.

    items -> read_in_threads or read_in_processes -> (item, Read, views) -> in_batches -> rows

Threads share the memory of the caller and suit a program that has threads or a GPU context of its
own. Processes also survive a decoder that crashes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from smnet.data.addresses import Unreachable
from smnet.data.clips import Part
from smnet.data.loading.views import Damage, ViewPlan
from smnet.data.workers.pool import TIME_LIMIT, Lost, ProcessPool
from smnet.data.workers.prefetch import Job, Prefetcher
from smnet.data.workers.slots import Slots
from smnet.errors import UserError
from smnet.inference.backends import Backend
from smnet.inference.utilisation import Utilisation

Views = NDArray[np.uint8]
"""(V, T*L, 3, h, w) of a video, or a batch of them."""
Rows = tuple[list[Mapping[str, Any]], dict[int, str]]
"""A row of values per video; and for videos without one, why, by their position."""


class Readable(Protocol):
    """A video, or a part of it."""

    @property
    def part(self) -> Part | None: ...

    def readable(self) -> AbstractContextManager[str | NDArray[Any]]: ...


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Read:
    """How a video was read.

    Attributes:
        stage: where it failed: "reading", "decoding" or "scoring"; empty if it did not.
        reason: why, one line.
        damage: lost frames.
        reading: seconds to fetch it from an address or an archive.
        decoding: seconds to decode it.
    """

    stage: str = ""
    reason: str = ""
    damage: int = 0
    reading: float = 0.0
    decoding: float = 0.0


def read_item(backend: Backend, plan: ViewPlan, item: Readable) -> tuple[Read, Views | None]:
    """Fetch and decode a video. Problems are returned, not raised."""
    began = ready = time.perf_counter()
    stage, damage = "reading", Damage()
    try:
        with item.readable() as content:
            ready = time.perf_counter()
            if not isinstance(content, str) or Path(content).exists():
                stage = "decoding"
            views = backend.read(content, plan, damage, item.part)
    except UserError as error:
        stage = "reading" if isinstance(error, Unreachable) else stage
        return Read(stage, str(error), 0, ready - began, time.perf_counter() - ready), None
    return Read("", "", damage.count, ready - began, time.perf_counter() - ready), views


def read_in_threads(
    read: Callable[[Item], tuple[Read, Views | None]],
    items: Iterable[Item],
    threads: int,
    window: int,
    timeout: float = TIME_LIMIT,
) -> Generator[tuple[Item, Read, Views | None], None, None]:
    """Read videos in their order, ``window`` of them ahead.

    Args:
        read: as :func:`read_item`.
        items: the videos; may be endless.
        threads: 0 reads in the caller's thread, without a time limit.
        window: videos that are read or being read at once.
        timeout: seconds per video.
    """
    remaining = iter(items)
    queue: deque[tuple[Item, Job[tuple[Read, Views | None]]]] = deque()
    with Prefetcher(read, threads, timeout) as prefetcher:
        while True:
            while len(queue) < window:
                try:
                    item = next(remaining)
                except StopIteration:
                    break
                queue.append((item, prefetcher.submit(item)))
            if not queue:
                return
            item, job = queue.popleft()
            try:
                result, views = prefetcher.result(job)
            except UserError as error:
                result, views = Read("decoding", str(error), decoding=job.seconds), None
            yield item, result, views


def read_in_processes(
    read: Callable[[Item], tuple[Read, Views | None]],
    shape: tuple[int, ...],
    items: Iterable[Item],
    workers: int,
    window: int,
    timeout: float = TIME_LIMIT,
) -> Generator[tuple[Item, Read, Views | None], None, None]:
    """Read videos as they come, so that one that hangs holds up no other.

    Args:
        read: as :func:`read_item`.
        shape: of the views, which are valid until the next video is taken.
        items: the videos.
        workers: processes.
        window: videos that are read or being read at once.
        timeout: seconds per video.
    """
    slots = Slots((window, *shape))
    free = list(range(window))
    waiting: dict[int, tuple[int, Item]] = {}

    def tasks() -> Iterator[tuple[int, Item]]:
        for number, item in enumerate(items):
            waiting[number] = free.pop(), item
            yield waiting[number]

    pool = ProcessPool(
        _Reader(read, slots),
        workers,
        timeout=timeout,
        window=window,
        queue=-(-window // workers),
    )
    with pool:
        for number, result in pool.map_unordered(tasks()):
            slot, item = waiting.pop(number)
            if isinstance(result, Lost):
                yield item, Read("decoding", result.reason), None
            else:
                yield item, result, None if result.stage else slots.frames[slot]
            free.append(slot)


class _Reader:
    """What a worker does: read a video, leave its views in a slot, return the rest."""

    def __init__(self, read: Callable[[Any], tuple[Read, Views | None]], slots: Slots) -> None:
        self._read, self._slots = read, slots

    def __call__(self, task: tuple[int, Any]) -> Read:
        slot, item = task
        read, views = self._read(item)
        if views is not None:
            self._slots.frames[slot] = views
        return read


def in_batches(
    videos: Iterable[tuple[Item, Read, Views | None]],
    batch: int,
    compute: Callable[[Views], Rows],
    used: Utilisation,
) -> Iterator[tuple[Item, Read, Mapping[str, Any]]]:
    """The row of each video, in their order; empty for one without views or that failed.

    Args:
        videos: of :func:`read_in_threads` or :func:`read_in_processes`, or windows.
        batch: videos per batch.
        compute: maps views (B, V, T*L, 3, h, w) to rows.
        used: is filled with where the time went.
    """
    waiting: list[tuple[Item, Read, int]] = []
    buffer: Views | None = None
    count = 0
    earlier = used.elapsed
    began = ready = time.perf_counter()
    for item, read, views in videos:
        used.reading += read.reading
        used.decoding += read.decoding
        if views is not None:
            if buffer is None:
                buffer = np.empty((batch, *views.shape), np.uint8)
            buffer[count] = views
            count += 1
        waiting.append((item, read, -1 if views is None else count - 1))
        if len(waiting) == batch:
            now = time.perf_counter()
            used.waiting += now - ready
            done = _computed(waiting, None if buffer is None else buffer[:count], compute, used)
            ready = time.perf_counter()
            used.inference += ready - now
            used.elapsed = earlier + ready - began
            yield from done
            ready = time.perf_counter()
            waiting, count = [], 0
    now = time.perf_counter()
    used.waiting += now - ready
    if waiting:
        done = _computed(waiting, None if buffer is None else buffer[:count], compute, used)
        used.inference += time.perf_counter() - now
        used.elapsed = earlier + time.perf_counter() - began
        yield from done


def _computed(
    waiting: list[tuple[Item, Read, int]],
    views: Views | None,
    compute: Callable[[Views], Rows],
    used: Utilisation,
) -> list[tuple[Item, Read, Mapping[str, Any]]]:
    rows, problems = compute(views) if views is not None and len(views) else ([], {})
    done: list[tuple[Item, Read, Mapping[str, Any]]] = []
    for item, read, place in waiting:
        if place in problems:
            read = Read("scoring", problems[place], read.damage, read.reading, read.decoding)
        failed = bool(read.stage)
        scored = not failed and place >= 0
        used.failed += failed
        used.clips += scored
        done.append((item, read, rows[place] if scored else {}))
    return done
