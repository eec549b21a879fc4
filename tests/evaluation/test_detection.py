"""Detection metrics: cases worked by hand, a plain second program, and properties."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smnet.evaluation.detection import (
    ACTIVITYNET,
    THUMOS,
    Detection,
    Recording,
    Segment,
    edit_score,
    f1_counts,
    temporal_iou,
)

TRUTH = (Segment(0, 10, "a"), Segment(20, 30, "b"), Segment(40, 50, "a"))


def one(*detections: Segment, truth: tuple[Segment, ...] = TRUTH, seconds: float = 60) -> Recording:
    return Recording("r.mp4", seconds, truth, detections)


def test_iou() -> None:
    others = [Segment(5, 15, "b"), Segment(10, 12, "a"), Segment(0, 10, "a"), Segment(2, 4, "a")]
    assert temporal_iou(TRUTH[0], others).tolist() == pytest.approx([1 / 3, 0, 1, 0.2])
    assert temporal_iou(Segment(1, 1, "a"), [Segment(1, 1, "a")]).tolist() == [0]


def test_average_precision_by_hand() -> None:
    """Two parts of ``a``; by score: a hit, a duplicate, a hit. The curve: 1/1, 1/2, 2/3."""
    result = Detection(
        [one(Segment(0, 9, "a", 0.9), Segment(1, 10, "a", 0.8), Segment(40, 48, "a", 0.7))],
        ["a", "b"],
    )
    a, b = result.class_precision([0.5])
    assert a.value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert b.value == 0
    assert result.mean_average_precision([0.5]).value == pytest.approx(a.value / 2)
    # At 0.85 only the first is a hit: IoU 0.9 against 0.8.
    assert result.class_precision([0.85])[0].value == pytest.approx(0.5)
    hits = sum(t <= 0.8 + 1e-9 for t in ACTIVITYNET)
    expected = (hits * a.value + (10 - hits - 1) * 0.5) / 10  # 0.95 has none
    assert result.class_precision(ACTIVITYNET)[0].value == pytest.approx(expected)


def test_the_second_best_part_is_taken_if_the_best_is_gone() -> None:
    truth = (Segment(0, 10, "a"), Segment(2, 12, "a"))
    result = Detection(
        [one(Segment(0, 10, "a", 0.9), Segment(1, 10, "a", 0.8), truth=truth)], ["a"]
    )
    assert result.class_precision([0.6])[0].value == 1


def test_f1_by_hand() -> None:
    detections = (Segment(0, 6, "a"), Segment(6, 10, "a"), Segment(22, 25, "b"))
    assert f1_counts(TRUTH[::2], detections[:2], 0.25) == (1, 1, 1)
    assert f1_counts(TRUTH[1:2], detections[2:], 0.5) == (0, 1, 1)
    result = Detection([one(*detections)], ["a", "b"])
    assert result.f1(0.25).value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert [s.value for s in result.class_f1(0.25)] == pytest.approx([0.5, 1])
    assert result.f1(0.5).value == pytest.approx(2 * 1 / (2 + 2 + 2))


def test_edit_score_by_hand() -> None:
    said = [Segment(0, 10, "a"), Segment(12, 13, "c"), Segment(20, 30, "b")]
    assert edit_score(TRUTH, said) == pytest.approx(1 - 2 / 3)  # c inserted, the last a missing
    assert edit_score(TRUTH, ()) == 0
    assert edit_score((), ()) == 1


def test_accuracy_by_hand() -> None:
    """Right: 5 to 10, 20 to 30, and the background of 10 to 18, 30 to 40 and 50 to 60."""
    result = Detection([one(Segment(5, 10, "a"), Segment(18, 30, "b"))], ["a", "b"])
    assert result.accuracy.value == pytest.approx((5 + 10 + 8 + 10 + 10) / 60)
    assert [s.value for s in result.class_accuracy] == pytest.approx([5 / 20, 1])


def test_moments_with_several_labels_are_right_as_sets() -> None:
    truth = (Segment(0, 10, "a"), Segment(5, 10, "b"))
    result = Detection([one(Segment(0, 10, "a"), truth=truth, seconds=10)], ["a", "b"])
    assert result.accuracy.value == pytest.approx(0.5)
    assert [s.value for s in result.class_accuracy] == [1, 0]


segments = st.builds(
    lambda start, length, label, score: Segment(start, start + length, label, score),
    st.integers(0, 40),
    st.integers(1, 15),
    st.sampled_from("abc"),
    st.sampled_from([0.1, 0.2, 0.5, 0.9]),
)
some = st.lists(segments, max_size=8).map(tuple)
recordings = st.lists(
    st.builds(lambda t, d: Recording("r", 60.0, t, d), some, some), min_size=1, max_size=4
)


def naive_precision(recordings: list[Recording], label: str, threshold: float) -> float:
    """Average precision of detections with distinct scores, point by point."""
    pairs = [(r, d) for r in recordings for d in r.detections if d.label == label]
    total = sum(t.label == label for r in recordings for t in r.truth)
    if not total:
        return math.nan
    used: set[tuple[int, int]] = set()
    points, hits = [], 0
    for number, (recording, d) in enumerate(sorted(pairs, key=lambda p: -p[1].score), 1):
        best, place = 0.0, None
        for i, t in enumerate(recording.truth):
            shared = max(min(t.end, d.end) - max(t.start, d.start), 0)
            iou = shared / (t.end - t.start + d.end - d.start - shared)
            if t.label == label and (id(recording), i) not in used and iou > best:
                best, place = iou, i
        if place is not None and best >= threshold:
            used.add((id(recording), place))
            hits += 1
        points.append((hits / total, hits / number))
    area = last = 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - last) * max(precision for _, precision in points[i:])
        last = recall
    return area


@settings(max_examples=30, deadline=None)
@given(recordings, st.integers(0, 2**32 - 1))
def test_average_precision_against_a_plain_program(several: list[Recording], seed: int) -> None:
    generator = np.random.default_rng(seed)
    distinct = [  # with distinct scores and borders the result depends on no order
        replace(
            r,
            detections=tuple(
                replace(d, score=generator.random(), end=d.end + generator.random() / 100)
                for d in r.detections
            ),
        )
        for r in several
    ]
    result = Detection(distinct, "abc", draws=0)
    for threshold in (0.3, 0.5, 0.75):
        naive = [naive_precision(distinct, label, threshold) for label in "abc"]
        ours = [share.value for share in result.class_precision([threshold])]
        np.testing.assert_allclose(ours, naive)


def naive_edit(one: list[str], other: list[str]) -> int:
    if not one or not other:
        return len(one) + len(other)
    return min(
        naive_edit(one[1:], other) + 1,
        naive_edit(one, other[1:]) + 1,
        naive_edit(one[1:], other[1:]) + (one[0] != other[0]),
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(segments, max_size=5), st.lists(segments, max_size=5))
def test_edit_against_a_plain_program(truth: list[Segment], said: list[Segment]) -> None:
    orders = [
        [s.label for s in sorted(side, key=lambda s: (s.start, s.end, s.label))]
        for side in (truth, said)
    ]
    expected = 1 - naive_edit(*orders) / max(len(truth), len(said), 1)
    assert edit_score(truth, said) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(recordings)
def test_accuracy_against_frames(several: list[Recording]) -> None:
    """Borders are whole seconds here, so 60 frames per recording are exact."""
    right = 0
    for recording in several:
        for second in range(60):
            true, said = (
                {s.label for s in side if s.start <= second < s.end}
                for side in (recording.truth, recording.detections)
            )
            right += true == said
    assert Detection(several, "abc", draws=0).accuracy.value == pytest.approx(
        right / 60 / len(several)
    )


@settings(max_examples=20, deadline=None)
@given(recordings)
def test_the_order_of_detections_has_no_effect(several: list[Recording]) -> None:
    other = [replace(r, detections=r.detections[::-1]) for r in several]
    assert (
        Detection(several, "abc", draws=0).summary() == Detection(other, "abc", draws=0).summary()
    )


@settings(max_examples=20, deadline=None)
@given(recordings)
def test_perfect_detections_give_one(several: list[Recording]) -> None:
    """Every part is there once. Equal parts of one class would count as duplicates in F1."""
    distinct = []
    for r in several:
        truth = tuple(dict.fromkeys(replace(t, score=1.0) for t in r.truth))
        distinct.append(replace(r, truth=truth, detections=truth))
    if not any(r.truth for r in distinct):
        return
    result = Detection(distinct, "abc", draws=0)
    for share in (
        result.mean_average_precision(THUMOS),
        result.mean_average_precision(ACTIVITYNET),
        result.f1(0.5),
        result.edit,
        result.accuracy,
    ):
        assert share.value == pytest.approx(1)
        assert share.high == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(recordings)
def test_duplicates_are_punished(several: list[Recording]) -> None:
    twice = [
        replace(r, detections=(*r.detections, *(replace(d, score=0.05) for d in r.detections)))
        for r in several
    ]
    before, after = Detection(several, "abc", draws=0), Detection(twice, "abc", draws=0)
    assert after.f1(0.5).value <= before.f1(0.5).value or math.isnan(before.f1(0.5).value)
    perfect = [replace(r, truth=TRUTH, detections=(*TRUTH, *TRUTH)) for r in several]
    doubled = Detection(perfect, "ab", draws=0)
    assert doubled.f1(0.5).value == pytest.approx(2 / 3)
    assert doubled.mean_average_precision([0.5]).value == pytest.approx(0.5)  # equal scores


def test_no_detections_give_zero() -> None:
    result = Detection([one()], ["a", "b"])
    assert result.mean_average_precision(THUMOS).value == 0
    assert result.f1(0.1).value == 0
    assert result.edit.value == 0
    assert result.accuracy.value == pytest.approx(30 / 60)


def test_classes_without_parts_are_left_out_of_the_mean() -> None:
    result = Detection([one(*TRUTH, Segment(52, 55, "c", 0.9))], ["a", "b", "c"])
    assert result.mean_average_precision([0.5]).value == 1
    assert math.isnan(result.class_precision([0.5])[2].value)
    assert result.summary()["classes"][2]["AP@0.5"] is None
    assert result.f1(0.5).value == pytest.approx(6 / 7)  # but its detection is a false one


def test_intervals_come_from_whole_recordings() -> None:
    good, bad = one(*TRUTH), one()
    share = Detection([good, bad] * 10, ["a", "b"]).f1(0.5)
    assert share.value == pytest.approx(2 / 3)
    assert 0.3 < share.low < 0.6 < 0.7 < share.high < 0.9
    single = Detection([good], ["a", "b"]).f1(0.5)
    assert (single.value, single.low, single.high) == (1, 0, 1)
    same = Detection([good] * 5, ["a", "b"]).f1(0.5)
    assert (same.low, same.high) == (1, 1)
