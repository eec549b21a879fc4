"""From scores to an answer: labels, "unknown", and background. Does not import PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnet.models.spec import Decision, ModelSpec

BACKGROUND = "none"
"""The class in which nothing happens. It is trained as the others and is never an answer."""
UNKNOWN = "unknown"
"""What is printed where the best score is below the threshold."""


def decide(
    spec: ModelSpec, scores: NDArray[np.floating], distance: float = np.nan
) -> tuple[NDArray[np.bool_], bool]:
    """The classes that a network answers.

    Args:
        spec: the network; its ``decision`` has the thresholds.
        scores: (K,) finite.
        distance: to the best class; NaN where none is known.

    Returns:
        Which classes are answered (K,), and whether the answer is "unknown".
    """
    decision = spec.decision
    if spec.several:
        limits = decision.thresholds or (0.5,) * len(scores)
        return scores >= np.array(limits), False
    unknown = bool(is_unknown(decision, scores.max(), distance))
    said = np.zeros(len(scores), bool)
    said[int(scores.argmax())] = not unknown
    return said, unknown


def is_unknown(
    decision: Decision, best: NDArray[np.floating], distances: NDArray[np.floating] | float
) -> NDArray[np.bool_]:
    """Whether the answer for each clip is "unknown": by its distance, or by its best score where
    no distance is known."""
    by_distance = np.isfinite(distances) & (decision.unknown_beyond > 0)
    far: NDArray[np.bool_] = np.where(
        by_distance, distances > decision.unknown_beyond, best < decision.unknown_below
    )
    return far
