"""Time measured in turns."""

from __future__ import annotations

import time

import pytest

from smnet.measure import OtherLoad, Timings, clock_for, in_turns


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    timings = in_turns([lambda: calls.append("a"), lambda: calls.append("b")], 2, warmup=1)
    assert calls == ["a", "b"] * 3
    assert [len(taken) for taken in timings.seconds] == [2, 2]


def test_medians_and_ratios_by_hand() -> None:
    timings = Timings(((1.0, 2.0, 4.0), (2.0, 2.0, 2.0)), "wall", None, 2)
    assert timings.median(0) == 2.0
    ratio = timings.ratio(0, 1)
    assert (ratio.low, ratio.value, ratio.high) == (0.75, 1.0, 1.5)
    assert str(ratio) == "1.00 (0.75 to 1.50)"
    assert Timings(((3.0,), (2.0,)), "wall", None, 2).ratio(0, 1).value == 1.5


def test_the_limit_leaves_three_rounds() -> None:
    timings = in_turns([lambda: time.sleep(0.01)], 50, limit=0.0)
    assert len(timings.seconds[0]) == 3


def test_cpu_time_does_not_count_sleep() -> None:
    timings = in_turns([lambda: time.sleep(0.05)], 3, clock="cpu")
    assert timings.median(0) < 0.04


@pytest.mark.parametrize(
    ("load", "says"), [(None, ""), (0.1, ""), (1.25, "other programs used 1.2 of 2 cores")]
)
def test_a_busy_machine_is_reported(load: float | None, says: str) -> None:
    warning = Timings(((1.0,),), "wall", load, 2).warning
    assert says in warning
    assert bool(warning) == bool(says)


def test_the_load_of_this_process_is_not_counted() -> None:
    load = OtherLoad()
    if load._began is None:
        pytest.skip("no /proc/stat here")
    (wall, busy, own), cores = load._began, load.cores
    load._began = (wall - 10, busy - 12, own - 9)  # 3 busy seconds of others in 10 seconds
    used = load.cores_used()
    assert used == pytest.approx(0.3, abs=0.1)
    assert cores >= 1


def test_the_clock_for_one_thread_is_cpu_time() -> None:
    assert [clock_for(1), clock_for(2), clock_for(1, "cuda")] == ["cpu", "wall", "wall"]
