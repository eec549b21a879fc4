"""Threads that read ahead, some of which do not come back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from smnet.data.workers.ahead import Ahead
from smnet.errors import UserError


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What those that hang wait for, so that they end with the test."""
    event = threading.Event()
    yield event
    event.set()


def decode_threads() -> int:
    return sum(thread.name == "decode" for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 3])
def test_every_clip_in_order(threads: int) -> None:
    with Ahead(str.upper, threads) as ahead:
        jobs = [ahead.submit(f"clip {i}") for i in range(50)]
        assert [ahead.result(job) for job in jobs] == [f"CLIP {i}" for i in range(50)]
        assert decode_threads() == threads
    assert decode_threads() == 0


def test_no_more_threads_than_clips() -> None:
    with Ahead(str.upper, 8) as ahead:
        assert ahead.result(ahead.submit("a")) == "A"
        assert decode_threads() == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_clip_without_end_costs_itself_alone(threads: int, stuck: threading.Event) -> None:
    def read(path: str) -> str:
        if path.startswith("stuck"):
            stuck.wait()
        return path.upper()

    limit = 0.5
    paths = ["a", "stuck 1", "b", "stuck 2", "stuck 3", *"cdefgh"]
    with Ahead(read, threads, limit) as ahead:
        found = {}
        began = time.monotonic()
        for job in [ahead.submit(path) for path in paths]:
            try:
                found[job.path] = ahead.result(job)
            except UserError as error:
                found[job.path] = str(error)
                assert job.seconds >= limit
        assert time.monotonic() - began < 20
    said = "not read within 0.5 seconds: the decoder does not come to an end"
    for path in paths:
        if path.startswith("stuck"):
            assert found[path].startswith(f"{path}: {said}")
        else:
            assert found[path] == path.upper()
    stuck.set()  # the threads that were given up find that nobody waits for them
    deadline = time.monotonic() + 5
    while decode_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decode_threads() == 0


@pytest.mark.parametrize("error", [UserError("u"), TimeoutError("t"), KeyError("k")])
def test_errors_are_raised_where_the_result_is_asked_for(error: Exception) -> None:
    def read(path: str) -> str:
        raise error

    with Ahead(read, 1) as ahead:
        job = ahead.submit("a")
        with pytest.raises(type(error)) as caught:
            ahead.result(job)
    assert caught.value is error


def test_clips_that_nobody_wants_are_not_begun() -> None:
    begun = []

    def read(path: str) -> None:
        begun.append(path)
        time.sleep(0.05)

    with Ahead(read, 1) as ahead:
        for i in range(20):
            ahead.submit(str(i))
    assert len(begun) <= 2
    assert decode_threads() == 0


def test_a_thread_without_end_does_not_keep_the_program_from_ending() -> None:
    code = """
import time
from smnet.data.workers.ahead import Ahead
from smnet.errors import UserError
with Ahead(lambda path: time.sleep(1000), 1, 0.1) as ahead:
    try:
        ahead.result(ahead.submit("clip.mp4"))
    except UserError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.startswith("clip.mp4: not read within 0.1 seconds")
    assert done.stderr == ""
