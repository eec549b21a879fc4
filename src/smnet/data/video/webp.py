"""Animated WebP through Pillow; FFmpeg cannot decode it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from smnet.data.video.base import Frames, Video, VideoInfo, check_size, scaled_size
from smnet.data.video.completeness import missing_part
from smnet.errors import UserError

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def is_webp(path: str) -> bool:
    """Whether a file begins like WebP."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


class AnimatedWebp(Video):
    """An animated WebP file; see :func:`smnet.data.open.open_video`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._missing = missing_part(path)
        try:
            self._image = Image.open(path, formats=("WEBP",))
            self._num_frames = getattr(self._image, "n_frames", 1)
        except _BROKEN as error:
            raise UserError(f"{path}: a damaged WebP file ({error}); fetch it again") from error
        if self._num_frames < 2:
            self.close()
            raise UserError(
                f"{path}: is not a video but a WebP picture; give the folder of its frames"
            )
        check_size(path, *self._image.size)

    @property
    def num_frames(self) -> int:
        return self._num_frames

    @cached_property
    def info(self) -> VideoInfo:
        milliseconds = 0
        for index in range(self._num_frames):
            self._seek(index)
            milliseconds += int(self._image.info.get("duration", 0))
        return VideoInfo(
            num_frames=self._num_frames,
            width=self._image.size[0],
            height=self._image.size[1],
            fps=1000 * self._num_frames / milliseconds if milliseconds else None,
            duration=milliseconds / 1000 or None,
            codec="webp",
            rotation=0,
            container="webp",
        )

    @property
    def damage(self) -> int:
        return int(bool(self._missing))

    @property
    def missing(self) -> str:
        return self._missing

    def close(self) -> None:
        self._image.close()

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        size = scaled_size(*self._image.size, short_side)
        for index in wanted:
            picture = self._seek(index).convert("RGB")
            if size != picture.size:
                picture = picture.resize(size, Image.Resampling.BILINEAR)
            yield index, np.asarray(picture)

    def _seek(self, index: int) -> Image.Image:
        try:
            self._image.seek(index)
            self._image.load()
        except _BROKEN as error:
            raise UserError(
                f"{self.path}: frame {index} does not decode ({error}); fetch the file again"
            ) from error
        return self._image
