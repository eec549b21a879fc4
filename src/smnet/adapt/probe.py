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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

STRENGTHS = tuple(float(10.0**k) for k in np.arange(0.0, -5.7, -0.8))
"""Strengths of the regularisation to choose from, strongest first."""
COMPONENTS = 512
"""With more samples than this, the solution is computed in that many principal components."""
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
    x, y = torch.from_numpy(span), torch.from_numpy(targets.astype(np.float64))
    weight = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    share = y.mean(0).clamp(1e-6, 1 - 1e-6)
    bias = (torch.logit(share) if several else share.log()).requires_grad_()
    probes = []
    for strength in strengths:
        _minimise(x, y, weight, bias, strength, several, precise)
        own = weight.detach().numpy() @ basis / deviation
        probes.append(Probe(own, bias.detach().numpy() - own @ mean, float(strength)))
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
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    strength: float,
    several: bool,
    precise: bool,
) -> None:
    """Move ``weight`` and ``bias`` to the minimum of the objective."""
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=1000 if precise else 20,
        tolerance_grad=1e-9 if precise else 1e-5,
        tolerance_change=1e-14 if precise else 1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        value = loss(x @ weight.T + bias, y, several) + strength / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(objective)


def loss(logits: Tensor, targets: Tensor, several: bool) -> Tensor:
    """Mean over the samples of the loss of (N, K) logits."""
    if several:
        terms = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return terms.sum(1).mean()
    return F.cross_entropy(logits, targets)


def probabilities(logits: NDArray[np.floating], several: bool = False) -> NDArray[np.float64]:
    """Softmax over the classes, or the sigmoid of each where a clip may have several labels."""
    z = torch.from_numpy(np.asarray(logits, np.float64))
    result: NDArray[np.float64] = (z.sigmoid() if several else z.softmax(-1)).numpy()
    return result
