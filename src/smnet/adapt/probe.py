"""A linear classifier on fixed features: regularised logistic regression, solved exactly.

The objective over samples (x, y), with standardised features divided by the root of their number:

    mean loss(W x + b, y)  +  strength / 2 * |W|^2

with the cross-entropy of the softmax for one label per clip and the binary cross-entropy, summed
over the classes, for several. The solution lies in the span of the samples, so it is computed there
(Hastie et al., "The Elements of Statistical Learning", section 18.3.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

STRENGTHS = tuple(float(10.0**k) for k in np.arange(0.0, -5.7, -0.8))
"""Strengths of the regularisation to choose from, strongest first."""
COMPONENTS = 512
"""With more samples than this, the solution is computed in that many principal components."""
NEWTON, CONJUGATE = 100, 200
"""Most steps of Newton's method, and of conjugate gradients for each of them."""
EXACT, NEAR = 1e-10, 1e-5
"""Largest slope at the solution, and while a strength is chosen."""
_FLAT = 1e-4
"""Share of the largest deviation below which a feature counts as constant."""
_SMALL = 1e-10  # share of the largest variance below which a direction holds rounding errors


@dataclass(frozen=True)
class Probe:
    """A linear classifier: logits (N, K) are ``x @ weight.T + bias``.

    Attributes:
        weight: (K, D) float64, on features as they are.
        bias: (K,) float64.
        strength: of the regularisation.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float

    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., K) of features (..., D)."""
        result: NDArray[np.float64] = features @ self.weight.T + self.bias
        return result


def fit(
    features: NDArray[np.floating],
    targets: NDArray[np.floating],
    strength: float,
    *,
    several: bool = False,
) -> Probe:
    """Fit a probe; see the module for the objective.

    Args:
        features: (N, D).
        targets: (N, K), probabilities; rows sum to 1 unless ``several``.
        strength: of the regularisation, above 0.
        several: whether a clip may have several labels.
    """
    return path(features, targets, [strength], several=several)[0]


def path(
    features: NDArray[np.floating],
    targets: NDArray[np.floating],
    strengths: Sequence[float],
    *,
    several: bool = False,
    precise: bool = True,
) -> list[Probe]:
    """Fit a probe for each strength, each from the solution of the one before.

    Args:
        features, targets, several: as in :func:`fit`.
        strengths: of the regularisation, strongest first, which is fastest.
        precise: False stops early, for choosing a strength.
    """
    mean, deviation, basis, span = span_of(features)
    x, y = np.hstack([span, np.ones((len(span), 1))]), targets.astype(np.float64)
    share = np.clip(y.mean(0), 1e-6, 1 - 1e-6)
    bias = np.log(share / (1 - share)) if several else np.log(share)
    weight = np.hstack([np.zeros((y.shape[1], span.shape[1])), bias[:, None]])
    probes = []
    for strength in strengths:
        penalty = np.append(np.full(span.shape[1], strength), 0.0)
        weight = _minimise(x, y, weight, penalty, several, EXACT if precise else NEAR)
        own = weight[:, :-1] @ basis / deviation
        probes.append(Probe(own, weight[:, -1] - own @ mean, float(strength)))
    return probes


def span_of(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    """Features (N, D) in the space that they span.

    Returns:
        Mean (D,) and deviation (D,) by which they are standardised, the latter times the root of D;
        an orthonormal basis (R, D) of the result; and the samples in it (N, R).
    """
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    deviation[deviation <= _FLAT * deviation.max()] = np.inf  # rounding errors get no weight
    deviation *= math.sqrt(features.shape[1])
    return mean, deviation, *_span((features - mean) / deviation)


def _span(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An orthonormal basis (R, D) of the rows of (N, D), and the rows in it (N, R)."""
    if min(x.shape) > 4 * COMPONENTS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            basis = torch.svd_lowrank(torch.from_numpy(x), q=COMPONENTS)[2].T.numpy()
        return basis, x @ basis.T
    if x.shape[1] <= min(len(x), COMPONENTS):
        return np.eye(x.shape[1]), x
    if len(x) > x.shape[1]:
        basis = np.linalg.eigh(x.T @ x)[1][:, -COMPONENTS:].T
        return basis, x @ basis.T
    values, vectors = np.linalg.eigh(x @ x.T)
    kept = values > _SMALL * max(values[-1], 1e-300)
    kept[:-COMPONENTS] = False
    lengths = np.sqrt(values[kept])
    return (vectors[:, kept] / lengths).T @ x, vectors[:, kept] * lengths


def _minimise(
    x: Array, y: Array, weight: Array, penalty: Array, several: bool, tolerance: float
) -> Array:
    """The minimum (K, R) of the objective from ``weight`` on, by Newton's method.

    Each step is found by conjugate gradients (Nocedal and Wright, "Numerical Optimization",
    algorithm 7.1). The columns of ``x`` are nearly orthogonal, so the diagonal of the Hessian is a
    good preconditioner.

    Args:
        x, y: samples (N, R) and targets (N, K).
        weight: (K, R).
        penalty: (R,) of the square of each weight.
        several: whether a clip may have several labels.
        tolerance: of the largest slope.
    """
    squares = np.square(x).mean(0)
    value, p = _objective(x, y, weight, penalty, several)
    for _ in range(NEWTON):
        slope = (p - y).T @ x / len(x) + weight * penalty
        size = float(np.abs(slope).max())
        if size <= tolerance:
            break
        curvature = (p * (1 - p)).mean(0)[:, None] * squares + penalty
        step = _newton_step(x, p, slope, penalty, np.maximum(curvature, 1e-12), several)
        fall, length = float((slope * step).sum()), 1.0
        while length > 1e-8:
            tried = weight + length * step
            new, q = _objective(x, y, tried, penalty, several)
            if new <= value + 1e-4 * length * fall:
                break
            length /= 2
        else:
            break  # rounding errors allow no better value
        weight, value, p = tried, new, q
    return weight


def _objective(
    x: Array, y: Array, weight: Array, penalty: Array, several: bool
) -> tuple[float, Array]:
    """The objective, and the probabilities (N, K)."""
    z = x @ weight.T
    if several:
        p = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
        losses = np.logaddexp(0, z) - y * z
    else:
        z = z - z.max(1, keepdims=True)
        e = np.exp(z)
        total = e.sum(1, keepdims=True)
        p = e / total
        losses = y * (np.log(total) - z)
    return float(losses.sum() / len(x) + (penalty * np.square(weight)).sum() / 2), p


def _newton_step(
    x: Array, p: Array, slope: Array, penalty: Array, curvature: Array, several: bool
) -> Array:
    """The step (K, R) that leads to the minimum of the quadratic model, nearly."""
    step, rest = np.zeros_like(slope), -slope
    towards = rest / curvature
    direction, product = towards, float((rest * towards).sum())
    enough = product * min(0.25, math.sqrt(float(np.abs(slope).max()))) ** 2
    for _ in range(CONJUGATE):
        u = p * (x @ direction.T)
        u -= p * (u if several else u.sum(1, keepdims=True))
        bent = u.T @ x / len(x) + direction * penalty
        curved = float((direction * bent).sum())
        if curved <= _SMALL * float((np.square(direction) * curvature).sum()):
            break  # the same constant in all biases changes nothing
        length = product / curved
        step = step + length * direction
        rest = rest - length * bent
        towards = rest / curvature
        before, product = product, float((rest * towards).sum())
        if product <= enough:
            break
        direction = towards + product / before * direction
    return step


def probabilities(logits: NDArray[np.floating], several: bool = False) -> NDArray[np.float64]:
    """Softmax over the classes, or the sigmoid of each where a clip may have several labels."""
    z = torch.from_numpy(np.asarray(logits, np.float64))
    result: NDArray[np.float64] = (z.sigmoid() if several else z.softmax(-1)).numpy()
    return result
