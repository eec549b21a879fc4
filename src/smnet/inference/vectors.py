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

import numpy as np
from numpy.typing import NDArray


def pooled(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., 3C) of features (..., T', C): mean, deviation and trend over time."""
    times = features.shape[-2]
    ramp = np.arange(times, dtype=np.float32) - (times - 1) / 2
    ramp /= max(math.sqrt(float(ramp @ ramp)), 1e-12)
    trend = np.einsum("t,...tc->...c", ramp, features)
    return np.concatenate([features.mean(-2), features.std(-2), trend], -1).astype(np.float32)
