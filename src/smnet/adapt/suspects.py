"""Labels that may be wrong, from the scores of clips that the network was not trained on.

The core of confident learning (Northcutt et al., "Confident Learning: Estimating Uncertainty in
Dataset Labels", JAIR 2021): a class is believed from the mean score that clips labelled with it
have. A clip believed to be of another class than its label is a suspect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def margins(scores: Array, labels: NDArray[np.int64]) -> Array:
    """How well each label fits (N,): its score less the best other one, each less the mean score
    that clips of its class have. The least is the most suspect; NaN for a clip without scores.

    Args:
        scores: (N, K) of clips by a network that was not trained on them.
        labels: (N,).
    """
    scores = scores - thresholds(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], 1)[:, 0]
    others = scores.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    best: Array = own - others.max(1)
    return best


def thresholds(scores: Array, labels: NDArray[np.int64]) -> Array:
    """(K,) the mean score of a class over the clips labelled with it; 1 for a class without."""
    result = np.ones(scores.shape[1])
    readable = np.isfinite(scores).all(1)
    for k in np.unique(labels[readable]):
        result[k] = scores[readable & (labels == k), k].mean()
    return result


def suspects(scores: Array, labels: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(clip, class that it may rather be), the most suspect first.

    Args:
        scores, labels: as in :func:`margins`.
    """
    believed = np.where(scores >= thresholds(scores, labels), scores, -1.0)
    proposed = believed.argmax(1)
    fit = margins(scores, labels)
    found = (believed.max(1) >= 0) & (proposed != labels) & np.isfinite(fit)
    order = np.argsort(fit, kind="stable")
    return [(int(i), int(proposed[i])) for i in order if found[i]]
