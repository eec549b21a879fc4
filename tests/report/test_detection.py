"""The evaluation of recordings on the terminal."""

from __future__ import annotations

import pytest

from smnet.evaluation.detection import Detection, Recording, Segment
from smnet.report.detection import print_detection

TRUTH = (Segment(0, 10, "a"), Segment(20, 30, "b"))
ONE = Recording("r.mp4", 60, TRUTH, TRUTH)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_intervals_need_several_recordings(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_detection(Detection([ONE] * count, ["a", "b"]))
    printed = capsys.readouterr().out
    assert ("one recording has no interval" in printed) == (count == 1)
    assert ("are rough" in printed) == (count == 2)
    assert ("F1@25         100.0% [100.0%, 100.0%]" in printed) == (count > 1)
    assert "F1@25         100.0%" in printed
