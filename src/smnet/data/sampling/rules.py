"""Choose the frames of a video that a model sees: pure functions from numbers to frame indices.

Notation, here and in ``published.py``: ``n`` frames in the video, ``T`` segments, ``L`` consecutive
frames per segment (1 for RGB networks, 5 for TDN), ``m = max(1, n - L + 1)`` possible positions of
the first frame of a segment, ``tick = m / T``. All indices are 0-based, also for frame folders
whose files start at 1.

``uniform`` and ``dense`` are the rules to train with: they can draw every frame, and they spread
short videos over the segments. All other names are rules of published code.
"""

from __future__ import annotations

import difflib
from typing import get_args

import numpy as np

from smnet.data.sampling.published import (
    PUBLISHED,
    WINDOW,
    Indices,
    Mode,
    Request,
    Strategy,
    every_tick,
    strided,
)
from smnet.errors import UserError


def sample(
    num_frames: int,
    segments: int,
    *,
    mode: Mode,
    strategy: str = "uniform",
    clips: int = 1,
    frames_per_segment: int = 1,
    window: int | None = None,
    rng: np.random.Generator | None = None,
) -> Indices:
    """Sample the frames of ``clips`` clips from a video of ``num_frames`` frames.

    Args:
        num_frames: n >= 1.
        segments: T >= 1.
        mode: "train" (random), "val" or "test". "uniform" and "dense" treat val and test alike;
            some published rules do not.
        strategy: a name in :data:`STRATEGIES`.
        clips: temporal views of the video, >= 1. Most published rules fix it in val and test mode
            (:attr:`Strategy.test_clips`). In train mode: the number of independent draws.
        frames_per_segment: L consecutive frames p, p+1, ...; the last frame of the video is
            repeated where they exceed its end (TDN: 5).
        window: "dense" only: frames that a clip spans, default 64; the stride is window // T.
        rng: source of random draws; None uses fresh entropy, which is not reproducible.

    Returns:
        int64, (clips, T * L), the L frames of each segment adjacent, all in [0, n).

    Raises:
        UserError: the strategy or mode is unknown, a number is below 1, or the strategy does not
            define this number of clips or frames per segment.
    """
    check(strategy, mode, clips, frames_per_segment, window)
    request = Request(
        num_frames=num_frames,
        segments=segments,
        clips=clips,
        frames_per_segment=frames_per_segment,
        window=WINDOW if window is None else window,
        mode=mode,
        rng=np.random.default_rng() if rng is None else rng,
    )
    for name in ("num_frames", "segments"):
        if getattr(request, name) < 1:
            raise UserError(f"{name} is {getattr(request, name)}; it must be at least 1")
    first = STRATEGIES[strategy].draw(request)
    runs = np.minimum(first[:, :, None] + np.arange(frames_per_segment), num_frames - 1)
    return runs.reshape(clips, segments * frames_per_segment)


def check(
    strategy: str,
    mode: Mode,
    clips: int = 1,
    frames_per_segment: int = 1,
    window: int | None = None,
) -> None:
    """Raise the errors of :func:`sample` that do not depend on the video."""
    if strategy not in STRATEGIES:
        near = difflib.get_close_matches(strategy, STRATEGIES, n=1, cutoff=0.0)[0]
        raise UserError(
            f"no sampling strategy {strategy!r}; did you mean {near!r}?"
            f" There are: {', '.join(STRATEGIES)}"
        )
    if mode not in get_args(Mode):
        raise UserError(f"no sampling mode {mode!r}; use train, val or test")
    numbers = {"clips": clips, "frames_per_segment": frames_per_segment, "window": window}
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}; it must be at least 1")
    rule = STRATEGIES[strategy]
    if window is not None and not rule.takes_window:
        raise UserError(f"sampling strategy {strategy!r} has no window to set; use 'dense'")
    if frames_per_segment > 1 and rule.single_frame:
        raise UserError(
            f"sampling strategy {strategy!r} is defined for one frame per segment,"
            f" not {frames_per_segment}; use 'uniform' or 'tdn'"
        )
    defined = {"train": None, "val": rule.val_clips, "test": rule.test_clips}[mode]
    if defined is not None and clips not in defined:
        raise UserError(
            f"sampling strategy {strategy!r} gives {' or '.join(map(str, defined))} clip(s) in"
            f" {mode} mode, not {clips}; use views {defined[0]}x1 or {defined[0]}x3, or 'uniform'"
            " (any number of clips)"
        )


def clips_of_validation(strategy: str) -> int:
    """Number of clips in the validation of a strategy: fixed by its rule, else one."""
    check(strategy, "train")
    return (STRATEGIES[strategy].val_clips or (1,))[0]


def list_strategies() -> list[str]:
    """Names of the strategies of :func:`sample`."""
    return list(STRATEGIES)


def _uniform(r: Request) -> Indices:
    """Segment i is [floor(i*tick), floor((i+1)*tick)), so the segments tile the whole video.

    Clip k of K takes the frame at (k + 1/2)/K of each segment; K = 1 is the centre. With fewer
    frames than segments, training uses the test rule, which shows every frame.
    """
    if r.mode == "train" and r.places >= r.segments:
        edges = np.arange(r.segments + 1) * r.places // r.segments
        return r.rng.integers(edges[:-1], edges[1:], size=(r.clips, r.segments))
    return np.stack([every_tick(r, r.tick * (k + 0.5) / r.clips) for k in range(r.clips)])


def _dense(r: Request) -> Indices:
    """T frames at a stride of window // T, from a start where the whole clip fits.

    A video shorter than the clip is wrapped around. This keeps the stride, and with it the speed
    of motion that the network has learnt; repeating the last frame would show a motion that stops.
    """
    stride = max(1, r.window // r.segments)
    last = max(0, r.num_frames - ((r.segments - 1) * stride + r.frames_per_segment))
    if r.mode == "train":
        starts = r.rng.integers(0, last + 1, size=r.clips)
    elif r.clips == 1:
        starts = np.array([last // 2])
    else:
        starts = np.linspace(0, last, r.clips).astype(np.int64)
    return strided(r, starts, stride)


STRATEGIES: dict[str, Strategy] = {
    "uniform": Strategy(
        "one frame from each of T equal segments that tile the video; any number of clips",
        _uniform,
    ),
    "dense": Strategy(
        "T frames at a fixed stride in a window, any start; any number of clips",
        _dense,
        takes_window=True,
    ),
    **PUBLISHED,
}
