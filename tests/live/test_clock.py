"""Which frames are used: by presentation time, at the rate, whatever the source does."""

from __future__ import annotations

import numpy as np
import pytest

from smnet.live.clock import Ticks


def served(times: list[float], rate: float) -> list[int | None]:
    ticks = Ticks(rate)
    return [ticks.serve(t) for t in times]


@pytest.mark.parametrize("fps", [10, 25, 29.97, 60])
@pytest.mark.parametrize("rate", [4.0, 10.0, 12.5])
def test_the_rate_is_kept(fps: float, rate: float) -> None:
    times = [100 + k / fps for k in range(round(20 * fps))]
    counts = served(times, rate)
    assert None not in counts
    assert abs(sum(counts) - 20 * rate) <= 1  # type: ignore[arg-type]


def test_a_faster_source_serves_some_ticks_by_the_first_frame_after_each() -> None:
    assert served([0, 0.1, 0.2, 0.3, 0.4, 0.5], 5.0) == [1, 0, 1, 0, 1, 0]


def test_a_slower_source_serves_several_ticks_with_a_frame() -> None:
    assert served([0, 0.5, 1.0], 4.0) == [1, 2, 2]


def test_rounded_time_stamps_belong_to_their_tick() -> None:
    assert served([round(k / 30, 3) for k in range(31)], 30.0) == [1] * 31


def test_a_variable_rate() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.005, 0.15, 400))
    counts = served(times.tolist(), 8.0)
    assert abs(sum(counts) - 8 * (times[-1] - times[0])) <= 1  # type: ignore[arg-type]


@pytest.mark.parametrize("later", [0.5, 60.0])
def test_a_jump_begins_anew(later: float) -> None:
    """Back in time, or far ahead."""
    assert served([1.0, 1.25, later, later + 0.25], 4.0) == [1, 1, None, 1]
