"""The test of time, on scores that are counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smnet.explain.order import order_test
from tests.explain.conftest import Rising, brightening


def test_scores_of_rearranged_frames(rising: Rising) -> None:
    found = order_test(rising, brightening(), 1, shuffles=50)
    assert found.original == 1
    assert found.backwards == 0
    assert found.frozen.tolist() == [0, 0, 0, 0]
    # One frame repeats the frame before it (the first, the second): two of three pairs grow.
    assert found.left_out == pytest.approx([2 / 3] * 4)
    assert found.shuffled.shape == (50,)
    assert found.shuffled.max() < 1  # never the order of the clip
    assert found.shuffled.mean() == pytest.approx(0.5, abs=0.12)
    assert found.verdict.startswith("The order matters: 100% as it is, 0% reversed")
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["reversed"] == ("0.0%", "-100.0")
    assert rows["without frame 1"] == ("66.7%", "-33.3")
    assert found.to_dict()["shuffled"]["orders"] == 50


def test_a_network_that_does_not_see_the_order(rising: Rising) -> None:
    still = np.full((4, 3, 8, 8), 9, np.uint8)
    found = order_test(rising, still, 0)
    assert (
        found.verdict
        == "The order of the frames makes no difference here. Frame 1 alone is enough."
    )


def test_the_frames_of_a_segment_stay_together(rising: Rising) -> None:
    rising.spec = replace(rising.spec, num_segments=2, frames_per_segment=2)
    found = order_test(rising, brightening(), 1)
    # The two segments swapped: 3, 4, 1, 2 grows twice.
    assert found.shuffled == pytest.approx([2 / 3] * 10)
    assert found.backwards == 0  # also within segments
    assert found.frozen == pytest.approx([2 / 3] * 2)


def test_a_single_segment(rising: Rising) -> None:
    rising.spec = replace(rising.spec, num_segments=1)
    found = order_test(rising, brightening()[:1], 0)
    assert len(found.shuffled) == len(found.left_out) == 0
    assert [row[0] for row in found.rows] == ["as it is", "reversed", "frozen at frame 1"]
