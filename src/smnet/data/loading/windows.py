"""Windows over a recording, read in one pass: every frame is decoded and scaled once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from smnet.data.loading.views import Cropper, Scale, Scaler, ViewPlan, scale_with_pillow
from smnet.data.sampling.rate import sample_at_rate
from smnet.data.sampling.rules import sample
from smnet.data.video.base import Video
from smnet.errors import UserError

Views = NDArray[np.uint8]
Frame = NDArray[np.uint8]
Times = Sequence[float] | NDArray[np.float64]
"""Presentation times of the frames of a recording, seconds, ascending."""
Frames = list[tuple[int, Frame]]
"""(number, frame (H, W, 3)) of some frames."""
Crops = tuple[list[int], NDArray[np.uint8]]
"""Numbers of N frames, and (N, crops, 3, side, side)."""

_TOGETHER = 32  # frames handed from the decoding thread to the network at a time, at most
_STRETCH = 256  # windows planned at a time; bounds the memory of recordings with lost frames


def frame_times(video: Video) -> NDArray[np.float64]:
    """Presentation time (N,) of each frame, seconds from the first.

    Where a file has no usable time stamps, frame i is presented at i over the mean frame rate, as
    for parts of recordings.

    Raises:
        UserError: neither time stamps nor a rate are known, as for a folder of frames.
    """
    times = video.times
    if times is None:
        if not video.fps:
            raise UserError(
                f"{video.path}: its frames have no times, so there is no timeline; make a video of"
                " them, for instance with FFmpeg"
            )
        return np.arange(video.num_frames) / video.fps
    return np.asarray(times)


def recording_end(times: Times, fps: float | None) -> float:
    """When the last frame ends, seconds: one mean distance of frames after its time."""
    if len(times) > 1:
        return float(times[-1] + times[-1] / (len(times) - 1))
    return 1 / (fps or 25)


def window_starts(duration: float, window: float, every: float) -> NDArray[np.float64]:
    """Where windows of ``window`` seconds begin: every ``every`` seconds, and at the last place.

    A recording shorter than a window has one, which covers it. Times are in whole microseconds, so
    that a window that begins at a frame has this frame.

    Args:
        duration: of the recording, seconds.
        window, every: seconds, above 0.
    """
    last = max(duration - window, 0.0)
    starts = np.arange(int(last / every) + 1, dtype=np.float64) * every
    if last - starts[-1] > 1e-6:
        starts = np.append(starts, last)
    return np.round(starts, 6)


def window_spans(duration: float, window: float, every: float) -> NDArray[np.float64]:
    """Start and end (N, 2) of the windows of :func:`window_starts`, seconds."""
    starts = window_starts(duration, window, every)
    return np.stack([starts, np.round(np.minimum(starts + window, duration), 6)], axis=1)


def window_frames(times: Times, start: float, end: float, plan: ViewPlan) -> NDArray[np.int64]:
    """The frames that the sampling rule takes in a window: those of the part as a video of its own.

    Args:
        times: presentation times of the recording's frames, seconds, ascending.
        start, end: the window. A frame belongs to it if ``start <= t < end``.
        plan: of the views.

    Returns:
        (clips, T*L) frame numbers in the recording; empty if the window has no frame.
    """
    first, stop = np.searchsorted(times, (start, end)).tolist()
    if first == stop:
        return np.empty((0, 0), np.int64)
    if plan.rate is not None:
        inside = np.asarray(times[first:stop])
        return first + sample_at_rate(
            inside, plan.segments, plan.rate, plan.clips, plan.frames_per_segment
        )
    return first + sample(
        stop - first,
        plan.segments,
        mode=plan.mode,
        strategy=plan.sampling,
        clips=plan.clips,
        frames_per_segment=plan.frames_per_segment,
        rng=np.random.default_rng(0),  # as for a clip of a test
    )


class WindowReader:
    """The views of windows, in order. Memory does not depend on the length of the recording.

    Decoding, cropping and assembling are apart, so that a thread or a process decodes while the
    network works: :meth:`decode` yields frames, :meth:`crop` cuts their crops, and ``windows``
    takes these.

    Args:
        video: the open recording.
        windows: (N, 2) start and end, seconds, ascending.
        plan: of the views.

    Attributes:
        windows: assembles the views.
    """

    def __init__(self, video: Video, windows: NDArray[np.float64], plan: ViewPlan) -> None:
        self._video, self._spans, self._plan = video, windows, plan
        self._times = frame_times(video)
        try:
            self._cropper = Cropper(plan, video.height, video.width, scale_of(plan.scaler))
        except UserError as error:
            raise UserError(f"{video.path}: {error}") from None
        self.windows = Windows(self._times, windows, plan)

    def decode(self) -> Iterator[Frames]:
        """Frames that the windows need, each once in every stretch of windows, in order."""
        together = min(self._cropper.group, _TOGETHER)
        for first in range(0, len(self._spans), _STRETCH):
            wanted = {
                int(i)
                for start, end in self._spans[first : first + _STRETCH]
                for i in np.unique(window_frames(self._times, start, end, self._plan))
            }
            if wanted:
                stream = iter(self._video.each(sorted(wanted)))
                while group := list(islice(stream, together)):
                    yield group
        yield []  # the end

    def crop(self, frames: Frames) -> Crops:
        """The crops of some frames."""
        if not frames:
            return [], np.empty((0, *self._plan.shape[1:]), np.uint8)
        numbers, pictures = zip(*frames, strict=True)
        return list(numbers), np.moveaxis(self._cropper(pictures), -1, 2)

    def assemble(self, frames: Frames) -> Iterator[tuple[int, Views | None]]:
        """:meth:`crop`, then :meth:`Windows.take`."""
        return self.windows.take(self.crop(frames))


class Windows:
    """Puts the views of windows together from crops that come in the order of their frames.

    Args:
        times: presentation times of the recording's frames, seconds, ascending.
        spans, plan: as the windows and the plan of :class:`WindowReader`.
    """

    def __init__(self, times: Times, spans: NDArray[np.float64], plan: ViewPlan) -> None:
        self._times, self._spans, self._plan = times, spans, plan
        self._open: deque[_Window] = deque()
        self._next = 0  # window to open

    def take(self, crops: Crops) -> Iterator[tuple[int, Views | None]]:
        """Take the crops of some frames; yield the windows that they complete, in order.

        Without frames, the recording has ended.

        Yields:
            (number, views (V, T*L, 3, side, side) uint8); None for a window without frames.
        """
        numbers, pictures = crops
        self._open_until(max(numbers) if numbers else len(self._times))
        for number, crop in zip(numbers, pictures, strict=True):
            for window in self._open:
                window.take(number, crop)
        while self._open and self._open[0].complete:
            window = self._open.popleft()
            yield window.number, window.views

    def _open_until(self, frame: int) -> None:
        """Open all windows that begin before a frame is over."""
        while self._next < len(self._spans):
            start, end = self._spans[self._next]
            if np.searchsorted(self._times, start) > frame:
                return
            indices = window_frames(self._times, start, end, self._plan)
            self._open.append(_Window(self._next, indices, self._plan))
            self._next += 1


class _Window:
    """A window whose frames are still to come."""

    def __init__(self, number: int, indices: NDArray[np.int64], plan: ViewPlan) -> None:
        self.number = number
        self.views = np.empty(plan.shape, np.uint8) if indices.size else None
        self._indices, self._plan = indices, plan
        self._missing = set(np.unique(indices).tolist())

    @property
    def complete(self) -> bool:
        return not self._missing

    def take(self, number: int, crops: NDArray[np.uint8]) -> None:
        if number not in self._missing or self.views is None:
            return
        self._missing.remove(number)
        by_clip = self.views.reshape(len(self._indices), -1, *self._plan.shape[1:])
        for clip, place in np.argwhere(self._indices == number):
            by_clip[clip, :, place] = crops


def scale_of(scaler: Scaler) -> Scale:
    """The function that scales the frames of a plan."""
    if scaler == "pillow":
        return scale_with_pillow
    from smnet.data.loading.transforms import scale_with_torch

    return scale_with_torch
