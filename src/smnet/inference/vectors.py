"""A vector for a video, from the features of a network.

It has three blocks of C values, from features f_t (C) at T' times, pooled over space, and features
g_t of the same frames in reverse order:

    mean        m = 1/T' sum_t f_t
    deviation   s = sqrt(1/T' sum_t (f_t - m)^2)
    direction   d = 1/(2 T') sum_t (f_t - g_t)

The first says what is seen, the second how much it changes, the third in which direction. A clip
played backwards has the opposite direction. A trend of f_t over t would not do: networks that look
at neighbouring frames respond to the first and the last frame of any clip, whatever its direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnet.inference.backends import Backend

WEIGHTS = (1.0, 1.0, 2**0.5)
"""Of the blocks in a comparison, so that the direction of a reversed clip outweighs the rest."""


def vectors_of(backend: Backend, views: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Vectors (B, 3C) of videos, averaged over their views (B, V, T*L, 3, h, w)."""
    backwards = np.ascontiguousarray(views[:, :, ::-1])
    return pooled(backend.features(views), backend.features(backwards)).mean(1)


def pooled(features: NDArray[np.float32], backwards: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., 3C) of features (..., T', C) and of those of the reversed frames."""
    mean = features.mean(-2)
    direction = (mean - backwards.mean(-2)) / 2
    return np.concatenate([mean, features.std(-2), direction], -1).astype(np.float32)
