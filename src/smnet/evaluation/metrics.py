"""Accuracy with confidence intervals, per class and in total, from scores and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Share:
    """A measured fraction with its 95 % confidence interval, all in [0, 1]."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True)
class ClassResult:
    """The clips of one class, how many of them were predicted correctly, and how many clips of any
    class were predicted as this one."""

    name: str
    clips: int
    correct: int
    predicted: int

    @property
    def recall(self) -> float:
        """Correct over clips; NaN for a class without clips."""
        return self.correct / self.clips if self.clips else math.nan

    @property
    def precision(self) -> float:
        """Correct over predicted; NaN for a class that was never predicted."""
        return self.correct / self.predicted if self.predicted else math.nan


def wilson(correct: int, total: int) -> Share:
    """``correct / total`` with its 95 % score interval (Wilson, 1927); NaN in [0, 1] of none."""
    if total == 0:
        return Share(math.nan, 0.0, 1.0)
    p = correct / total
    centre = (p + Z95**2 / (2 * total)) / (1 + Z95**2 / total)
    half = Z95 / (1 + Z95**2 / total) * math.sqrt(p * (1 - p) / total + Z95**2 / (4 * total**2))
    # Near 0 and 1, rounding would put p outside its interval.
    return Share(p, min(max(centre - half, 0.0), p), max(min(centre + half, 1.0), p))


def top_k(scores: NDArray[np.floating], labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Which clips have their label (N,) among the ``k`` best of their scores (N, K).

    Ties count as wrong, so a model that gives every class the same score is never right. Neither
    is a row with a value that is not finite, such as that of a clip that could not be read.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    with np.errstate(invalid="ignore"):
        better = (scores >= own).sum(axis=1) - 1  # others at least as good
    return np.isfinite(scores).all(axis=1) & (better < k)


def average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Mean precision at the ranks of the positives, without interpolation; NaN without positives.

    Clips of equal score have the precision of their last rank. A clip without a finite score ranks
    last.

    Args:
        scores: (N,) of one class.
        truth: (N,) whether a clip has the class.
    """
    if not truth.any():
        return math.nan
    ranked = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.argsort(-ranked, kind="stable")
    above = ranked[order]
    last = np.searchsorted(-above, -above, side="right")  # the end of each group of equal scores
    right = np.cumsum(truth[order])
    return float((right[last - 1] / last)[truth[order]].mean())


def mean_average_precision(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], resamples: int = 200
) -> Share:
    """Mean of :func:`average_precision` over the classes with positives.

    The 95 % interval is from clips drawn with replacement. It is [0, 1] where that would take more
    than a few seconds.

    Args:
        scores: (N, K).
        truth: (N, K).
        resamples: number of draws.
    """
    mean = _mean_precision(scores, truth)
    if math.isnan(mean) or scores.size * resamples > 2e7:
        return Share(mean, 0.0, 1.0)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(scores), len(scores)) for _ in range(resamples)]
    means = [m for d in draws if not math.isnan(m := _mean_precision(scores[d], truth[d]))]
    low, high = np.quantile(means, [0.025, 0.975])
    return Share(mean, min(float(low), mean), max(float(high), mean))


def _mean_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    present = np.flatnonzero(truth.any(0))
    values = [average_precision(scores[:, k], truth[:, k]) for k in present]
    return sum(values) / len(values) if values else math.nan


def confusion_matrix(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Counts (K, K), one row per true class and one column per predicted class.

    Predictions of -1 are left out; they still count in the denominators of all accuracies.
    """
    named = predictions >= 0
    flat = labels[named] * num_classes + predictions[named]
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], names: tuple[str, ...]
) -> list[ClassResult]:
    """The counts of each class, in the order of the classes."""
    matrix = confusion_matrix(labels, predictions, len(names))
    clips = np.bincount(labels, minlength=len(names))
    return [
        ClassResult(name, int(clips[i]), int(matrix[i, i]), int(matrix[:, i].sum()))
        for i, name in enumerate(names)
    ]


def mean_class_accuracy(results: list[ClassResult]) -> Share:
    """Mean recall over the classes with clips.

    The 95 % interval is normal, from the binomial variance of each class.
    """
    present = [r for r in results if r.clips]
    if not present:
        return Share(math.nan, 0.0, 1.0)
    mean = sum(r.recall for r in present) / len(present)
    # Smoothed (Laplace), so that a recall of 1 does not have a variance of 0.
    variance = 0.0
    for r in present:
        p = (r.correct + 1) / (r.clips + 2)
        variance += p * (1 - p) / r.clips
    half = Z95 * math.sqrt(variance) / len(present)
    return Share(mean, max(mean - half, 0.0), min(mean + half, 1.0))


def most_confused(
    matrix: NDArray[np.int64], names: tuple[str, ...], count: int = 10
) -> list[tuple[str, str, int]]:
    """The most frequent confusions (true, predicted, clips), most frequent first."""
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:count]
    pairs = [divmod(int(i), len(names)) for i in order]
    return [(names[a], names[b], int(off[a, b])) for a, b in pairs if off[a, b] > 0]
