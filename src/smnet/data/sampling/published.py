"""The sampling rules of published code, to the letter, including apparent mistakes.

A published checkpoint reaches its published number only under the rule that it was measured with.
The ``doc`` of each entry of :data:`PUBLISHED` names the checkpoints that depend on it. All rules go
back to TSN (Wang et al., 2016) and follow the behaviour of the repositories of TSM, TEA,
ACTION-Net, TDN, TAM (TANet), VideoMAE and MMAction2. Where such code would index outside the video
(L > n), the nearest frame is taken. The notation is that of ``rules.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["train", "val", "test"]
Indices = NDArray[np.int64]

WINDOW = 64


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of :func:`smnet.data.sampling.rules.sample` with defaults filled in."""

    num_frames: int
    segments: int
    clips: int
    frames_per_segment: int
    window: int
    mode: Mode
    rng: np.random.Generator

    @property
    def places(self) -> int:
        """m: positions of the first frame of a segment for which all its L frames exist."""
        return max(1, self.num_frames - self.frames_per_segment + 1)

    @property
    def tick(self) -> float:
        return self.places / float(self.segments)


@dataclass(frozen=True, slots=True)
class Strategy:
    """A named sampling rule.

    Attributes:
        doc: one line: what it does, and the checkpoints that depend on it.
        draw: Request -> the first frame of every segment, (clips, T), 0-based.
        val_clips, test_clips: numbers of clips that the rule defines; None is any number. In train
            mode every rule gives any number of independent draws.
        single_frame: whether the rule is defined for L = 1 only.
        takes_window: whether ``window`` may be set.
    """

    doc: str
    draw: Callable[[Request], Indices]
    val_clips: tuple[int, ...] | None = None
    test_clips: tuple[int, ...] | None = None
    single_frame: bool = False
    takes_window: bool = False


def every_tick(r: Request, offset: float) -> Indices:
    """int(offset + tick*i) for i < T, in the published order of floating-point operations."""
    return (offset + r.tick * np.arange(r.segments)).astype(np.int64)


def strided(r: Request, starts: Indices, stride: int) -> Indices:
    """(start + i*stride) mod n for every start: (clips,) -> (clips, T)."""
    return (starts[:, None] + np.arange(r.segments) * stride) % r.num_frames


def _tsn_draw(r: Request) -> Indices:
    """Segments of floor(tick) frames: the last m mod T places are never drawn.

    Where m < T: a sorted draw if n > T, else zeros; so with L = 1 always zeros.
    """
    length = r.places // r.segments
    shape = (r.clips, r.segments)
    if length > 0:
        return np.arange(r.segments) * length + r.rng.integers(length, size=shape)
    if r.num_frames > r.segments:
        return np.sort(r.rng.integers(r.places, size=shape), axis=1)
    return np.zeros(shape, dtype=np.int64)


def _tsn_val(r: Request) -> Indices:
    """The centres; all zeros for n <= T + L - 1, so even where n = T and L = 1."""
    if r.num_frames > r.segments + r.frames_per_segment - 1:
        return every_tick(r, r.tick / 2.0)[None]
    return np.zeros((1, r.segments), dtype=np.int64)


def _tsn(r: Request) -> Indices:
    """The test, unlike the validation, spreads short videos by the centre rule."""
    if r.mode == "test":
        return every_tick(r, r.tick / 2.0)[None]
    return _tdn(r)


def _tdn(r: Request) -> Indices:
    return _tsn_draw(r) if r.mode == "train" else _tsn_val(r)


def _tsn_random(r: Request) -> Indices:
    return _tsn_val(r) if r.mode == "val" else _tsn_draw(r)


def _twice(r: Request) -> Indices:
    """Clip 0 the centres, clip 1 the beginnings of the segments."""
    if r.mode != "test":
        return _tdn(r)
    return np.stack([every_tick(r, r.tick / 2.0), every_tick(r, 0.0)])


def _videomae(r: Request) -> Indices:
    """The 2T indices of ``twice``, sorted, dealt out to clips 0, 1, 0, 1; random validation."""
    if r.mode != "test":
        return _tsn_draw(r)
    merged = np.sort(_twice(r), axis=None)
    return np.stack([merged[0::2], merged[1::2]])


def _tsm_dense(r: Request) -> Indices:
    """Starts from 0 to n - 64; a random start is never the last one."""
    last = max(0, r.num_frames - WINDOW)
    if r.mode == "test":
        starts = np.linspace(0, last, r.clips).astype(np.int64)
    else:
        starts = _random_starts_but_last(r, last)
    return strided(r, starts, max(1, WINDOW // r.segments))


def _tam_dense(r: Request) -> Indices:
    """As ``tsm-dense`` with a window of T * (64 // T) frames and validation in the middle."""
    stride = max(1, WINDOW // r.segments)
    last = max(0, r.num_frames - stride * r.segments)
    if r.mode == "train":
        starts = _random_starts_but_last(r, last)
    elif r.clips == 1:
        starts = np.array([(last + 1) // 2])
    else:
        starts = np.linspace(0, last, r.clips).astype(np.int64)
    return strided(r, starts, stride)


def _random_starts_but_last(r: Request, last: int) -> Indices:
    if last == 0:
        return np.zeros(r.clips, dtype=np.int64)
    return r.rng.integers(0, last, size=r.clips)


def _tam_uniform(r: Request) -> Indices:
    """N > 1 clips start at N whole frames from 0 to tick - 1.

    With fewer frames than segments tick - 1 is negative. All clips then start at 0, as with the
    NumPy of that time, which rounded towards zero (newer NumPy gives -1).
    """
    if r.mode != "test" or r.clips == 1:
        return _tsn(r)
    starts = np.linspace(0, max(0.0, r.tick - 1), r.clips).astype(np.int64)
    return np.stack([every_tick(r, start) for start in starts]) % r.num_frames


def _mmaction2(r: Request) -> Indices:
    """``SampleFrames(clip_len=1, num_clips=T)``; 2 clips are its ``twice_sample``.

    In training a short video is spread with rounding half to even, and index n wraps to 0.
    """
    if r.mode != "train":
        return np.stack([every_tick(r, r.tick / 2.0), every_tick(r, 0.0)][: r.clips])
    if r.num_frames >= r.segments:
        return _tsn_draw(r)
    spread = np.around(np.arange(r.segments) * r.tick).astype(np.int64) % r.num_frames
    return np.tile(spread, (r.clips, 1))


PUBLISHED: dict[str, Strategy] = {
    "tsn": Strategy(
        "TSN's segments as coded: TSM (1 clip), TAM, TEA, ACTION-Net on Something-Something",
        _tsn,
        val_clips=(1,),
        test_clips=(1,),
    ),
    "tsn-random": Strategy(
        "tsn tested by its training draw: TEA, ACTION-Net and, on Kinetics, TDN (10 clips)",
        _tsn_random,
        val_clips=(1,),
    ),
    "twice": Strategy(
        "segment centres, then segment beginnings, as 2 clips: TSM on Something-Something",
        _twice,
        val_clips=(1,),
        test_clips=(2,),
    ),
    "tsm-dense": Strategy(
        "64-frame window, random validation, evenly spaced starts: TSM on Kinetics (10 clips)",
        _tsm_dense,
        val_clips=(1,),
    ),
    "tam-uniform": Strategy(
        "uniform-N, N starts inside the segments: TAM on Something-Something (2 clips)",
        _tam_uniform,
        val_clips=(1,),
    ),
    "tam-dense": Strategy(
        "dense-N, the middle start or N evenly spaced: TAM on Kinetics (10 clips)",
        _tam_dense,
        val_clips=(1,),
    ),
    "tdn": Strategy(
        "tsn with short videos frozen in the test too: TDN on Something-Something (L = 5)",
        _tdn,
        val_clips=(1,),
        test_clips=(1,),
    ),
    "videomae": Strategy(
        "indices of twice, sorted and dealt out to 2 clips: VideoMAE on Something-Something",
        _videomae,
        val_clips=(1,),
        test_clips=(2,),
    ),
    "mmaction2": Strategy(
        "SampleFrames of MMAction2, 1 clip or 2 (twice_sample): its TSN, TSM and TANet",
        _mmaction2,
        val_clips=(1,),
        test_clips=(1, 2),
        single_frame=True,
    ),
}
