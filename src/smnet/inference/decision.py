"""From scores to an answer: labels, "unknown", and background. Does not import PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnet.models.spec import ModelSpec

BACKGROUND = "none"
"""The class in which nothing happens. It is trained as the others and is never an answer."""
UNKNOWN = "unknown"
"""What is printed where the best score is below the threshold."""


def decide(spec: ModelSpec, scores: NDArray[np.floating]) -> tuple[NDArray[np.bool_], bool]:
    """The classes that a network answers.

    Args:
        spec: the network; its ``decision`` has the thresholds.
        scores: (K,) finite.

    Returns:
        Which classes are answered (K,), and whether the answer is "unknown".
    """
    decision = spec.decision
    if spec.several:
        limits = decision.thresholds or (0.5,) * len(scores)
        return scores >= np.array(limits), False
    unknown = bool(scores.max() < decision.unknown_below)
    said = np.zeros(len(scores), bool)
    said[int(scores.argmax())] = not unknown
    return said, unknown
