"""Worker processes that may crash, hang or be killed from outside."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smnet.data.workers.pool import Lost, ProcessPool


def work(item: str) -> str:
    if item == "exit":
        os._exit(7)
    if item == "segfault":
        faulthandler.disable()  # pytest's would print a traceback
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))  # as a loop in C does
        time.sleep(1000)
    if item == "raise":
        raise KeyError("what")
    if item.startswith("/"):  # dies the first time only
        with Path(item).open("a") as file:
            file.write("x")
        if Path(item).stat().st_size == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return item.upper()


def run(items: list[str], work: Any = work, **options: Any) -> list[Any]:
    with ProcessPool(work, **options) as pool:
        return list(pool.map(items))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("window", [1, 4, 256])
def test_results_come_in_the_order_of_the_items(workers: int, window: int) -> None:
    items = [f"item {i}" for i in range(50)]
    assert run(items, workers=workers, window=window) == [item.upper() for item in items]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_item_costs_itself_alone(workers: int) -> None:
    items = ["a", "exit", "b", "segfault", "c", "raise", "d", "hang", *"efghij"]
    results = dict(zip(items, run(items, workers=workers, timeout=2.0), strict=True))
    lost = {item: result for item, result in results.items() if isinstance(result, Lost)}
    assert set(lost) == {"exit", "segfault", "raise", "hang"}
    assert {item: result.kind for item, result in lost.items()} == {
        "exit": "crash",
        "segfault": "crash",
        "raise": "error",
        "hang": "timeout",
    }
    assert "status 7" in lost["exit"].reason
    assert "SIGSEGV" in lost["segfault"].reason
    assert "KeyError" in lost["raise"].reason
    assert lost["hang"].reason == "not done within 2 seconds"
    assert all(result == item.upper() for item, result in results.items() if item not in lost)


def test_an_item_whose_worker_was_killed_once_is_tried_again(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    assert run(["a", mark, "b"], workers=1)[1] == mark.upper()
    assert Path(mark).read_text() == "xx"


def test_a_slow_consumer_is_no_slow_item() -> None:
    results = []
    with ProcessPool(work, workers=1, timeout=0.5) as pool:
        for result in pool.map(list("abcd")):
            time.sleep(0.6)
            results.append(result)
    assert results == list("ABCD")


def test_nothing_to_do() -> None:
    assert run([]) == []


def test_the_window_bounds_the_items_taken() -> None:
    taken = []

    def source() -> Any:
        for number in range(100):
            taken.append(number)
            yield str(number)

    with ProcessPool(work, workers=2, window=5) as pool:
        for number, _ in enumerate(pool.map(source())):
            assert len(taken) <= number + 5


def test_workers_live_from_one_iteration_to_the_next() -> None:
    with ProcessPool(_pid, workers=2) as pool:
        first = set(pool.map(list("abcd")))
        assert set(pool.map(list("abcdefgh"))) <= first
        killed = min(first)
        os.kill(int(str(killed)), signal.SIGKILL)
        time.sleep(0.1)
        assert killed not in set(pool.map(list("abcdefgh"))), "a dead worker is replaced"


def test_an_abandoned_iteration_does_not_disturb_the_next() -> None:
    with ProcessPool(work, workers=2) as pool:
        abandoned = pool.map(list("abcdefghij"))
        next(abandoned)
        assert list(pool.map(["x", "y"])) == ["X", "Y"]


def test_workers_end_with_the_pool() -> None:
    pids = set(run(list("abcd"), _pid, workers=2))
    assert pids
    assert not any(_alive(pid) for pid in pids)


def test_workers_end_with_the_program() -> None:
    code = """
from smnet.data.workers.pool import ProcessPool
pool = ProcessPool(str.upper, workers=2)
print(next(pool.map("abcdefgh")))
"""
    ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, b"A\n")


@pytest.mark.parametrize("size", [1, 2_000_000], ids=["small", "larger than a pipe"])
def test_workers_do_not_outlive_a_parent_that_was_killed(size: int) -> None:
    code = (
        "import os, smnet.data.workers.pool as p\n"
        "p._PARENT_CHECK = 0.1\n"
        f"def work(item): return b'x' * {size}\n"
        "for result in p.ProcessPool(work, workers=2).map(list('abcd')):\n"
        "    print(len(result), flush=True)\n"
        "    break\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    # The workers inherit standard output, and reading it to its end waits for them.
    assert int(ended.stdout) == size


def _pid(item: str) -> int:
    return os.getpid()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
