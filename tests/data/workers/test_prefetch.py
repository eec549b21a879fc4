"""Prefetch threads, some of which never return."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from smnet.data.workers.prefetch import Prefetcher
from smnet.errors import UserError


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """The event that hanging reads wait for, so that they end with the test."""
    event = threading.Event()
    yield event
    event.set()


def decode_threads() -> int:
    return sum(thread.name == "decode" for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 3])
def test_every_clip_in_order(threads: int) -> None:
    with Prefetcher(str.upper, threads) as prefetcher:
        jobs = [prefetcher.submit(f"clip {i}") for i in range(50)]
        assert [prefetcher.result(job) for job in jobs] == [f"CLIP {i}" for i in range(50)]
        assert decode_threads() == threads
    assert decode_threads() == 0


def test_no_more_threads_than_clips() -> None:
    with Prefetcher(str.upper, 8) as prefetcher:
        assert prefetcher.result(prefetcher.submit("a")) == "A"
        assert decode_threads() == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_clip_without_end_costs_itself_alone(threads: int, stuck: threading.Event) -> None:
    def read(path: str) -> str:
        if path.startswith("stuck"):
            stuck.wait()
        return path.upper()

    limit = 0.5
    paths = ["a", "stuck 1", "b", "stuck 2", "stuck 3", *"cdefgh"]
    with Prefetcher(read, threads, limit) as prefetcher:
        results = {}
        began = time.monotonic()
        for job in [prefetcher.submit(path) for path in paths]:
            try:
                results[job.path] = prefetcher.result(job)
            except UserError as error:
                results[job.path] = str(error)
                assert job.seconds >= limit
        assert time.monotonic() - began < 20
    message = "not read within 0.5 seconds: the decoder does not come to an end"
    for path in paths:
        if path.startswith("stuck"):
            assert results[path].startswith(f"{path}: {message}")
        else:
            assert results[path] == path.upper()
    stuck.set()  # the abandoned threads end
    deadline = time.monotonic() + 60
    while decode_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decode_threads() == 0


@pytest.mark.parametrize("error", [UserError("u"), TimeoutError("t"), KeyError("k")])
def test_errors_are_raised_where_the_result_is_asked_for(error: Exception) -> None:
    def read(path: str) -> str:
        raise error

    with Prefetcher(read, 1) as prefetcher:
        job = prefetcher.submit("a")
        with pytest.raises(type(error)) as caught:
            prefetcher.result(job)
    assert caught.value is error


def test_close_drops_clips_that_are_not_begun() -> None:
    begun = []

    def read(path: str) -> None:
        begun.append(path)
        time.sleep(0.05)

    with Prefetcher(read, 1) as prefetcher:
        for i in range(20):
            prefetcher.submit(str(i))
    assert len(begun) <= 2
    assert decode_threads() == 0


def test_a_thread_without_end_does_not_keep_the_program_from_ending() -> None:
    code = """
import time
from smnet.data.workers.prefetch import Prefetcher
from smnet.errors import UserError
with Prefetcher(lambda path: time.sleep(1000), 1, 0.1) as prefetcher:
    try:
        prefetcher.result(prefetcher.submit("clip.mp4"))
    except UserError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.startswith("clip.mp4: not read within 0.1 seconds")
    assert done.stderr == ""
