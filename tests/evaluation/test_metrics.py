"""Every metric against counts made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnet.evaluation.metrics import (
    ClassResult,
    Share,
    average_precision,
    confusion_matrix,
    mean_average_precision,
    mean_class_accuracy,
    most_confused,
    per_class,
    top_k,
    wilson,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # to four digits, from tables of the score interval without continuity correction
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (50, 100, 0.4038, 0.5962),
        (1, 20, 0.0089, 0.2361),
    ],
)
def test_wilson_interval(correct: int, total: int, low: float, high: float) -> None:
    share = wilson(correct, total)
    assert share.value == correct / total
    assert (share.low, share.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_of_nothing_says_nothing() -> None:
    share = wilson(0, 0)
    assert math.isnan(share.value)
    assert (share.low, share.high) == (0, 1)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_value_and_stays_a_share(counts: tuple[int, int]) -> None:
    share = wilson(*counts)
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_a_share_as_text() -> None:
    assert str(Share(0.8, 0.4902, 0.9433)) == "80.0% [49.0%, 94.3%]"


SCORES = np.array(
    [
        [0.7, 0.2, 0.1, 0.0],  # the best is right
        [0.1, 0.6, 0.3, 0.0],  # the second best is right
        [0.4, 0.3, 0.2, 0.1],  # the last is right
        [0.4, 0.4, 0.1, 0.1],  # a tie for the first place
        [0.25, 0.25, 0.25, 0.25],  # knows nothing
        [NAN, NAN, NAN, NAN],  # could not be read
    ]
)
LABELS = np.array([0, 2, 3, 0, 1, 0])


@pytest.mark.parametrize(
    ("k", "right"),
    [
        (1, [1, 0, 0, 0, 0, 0]),
        (2, [1, 1, 0, 1, 0, 0]),
        (3, [1, 1, 0, 1, 0, 0]),
        (4, [1, 1, 1, 1, 1, 0]),
    ],
)
def test_top_k_with_ties_against_the_clip(k: int, right: list[int]) -> None:
    assert top_k(SCORES, LABELS, k).tolist() == [bool(r) for r in right]


def test_top_k_does_not_depend_on_the_order_of_the_classes() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (200, 6)) / 4  # full of ties
    labels = rng.integers(0, 6, 200)
    order = rng.permutation(6)
    where = np.argsort(order)
    for k in range(1, 7):
        assert (top_k(scores, labels, k) == top_k(scores[:, order], where[labels], k)).all()


TRUE = np.array([0, 0, 0, 1, 1, 3, 3])
SAID = np.array([0, 0, 1, 0, -1, 3, 1])
NAMES = ("a", "b", "c", "d")


def test_confusion_rows_are_the_truth() -> None:
    expected = [[2, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    assert confusion_matrix(TRUE, SAID, 4).tolist() == expected


def test_per_class_counts() -> None:
    a, b, c, d = per_class(TRUE, SAID, NAMES)
    assert a == ClassResult("a", clips=3, correct=2, predicted=3)
    assert b == ClassResult("b", clips=2, correct=0, predicted=2)  # one of its two was unreadable
    assert c == ClassResult("c", clips=0, correct=0, predicted=0)
    assert d == ClassResult("d", clips=2, correct=1, predicted=1)
    assert (a.recall, a.precision) == (2 / 3, 2 / 3)
    assert (b.recall, b.precision) == (0, 0)
    assert math.isnan(c.recall)
    assert math.isnan(c.precision)
    assert (d.recall, d.precision) == (0.5, 1)


def test_mean_class_accuracy_leaves_empty_classes_out() -> None:
    share = mean_class_accuracy(per_class(TRUE, SAID, NAMES))
    assert share.value == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    assert 0 <= share.low < share.value < share.high <= 1


def test_mean_class_accuracy_of_equal_classes_is_the_accuracy() -> None:
    labels = np.repeat(np.arange(5), 20)
    said = np.where(np.arange(100) % 4 == 0, (labels + 1) % 5, labels)
    share = mean_class_accuracy(per_class(labels, said, tuple("abcde")))
    assert share.value == pytest.approx(0.75)
    assert share.high - share.low == pytest.approx(wilson(75, 100).high - wilson(75, 100).low, 0.1)


def test_mean_class_accuracy_of_nothing() -> None:
    share = mean_class_accuracy([ClassResult("a", 0, 0, 0)])
    assert math.isnan(share.value)
    assert (share.low, share.high) == (0, 1)


def test_certainty_is_not_claimed_from_few_clips() -> None:
    share = mean_class_accuracy([ClassResult(name, 2, 2, 2) for name in "ab"])
    assert share.value == share.high == 1
    assert share.low < 0.8


def test_most_confused_largest_first_without_the_diagonal() -> None:
    matrix = np.array([[50, 3, 0], [7, 40, 0], [0, 3, 9]])
    assert most_confused(matrix, ("a", "b", "c")) == [("b", "a", 7), ("a", "b", 3), ("c", "b", 3)]
    assert most_confused(matrix, ("a", "b", "c"), 1) == [("b", "a", 7)]
    assert matrix[0, 0] == 50


def test_nothing_confused() -> None:
    assert most_confused(np.diag([3, 4]), ("a", "b")) == []


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert average_precision(scores, np.array([True, False, True, False])) == (1 + 2 / 3) / 2
    assert average_precision(scores, np.array([False, False, False, True])) == 0.25
    assert math.isnan(average_precision(scores, np.zeros(4, bool)))


def test_clips_of_equal_score_have_the_precision_of_their_last_rank() -> None:
    truth = np.array([True, False, False, True])
    assert average_precision(np.full(4, 0.5), truth) == 0.5
    assert average_precision(np.array([np.nan, 0.1, 0.2, 0.3]), truth) == (1 + 2 / 4) / 2


def test_mean_average_precision_is_over_the_classes_with_clips() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random((40, 3)), rng.random((40, 3)) < 0.3
    truth[:, 1] = False
    share = mean_average_precision(scores, truth)
    own = [average_precision(scores[:, k], truth[:, k]) for k in (0, 2)]
    assert share.value == pytest.approx(sum(own) / 2)
    assert 0 < share.low < share.value < share.high < 1
    assert mean_average_precision(truth.astype(float), truth).value == 1
