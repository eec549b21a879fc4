"""Frames at a fixed rate by presentation time, as live streams are sampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EARLY = 1e-3
"""Seconds: time stamps in milliseconds are rounded, and such a frame still belongs to its tick."""


def sample_at_rate(
    times: NDArray[np.float64],
    segments: int,
    rate: float,
    clips: int = 1,
    frames_per_segment: int = 1,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Sample clips of T segments at a fixed rate: the first frame at or after each tick.

    A video shorter than the clip is wrapped around, which keeps the speed of motion.

    Args:
        times: presentation times of the frames, ascending, seconds.
        segments: T.
        rate: segments per second.
        clips: number of clips; in a test they are evenly spread, one is in the middle.
        frames_per_segment: L consecutive frames, the first one at the tick.
        rng: draws the start of each clip, in training; None is a test.

    Returns:
        (clips, T * L), indices of frames; the L frames of each segment are adjacent.
    """
    count = len(times)
    first = times - times[0]
    length = first[-1] + (first[-1] / (count - 1) if count > 1 else 1 / rate)
    last = max(first[-1] - (segments - 1) / rate, 0.0)
    if rng is not None:
        starts = rng.uniform(0, last, clips)
    else:
        starts = np.linspace(0, last, clips) if clips > 1 else np.array([last / 2])
    ticks = starts[:, None] + np.arange(segments) / rate
    found = np.searchsorted(first, ticks % length - EARLY)  # (clips, T)
    runs = np.minimum(found[:, :, None] + np.arange(frames_per_segment), count - 1)
    return runs.reshape(clips, -1).astype(np.int64)
