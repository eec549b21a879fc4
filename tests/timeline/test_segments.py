"""From curves to segments: oracle curves, thresholds, merging, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smnet.errors import UserError
from smnet.evaluation.detection import ACTIVITYNET, Detection, Recording, Segment
from smnet.timeline.calibrate import calibrate, read_calibration, write_calibration
from smnet.timeline.curves import Curves
from smnet.timeline.segments import (
    Limits,
    Rule,
    find_segments,
    hysteresis,
    make_rule,
    runs,
    smoothed,
    step_edges,
)

PLAIN = Rule(Limits(0.5, 0.5))


def curves_of(scores: np.ndarray, names: str = "ab", every: float = 1.0) -> Curves:
    """Curves whose windows have their middles at 0.5, 1.5, ... steps."""
    times = (np.arange(len(scores)) + 0.5) * every
    duration = len(scores) * every
    return Curves("r.mp4", duration, 25, every, every, tuple(names), times, scores.astype("f4"))


def column(*values: float) -> Curves:
    return curves_of(np.array(values)[:, None], "a")


def borders(found: list[Segment]) -> list[tuple[float, float, str]]:
    return [(s.start, s.end, s.label) for s in found]


def test_runs() -> None:
    assert list(runs(np.array([1, 1, 0, 1, 0, 0, 1], bool))) == [(0, 2), (3, 4), (6, 7)]
    assert list(runs(np.array([], bool))) == []


def test_two_thresholds() -> None:
    scores = np.array([0.4, 0.6, 0.4, 0.2, 0.4, 0.45, 0.1, 0.7])
    assert hysteresis(scores, 0.3, 0.5).tolist() == [1, 1, 1, 0, 0, 0, 0, 1]


def test_edges_lie_between_windows_and_at_both_ends() -> None:
    assert step_edges(column(0, 0, 0)).tolist() == [0, 1, 2, 3]


def test_smoothing_is_a_mean_that_shrinks_at_the_ends() -> None:
    curves = column(0, 3, 0, 6, 0)
    assert smoothed(curves, 2.0)[:, 0].tolist() == pytest.approx([1.5, 1, 3, 2, 3])
    assert smoothed(curves, 0.5)[:, 0].tolist() == [0, 3, 0, 6, 0]


def test_short_segments_are_dropped_and_short_gaps_filled() -> None:
    curves = column(1, 0, 1, 1, 0, 0, 1, 0)
    assert len(find_segments(curves, PLAIN)) == 3
    filled = find_segments(curves, Rule(Limits(0.5, 0.5, 2), gap=1))
    assert borders(filled) == [(0, 4, "a")]
    assert filled[0].score == pytest.approx(0.75)


def test_one_label_at_a_time_goes_to_the_higher_score() -> None:
    scores = np.array([[0.6, 0.0], [0.6, 0.7], [0.6, 0.7], [0.6, 0.0]])
    assert borders(find_segments(curves_of(scores), PLAIN)) == [
        (0, 1, "a"),
        (1, 3, "b"),
        (3, 4, "a"),
    ]
    overlapping = find_segments(curves_of(scores), Rule(Limits(0.5, 0.5), overlap=True))
    assert borders(overlapping) == [(0, 4, "a"), (1, 3, "b")]


def test_what_another_class_leaves_needs_the_upper_threshold() -> None:
    scores = np.array([[0.4, 0.0], [0.6, 0.7], [0.4, 0.0]])
    found = find_segments(curves_of(scores), Rule(Limits(0.5, 0.3)))
    assert borders(found) == [(1, 2, "b")]


def test_a_gap_with_another_label_is_not_filled() -> None:
    scores = np.array([[0.9, 0.0], [0.0, 0.9], [0.9, 0.0]])
    assert len(find_segments(curves_of(scores), Rule(Limits(0.5, 0.5), gap=5))) == 3


def test_background_competes_and_is_left_out() -> None:
    curves = curves_of(np.array([[0.6, 0.9], [0.6, 0.1]]))
    curves = Curves(**{**vars(curves), "classes": ("a", "none")})
    assert borders(find_segments(curves, PLAIN)) == [(1, 2, "a")]


def test_the_lower_threshold_is_at_most_the_upper() -> None:
    assert make_rule(2, high=0.4).limits == Limits(0.4, 0.24, 1)
    with pytest.raises(UserError, match=r"0\.6 is above the upper one, 0\.4"):
        make_rule(2, high=0.4, low=0.6)


parts = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 6), st.sampled_from("ab")), min_size=1, max_size=6
)


@settings(max_examples=30, deadline=None)
@given(st.lists(parts, min_size=1, max_size=3))
def test_oracle_curves_give_a_perfect_result(several: list[list[tuple[int, int, str]]]) -> None:
    """mAP 1 where the scores are the truth: borders lie on the edges of the steps."""
    recordings = []
    for layout in several:
        truth, at = [], 0
        for gap, length, label in layout:
            truth.append(Segment(at + gap, at + gap + length, label))
            at += gap + length
        scores = np.zeros((at + 1, 2))
        for s in truth:
            scores[int(s.start) : int(s.end), "ab".index(s.label)] = 1
        found = find_segments(curves_of(scores), PLAIN)
        recordings.append(Recording("r", at + 1.0, tuple(truth), tuple(found)))
    result = Detection(recordings, "ab", draws=0)
    assert result.mean_average_precision(ACTIVITYNET).value == pytest.approx(1)
    assert result.f1(0.5).value == result.edit.value == 1
    assert result.accuracy.value == pytest.approx(1)


def test_calibration_finds_the_level_of_each_class() -> None:
    rng = np.random.default_rng(0)
    several, truth = [], []
    for _ in range(3):
        scores = rng.uniform(0, 0.1, (64, 2))
        side = []
        for start in (5, 25, 45):
            scores[start : start + 8] += [0.25, 0.0]
            scores[start + 10 : start + 16] += [0.0, 0.7]
            side += [Segment(start, start + 8, "a"), Segment(start + 10, start + 16, "b")]
        scores[20] += [0.0, 0.45]  # a false peak
        several.append(curves_of(scores))
        truth.append(side)
    found = calibrate(several, truth, Rule(), "marks.csv")
    assert found.f1 == {"a": 1.0, "b": 1.0}
    assert 0.1 < found.limits["a"].high <= 0.3
    for curves, side in zip(several, truth, strict=True):
        segments = find_segments(curves, Rule(by_class=found.limits))
        assert borders(segments) == borders(side)


def test_a_calibration_is_kept_in_a_file(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "t.json"
    found = calibrate([column(0, 1, 0)], [[Segment(1, 2, "a")]], Rule(), "marks.csv")
    write_calibration(path, found)
    assert read_calibration(path) == found
    path.write_text('{"classes": {"a": {"high": "x"}}}')
    with pytest.raises(UserError, match="not a file of thresholds"):
        read_calibration(path)
