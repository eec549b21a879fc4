"""A vector for a video, from the features of a network.

It has three blocks of C values, from features f_t (C) at T' times, pooled over space:

    mean        m   = 1/T' sum_t f_t
    deviation   s   = sqrt(1/T' sum_t (f_t - m)^2)
    trend       r   = sum_t w_t f_t,  w_t = (t - (T'-1)/2) / sqrt(sum_t (t - (T'-1)/2)^2)

The first says what is seen, the second how much it changes, the third in which direction: a clip
played backwards has the opposite trend where the network itself does not tell directions apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError
from smnet.inference.backends import Backend


def features_of(backend: Backend) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The function of a backend that maps views (B, V, ...) to features (B, V, T', C).

    Raises:
        UserError: a file that was exported without features.
    """
    features: Any = getattr(backend, "features", None)
    if features is None:
        raise UserError("an exported file has no features; give the checkpoint")
    return features


def pooled(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., 3C) of features (..., T', C): mean, deviation and trend over time."""
    times = features.shape[-2]
    ramp = np.arange(times, dtype=np.float32) - (times - 1) / 2
    ramp /= max(math.sqrt(float(ramp @ ramp)), 1e-12)
    trend = np.einsum("t,...tc->...c", ramp, features)
    return np.concatenate([features.mean(-2), features.std(-2), trend], -1).astype(np.float32)
