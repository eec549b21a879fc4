"""Worker processes that may crash, hang or be killed from outside."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smnet.data.workers.isolation import Lost, run_isolated


def work(item: str) -> str:
    if item == "exit":
        os._exit(7)
    if item == "segfault":
        faulthandler.disable()  # of pytest; it would tell of it
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))  # deaf, as a loop in C is
        time.sleep(1000)
    if item == "raise":
        raise KeyError("what")
    if item.startswith("/"):  # dies the first time only
        with Path(item).open("a") as file:
            file.write("x")
        if Path(item).stat().st_size == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return item.upper()


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_gives_one_result(workers: int) -> None:
    items = [f"item {i}" for i in range(50)]
    results = list(run_isolated(work, items, workers=workers))
    assert sorted(results) == [(i, item.upper()) for i, item in enumerate(items)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_item_costs_itself_alone(workers: int) -> None:
    items = ["a", "exit", "b", "segfault", "c", "raise", "d", "hang", *"efghij"]
    results = dict(run_isolated(work, items, workers=workers, timeout=2.0))
    assert set(results) == set(range(len(items)))
    lost = {items[i]: r for i, r in results.items() if isinstance(r, Lost)}
    assert set(lost) == {"exit", "segfault", "raise", "hang"}
    assert "status 7" in lost["exit"].reason
    assert "SIGSEGV" in lost["segfault"].reason
    assert "KeyError" in lost["raise"].reason
    assert lost["hang"] == Lost(True, "not done within 2 seconds")
    assert all(r == items[i].upper() for i, r in results.items() if items[i] not in lost)


def test_an_item_whose_worker_was_killed_once_is_tried_again(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    assert dict(run_isolated(work, ["a", mark, "b"], workers=1))[1] == mark.upper()
    assert Path(mark).read_text() == "xx"


def test_a_slow_reader_of_the_results_is_no_slow_item() -> None:
    results = []
    for result in run_isolated(work, list("abcd"), workers=1, timeout=0.5):
        time.sleep(0.6)
        results.append(result[1])
    assert sorted(results) == list("ABCD")


def test_nothing_to_do() -> None:
    assert list(run_isolated(work, [])) == []


def test_workers_end_with_the_run() -> None:
    results = run_isolated(_pid, list("abcd"), workers=2)
    pids = {result for _, result in results}
    assert pids
    assert not any(_alive(int(str(pid))) for pid in pids)


def test_workers_end_when_nobody_takes_the_results() -> None:
    results = run_isolated(_pid, list("abcdefghij"), workers=1)
    pid = int(str(next(results)[1]))
    assert _alive(pid)
    results.close()  # type: ignore[attr-defined]
    assert not _alive(pid)


@pytest.mark.parametrize("size", [1, 2_000_000], ids=["small", "larger than a pipe"])
def test_workers_do_not_outlive_a_parent_that_was_killed(size: int) -> None:
    code = (
        "import os, smnet.data.workers.isolation as i\n"
        "i._PATIENCE = 0.1\n"
        f"def work(item): return b'x' * {size}\n"
        "for _, result in i.run_isolated(work, list('abcd'), workers=2):\n"
        "    print(len(result), flush=True)\n"
        "    break\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    # The workers inherit its standard output, so reading to the end of that waited for them: with
    # one left, the time would have run out.
    assert int(ended.stdout) == size


def _pid(item: str) -> int:
    return os.getpid()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
