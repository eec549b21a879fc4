"""Which frames of a video a model sees: pure functions from numbers to frame indices.

Notation, here and in ``published_sampling.py``: ``n`` frames in the video, ``T`` segments, ``L``
consecutive frames per segment (1 for RGB networks, 5 for TDN), ``m = max(1, n - L + 1)`` places
where the first frame of a segment can lie, ``tick = m / T``. All indices are 0-based, also for
frame folders whose files start at 1.

``uniform`` and ``dense``, below, are the rules to train with: every frame can be drawn and short
videos are spread rather than frozen. All other names are the rules of published code.
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
    """Draw the frames of ``clips`` clips from a video of ``num_frames`` frames.

    Args:
        num_frames: n >= 1.
        segments: T >= 1.
        mode: "train" (random), "val" or "test". For our own rules val and test are the same; the
            published ones differ.
        strategy: a name in :data:`STRATEGIES`.
        clips: temporal views of the video, >= 1; most published rules fix it in val and test mode
            (:attr:`Strategy.test_clips`). In train mode: that many independent draws.
        frames_per_segment: L consecutive frames p, p+1, ..., held at the last frame of the video
            where they would run over its end (TDN: 5).
        window: "dense" only: frames that a clip spans, default 64; the stride is window // T.
        rng: source of the random draws; None = fresh entropy from the system, not reproducible.

    Returns:
        int64, (clips, T * L), the L frames of a segment side by side, all in [0, n).

    Raises:
        UserError: unknown strategy or mode, a number below 1, or a number of clips or frames per
            segment that the strategy does not define.
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
    """Refuse what :func:`sample` would refuse of any video; the arguments are the same.

    Raises:
        UserError: see :func:`sample`.
    """
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
    """How many clips the validation of a strategy looks at: what its rule says, else one."""
    check(strategy, "train")
    return (STRATEGIES[strategy].val_clips or (1,))[0]


def list_strategies() -> list[str]:
    """The names that :func:`sample` knows, our own first."""
    return list(STRATEGIES)


def _uniform(r: Request) -> Indices:
    """Segment i is [floor(i*tick), floor((i+1)*tick)), so the segments tile the whole video.

    Clip k of K looks (k + 1/2)/K of the way into each segment; K = 1 is the centre. With fewer
    frames than segments the test rule serves in training too: it shows every frame.
    """
    if r.mode == "train" and r.places >= r.segments:
        edges = np.arange(r.segments + 1) * r.places // r.segments
        return r.rng.integers(edges[:-1], edges[1:], size=(r.clips, r.segments))
    return np.stack([every_tick(r, r.tick * (k + 0.5) / r.clips) for k in range(r.clips)])


def _dense(r: Request) -> Indices:
    """T segments, window // T frames apart, from a start at which the whole clip fits.

    A video shorter than the clip is wrapped around: the stride, that is the speed of motion the
    network has learnt, stays; holding the last frame would instead show a motion that stops.
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
        "a frame of each of T equal segments that tile the video; any number of clips",
        _uniform,
    ),
    "dense": Strategy(
        "T frames at a fixed stride in a window, any start; any number of clips",
        _dense,
        takes_window=True,
    ),
    **PUBLISHED,
}
