"""Calibration: scores that mean what they say, and the answer "unknown".

Everything is computed from scores in [0, 1] and labels. The logarithm of a softmax differs from the
logits by a constant, so a temperature can be fitted to scores (Guo et al., "On Calibration of
Modern Neural Networks", ICML 2017).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.console import plural
from smnet.models.spec import Decision

Array = NDArray[np.floating]
COVERAGE = 0.95
"""Share of the clips of known classes that are to be answered."""
LEAST = 20
"""Held-out clips below which nothing is calibrated."""
BINS = 10
_TINY = 1e-30


@dataclass(frozen=True)
class Calibration:
    """What was calibrated on held-out clips.

    Attributes:
        decision: for the checkpoint.
        threshold: of "unknown"; None where a clip may have several labels, or clips are too few.
        clips: number of held-out clips.
        error_before, error_after: expected calibration error without and with the temperature.
    """

    decision: Decision
    threshold: Threshold | None
    clips: int
    error_before: float
    error_after: float

    def __str__(self) -> str:
        if self.clips < LEAST:
            return (
                f"calibration: left out, {plural(self.clips, 'held-out clip')} are too few"
                f" ({LEAST} are needed); scores may be too sure, and unknown is never said"
            )
        text = (
            f"calibration on {self.clips} held-out clips: temperature"
            f" {self.decision.temperature:.2f}, expected calibration error"
            f" {self.error_before:.1%} before, {self.error_after:.1%} after"
        )
        return text if self.threshold is None else f"{text}; {self.threshold}"

    def summary(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def calibrate(
    scores: Array,
    truth: NDArray[np.bool_],
    several: bool = False,
    distances: Array | None = None,
    discriminants: int = 0,
) -> Calibration:
    """Calibrate on held-out clips.

    Args:
        scores: (N, K) at temperature 1; rows that are not finite are left out.
        truth: (N, K) the labels.
        several: whether a clip may have several labels.
        distances: (N,) to the best class, where the network has discriminants. Then they say what
            is unknown, and the scores only where no distance is known.
        discriminants: how many.
    """
    readable = np.isfinite(scores).all(1)
    scores, truth = scores[readable], truth[readable]
    plain = Decision(discriminants=discriminants)
    if len(scores) < LEAST:
        error = _errors(scores, truth, several)
        return Calibration(plain, None, len(scores), error, error)
    temperature = fit_temperature(scores, truth, several)
    tempered = at_temperature(scores, temperature, several)
    before, after = (_errors(s, truth, several) for s in (scores, tempered))
    if several:
        decision = Decision(temperature, thresholds=best_thresholds(tempered, truth))
        return Calibration(decision, None, len(scores), before, after)
    threshold = unknown_threshold(tempered.max(1, initial=0.0))
    decision = replace(plain, temperature=temperature, unknown_below=threshold.value)
    if distances is not None:
        threshold = distance_threshold(distances[readable])
        decision = replace(decision, unknown_beyond=threshold.value)
    return Calibration(decision, threshold, len(scores), before, after)


def _errors(scores: Array, truth: NDArray[np.bool_], several: bool) -> float:
    if several:
        return calibration_error(scores.ravel(), truth.ravel())
    right = truth[np.arange(len(truth)), scores.argmax(1)]
    return calibration_error(scores.max(1, initial=0.0), right)


def fit_temperature(scores: Array, truth: NDArray[np.bool_], several: bool = False) -> float:
    """The temperature by which logits are divided for the smallest loss on held-out clips.

    A target of 1 counts as (N + 1) / (N + 2), as Platt proposed, so that few clips, all of them
    right, do not lead to certainty.

    Args:
        scores: (N, K) probabilities at temperature 1.
        truth: (N, K) the labels.
        several: whether each class has its own probability.

    Returns:
        The temperature, from 0.05 to 20. 1 without clips.
    """
    if not len(scores):
        return 1.0
    low, high = math.log(0.05), math.log(20)
    for _ in range(30):  # the loss has one minimum over the inverse temperature
        left, right = low + 0.382 * (high - low), low + 0.618 * (high - low)
        if calibration_loss(scores, truth, math.exp(left), several) < calibration_loss(
            scores, truth, math.exp(right), several
        ):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def loss_at_best_temperature(
    scores: Array, truth: NDArray[np.bool_], several: bool = False
) -> float:
    """Mean loss of scores (N, K) after :func:`fit_temperature` on them."""
    return calibration_loss(scores, truth, fit_temperature(scores, truth, several), several)


def calibration_loss(
    scores: Array, truth: NDArray[np.bool_], temperature: float, several: bool = False
) -> float:
    """Mean loss of tempered scores under Platt's targets; see :func:`fit_temperature`."""
    count = len(scores)
    p = np.clip(at_temperature(scores, temperature, several), _TINY, 1)
    high, low = (count + 1) / (count + 2), 1 / (count + 2)
    if several:
        target = np.where(truth, high, low)
        other = np.clip(1 - p, _TINY, 1)
        return -float((target * np.log(p) + (1 - target) * np.log(other)).sum(1).mean())
    target = np.where(truth, high, low / max(scores.shape[1] - 1, 1))
    return -float((target * np.log(p)).sum(1).mean())


def at_temperature(scores: Array, temperature: float, several: bool = False) -> Array:
    """Scores (N, K) whose logits are divided by ``temperature``."""
    p = np.clip(scores.astype(np.float64), _TINY, 1)
    if several:
        z = (np.log(p) - np.log(np.clip(1 - p, 1e-16, 1))) / temperature
        return 1 / (1 + np.exp(-z))
    z = np.log(p) / temperature
    z -= z.max(1, keepdims=True)
    tempered: Array = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return tempered


@dataclass(frozen=True)
class Threshold:
    """A threshold of the best score, below which an answer is "unknown"; or of the distance to the
    best class, above which it is.

    Attributes:
        value: the threshold; 0 where there are too few clips, so every clip is answered.
        clips: clips it was chosen on.
        low, high: 95 % interval of the share of clips of known classes that it lets pass.
    """

    value: float
    clips: int
    low: float
    high: float
    distance: bool = False

    def __str__(self) -> str:
        if not self.value:
            least = math.ceil(1 / (1 - COVERAGE)) - 1
            return (
                f"unknown: never said, {self.clips} held-out clips are too few ({least} are needed)"
            )
        where = (
            f"beyond a distance of {self.value:.3g} from the training clips of the class"
            if self.distance
            else f"below a score of {self.value:.1%}"
        )
        return (
            f"unknown: said {where}; {self.low:.0%} to {self.high:.0%} of"
            " clips of known classes are answered"
        )


def unknown_threshold(best: Array, coverage: float = COVERAGE) -> Threshold:
    """The threshold that lets pass a share ``coverage`` of clips of known classes.

    It is the k-th smallest best score, k = floor((1 - coverage) (n + 1)), as in split conformal
    prediction (Vovk et al., 2005): for clips drawn like the held-out ones, the expected share is at
    least ``coverage``. The share has the distribution Beta(n + 1 - k, k).

    Args:
        best: (N,) best scores of held-out clips, after the temperature.
        coverage: below 1.
    """
    n = len(best)
    k = math.floor((1 - coverage) * (n + 1) + 1e-9)
    if k < 1:
        return Threshold(0.0, n, 1.0, 1.0)
    shares = np.random.default_rng(0).beta(n + 1 - k, k, 20000)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Threshold(float(np.sort(best)[k - 1]), n, float(low), float(high))


def distance_threshold(distances: Array, coverage: float = COVERAGE) -> Threshold:
    """:func:`unknown_threshold` of distances (N,), which are large where a clip is unknown."""
    nearness = unknown_threshold(-distances, coverage)
    return replace(nearness, value=abs(nearness.value), distance=True)


@dataclass(frozen=True)
class Bin:
    """Clips with similar scores: their number, mean score and accuracy."""

    clips: int
    score: float
    accuracy: float


def reliability(best: Array, correct: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """The reliability diagram: bins of equal width, those without clips left out.

    Args:
        best: (N,) best scores.
        correct: (N,) whether the best class is right.
        bins: between 0 and 1.
    """
    place = np.clip((best * bins).astype(int), 0, bins - 1)
    rows = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            mean, accuracy = float(best[inside].mean()), float(correct[inside].mean())
            rows.append(Bin(int(inside.sum()), mean, accuracy))
    return rows


def calibration_error(best: Array, correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error: mean distance of score and accuracy over :func:`reliability`."""
    rows = reliability(best, correct, bins)
    total = sum(row.clips for row in rows)
    return sum(row.clips * abs(row.score - row.accuracy) for row in rows) / max(total, 1)


def coverage_curve(best: Array, correct: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """(share of clips answered, accuracy on them), the most certain clips first.

    Clips of equal score are answered together.
    """
    order = np.argsort(-best, kind="stable")
    right = np.cumsum(correct[order])
    ends = np.flatnonzero(np.append(np.diff(best[order]) != 0, True))
    return [((end + 1) / len(best), float(right[end]) / (end + 1)) for end in ends]


def auroc(known: Array, unknown: Array) -> float:
    """Probability that a known clip scores above an unknown one; ties count half.

    NaN if one of the two is empty.
    """
    if not len(known) or not len(unknown):
        return math.nan
    both = np.concatenate([known, unknown])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    total = ranks[: len(known)].sum() - len(known) * (len(known) + 1) / 2
    return float(total / (len(known) * len(unknown)))


def best_thresholds(scores: Array, truth: NDArray[np.bool_]) -> tuple[float, ...]:
    """The threshold of each class with the largest F1 on held-out clips; 0.5 for a class without.

    Thresholds lie midway between scores. Of equally good ones the nearest to 0.5 is taken.
    """
    return tuple(_best_threshold(scores[:, k], truth[:, k]) for k in range(scores.shape[1]))


def _best_threshold(scores: Array, truth: NDArray[np.bool_]) -> float:
    if not truth.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    above = scores[order]
    ends = np.flatnonzero(np.append(np.diff(above) != 0, True))
    right = np.cumsum(truth[order])[ends]
    f1 = 2 * right / (ends + 1 + truth.sum())
    lower = np.append(above[ends[1:]], 0.0)  # the score below each group
    middle = (above[ends] + lower) / 2
    middle[(lower < 0.5) & (above[ends] >= 0.5)] = 0.5
    best = middle[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
