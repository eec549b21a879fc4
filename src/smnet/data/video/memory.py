"""Frames from an array in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from smnet.data.video.base import Frames, Video, VideoInfo, scaled_size


class FrameArray(Video):
    """Frames (T, H, W, 3) uint8 RGB; see :func:`smnet.data.open.open_video`."""

    def __init__(self, frames: Frames) -> None:
        self.path = f"<{len(frames)} frames>"
        self._array = frames

    @property
    def num_frames(self) -> int:
        return len(self._array)

    @property
    def damage(self) -> int:
        return 0

    @property
    def info(self) -> VideoInfo:
        count, height, width = self._array.shape[:3]
        return VideoInfo(count, width, height, None, None, "raw", 0, "frames")

    def close(self) -> None:
        pass

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        height, width = self._array.shape[1:3]
        size = scaled_size(width, height, short_side)
        for index in wanted:
            frame = self._array[index]
            if size != (width, height):
                picture = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
                frame = np.asarray(picture)
            yield index, frame
