"""A part of a video, as a video of its own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from smnet.data.clips import Part
from smnet.data.video.base import Frames, Video, VideoInfo
from smnet.errors import UserError


class VideoPart(Video):
    """The frames of a part of a video; see :func:`smnet.data.open.open_video`.

    A frame belongs to the part if ``start <= t < end``, where t is its presentation time from the
    first frame of the recording. Adjacent parts share no frame and lose none. Where a file has no
    usable time stamps, frame i is presented at i over the mean frame rate.

    Args:
        video: the recording, closed with this video; or at least the frames of the part, with their
            times in the recording.
        part: the part.

    Raises:
        UserError: no frame lies in the part, or a part in seconds of frames without a rate.
    """

    def __init__(self, video: Video, part: Part) -> None:
        self.path = video.path
        self._video = video
        try:
            self._times = self._clock(part)
            end = len(self._times) if part.end is None else bisect_left(self._times, part.end)
            self._range = range(bisect_left(self._times, part.start or 0), end)
            if not self._range:
                raise UserError(f"{self.path}: no frame in the part {part}; {self._nearest()}")
        except BaseException:
            video.close()
            raise

    def _nearest(self) -> str:
        """The frames around an empty part."""
        around = self._times[max(self._range.start - 1, 0) : self._range.start + 1]
        where = " and ".join(f"{time:.10g}" for time in around)
        what = "last frame is" if len(around) == 1 else "frames before and after it are"
        return f"the {what} at {where}"

    def _clock(self, part: Part) -> Sequence[float]:
        """The times of all frames of the recording, in the unit of the part."""
        if part.unit == "frames":
            return range(self._video.num_frames)
        times = self._video.times
        if times is not None:
            return times
        if fps := self._video.fps:
            return (np.arange(self._video.num_frames) / fps).tolist()
        raise UserError(
            f"{self.path}: the part {part} is in seconds, but these frames have no rate; give the"
            " column fps, or the part in frames (start_frame, end_frame)"
        )

    @property
    def num_frames(self) -> int:
        return len(self._range)

    @cached_property
    def info(self) -> VideoInfo:
        whole = self._video.info
        duration = None
        if whole.duration:
            times = self._video.times or [
                i * whole.duration / whole.num_frames for i in range(whole.num_frames)
            ]
            after = self._range.stop
            end = times[after] if after < len(times) else times[0] + whole.duration
            duration = end - times[self._range.start]
        return replace(whole, num_frames=self.num_frames, duration=duration)

    @property
    def times(self) -> list[float] | None:
        times = self._video.times
        if times is None:
            return None
        first = times[self._range.start]
        return [times[i] - first for i in self._range]

    @property
    def damage(self) -> int:
        return self._video.damage

    @property
    def missing(self) -> str:
        return self._video.missing

    def close(self) -> None:
        self._video.close()

    def jpeg(self, index: int) -> bytes | None:
        return self._video.jpeg(self._range[index])

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        first = self._range.start
        for index, frame in self._video.each([self._range[i] for i in wanted], short_side):
            yield index - first, frame
