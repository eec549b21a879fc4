"""Calibration against naive searches, counts by hand and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from smnet.evaluation.calibration import (
    at_temperature,
    auroc,
    best_thresholds,
    calibration_error,
    calibration_loss,
    coverage_curve,
    fit_temperature,
    reliability,
    unknown_threshold,
)


def softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sure(count: int, classes: int, factor: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores whose logits are ``factor`` times too large, and labels drawn by the true scores."""
    rng = np.random.default_rng(count)
    z = rng.normal(size=(count, classes)) * 1.5
    labels = np.array([rng.choice(classes, p=p) for p in softmax(z)])
    return softmax(z * factor), np.eye(classes, dtype=bool)[labels]


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_a_naive_search(factor: float) -> None:
    scores, truth = sure(400, 5, factor)
    found = fit_temperature(scores, truth)
    grid = np.geomspace(0.05, 20, 2000)
    naive = grid[np.argmin([calibration_loss(scores, truth, t) for t in grid])]
    assert found == pytest.approx(naive, rel=0.01)
    assert found == pytest.approx(factor, rel=0.25)
    before, after = (
        calibration_error(s.max(1), truth[np.arange(400), s.argmax(1)])
        for s in (scores, at_temperature(scores, found))
    )
    assert after < max(before, 0.06)


def test_the_temperature_of_several_labels() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 4))
    truth = rng.random((500, 4)) < 1 / (1 + np.exp(-z))
    assert fit_temperature(1 / (1 + np.exp(-3 * z)), truth, several=True) == pytest.approx(
        3, rel=0.2
    )


def test_a_temperature_changes_logits() -> None:
    z = np.array([[1.0, 2.0, -1.0]])
    assert np.allclose(at_temperature(softmax(z), 2.0), softmax(z / 2))
    p = 1 / (1 + np.exp(-z))
    assert np.allclose(at_temperature(p, 2.0, several=True), 1 / (1 + np.exp(-z / 2)))


def test_few_clips_do_not_lead_to_certainty() -> None:
    truth = np.eye(2, dtype=bool)[[0, 1, 0, 1]]
    scores = np.where(truth, 0.6, 0.4)
    assert at_temperature(scores, fit_temperature(scores, truth)).max() < 0.9
    assert fit_temperature(scores[:0], truth[:0]) == 1.0


def test_coverage_is_what_the_threshold_promises() -> None:
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        threshold = unknown_threshold(rng.random(60))
        shares.append(1 - threshold.value)  # the share of uniform scores above it
        assert 0.85 < threshold.low < 0.95 <= threshold.high
    assert np.mean(shares) == pytest.approx(1 - 3 / 61, abs=0.01)
    inside = [threshold.low <= share <= threshold.high for share in shares]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)


def test_too_few_clips_for_a_threshold() -> None:
    threshold = unknown_threshold(np.linspace(0.5, 1, 18))
    assert threshold.value == 0
    assert str(threshold) == "unknown: never said, 18 held-out clips are too few (19 are needed)"
    assert unknown_threshold(np.linspace(0.5, 1, 19)).value == 0.5


def test_reliability_by_hand() -> None:
    best = np.array([0.55, 0.58, 0.95, 1.0])
    correct = np.array([True, False, True, True])
    low, high = reliability(best, correct)
    assert (low.clips, low.score, low.accuracy) == (2, pytest.approx(0.565), 0.5)
    assert (high.clips, high.accuracy) == (2, 1.0)
    assert calibration_error(best, correct) == pytest.approx((2 * 0.065 + 2 * 0.025) / 4)


def test_coverage_against_accuracy_by_hand() -> None:
    best = np.array([0.9, 0.5, 0.5, 0.8])
    curve = coverage_curve(best, np.array([True, False, True, False]))
    assert curve == [(0.25, 1.0), (0.5, 0.5), (1.0, 0.5)]


def test_auroc_counts_pairs() -> None:
    rng = np.random.default_rng(2)
    known, unknown = rng.integers(0, 8, 40) / 8, rng.integers(0, 6, 30) / 8
    pairs = [(a > b) + 0.5 * (a == b) for a in known for b in unknown]
    assert auroc(known, unknown) == pytest.approx(np.mean(pairs))
    assert math.isnan(auroc(known, unknown[:0]))


def test_thresholds_of_several_labels_have_the_largest_f1() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random((50, 3)).round(2)
    truth = rng.random((50, 3)) < scores**2
    truth[:, 2] = False
    found = best_thresholds(scores, truth)
    assert found[2] == 0.5

    def f1(threshold: float, k: int) -> float:
        said = scores[:, k] >= threshold
        return 2 * (said & truth[:, k]).sum() / (said.sum() + truth[:, k].sum())

    for k in (0, 1):
        assert f1(found[k], k) == max(f1(t, k) for t in np.linspace(0, 1, 1001))
