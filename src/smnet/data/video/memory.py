"""Frames from an array in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from smnet.data.video.base import Frames, Video, VideoInfo, scaled_size


class FrameArray(Video):
    """Frames in memory.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        times, fps: of the video that they are from; None where they have no time of their own.
    """

    def __init__(
        self, frames: Frames, times: list[float] | None = None, fps: float | None = None
    ) -> None:
        self.path = f"<{len(frames)} frames>"
        self.frames = frames
        self._times, self._fps = times, fps

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def damage(self) -> int:
        return 0

    @property
    def info(self) -> VideoInfo:
        count, height, width = self.frames.shape[:3]
        return VideoInfo(count, width, height, self._fps, None, "raw", 0, "frames")

    @property
    def times(self) -> list[float] | None:
        return self._times

    def close(self) -> None:
        pass

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        height, width = self.frames.shape[1:3]
        size = scaled_size(width, height, short_side)
        for index in wanted:
            frame = self.frames[index]
            if size != (width, height):
                picture = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
                frame = np.asarray(picture)
            yield index, frame
