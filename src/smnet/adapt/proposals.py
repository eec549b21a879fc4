"""Which clips to label next: those of uncertain class that differ from each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def propose(
    features: Array, count: int, scores: Array | None = None, labelled: Array | None = None
) -> list[int]:
    """The clips whose label would help most, in order.

    Each is the one with the largest product of uncertainty and distance to the nearest clip that is
    labelled or chosen already. Without scores this is the greedy k-centre (Sener and Savarese,
    "Active Learning for Convolutional Neural Networks", ICLR 2018). Uncertainty is 1 less the
    distance of the two best scores.

    Args:
        features: (N, D) of the clips; rows that are not finite are never chosen.
        count: how many to choose.
        scores: (N, K) of the network; None at the start, when there is none.
        labelled: (M, D) features of clips that are labelled already.
    """
    usable = np.asarray(np.isfinite(features).all(1))
    both = features[usable] if labelled is None else np.concatenate([features[usable], labelled])
    if not len(both):
        return []
    scale = np.where(both.std(0) > 0, both.std(0), 1) * np.sqrt(both.shape[1])
    points = np.where(usable[:, None], features, 0) / scale
    unsure = np.ones(len(features))
    if scores is not None and scores.shape[1] > 1:
        best = np.sort(np.nan_to_num(scores), 1)
        unsure = 1 - (best[:, -1] - best[:, -2]) + 1e-3
    if labelled is not None and len(labelled):
        distance = np.min([np.linalg.norm(points - x, axis=1) for x in labelled / scale], axis=0)
    else:  # the first is the clip nearest to the middle
        middle = points[usable].mean(0)
        distance = 1 / (1e-9 + np.linalg.norm(points - middle, axis=1))
    chosen: list[int] = []
    left = usable.copy()
    while left.any() and len(chosen) < count:
        pick = int(np.where(left, unsure * distance, -np.inf).argmax())
        nearest = np.linalg.norm(points - points[pick], axis=1)
        distance = nearest if not chosen and labelled is None else np.minimum(distance, nearest)
        chosen.append(pick)
        left[pick] = False
    return chosen
