"""The interface of every source of frames: video files, folders of images, packed clips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError

Frames = NDArray[np.uint8]

# 8K video has 33 million pixels. A header may claim any size, and frames are allocated by it.
_MAX_SIDE = 16384
MAX_PIXELS = 8192 * 8192


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts about a source of frames.

    Attributes:
        num_frames: frames that can be read; counted, not taken from a header.
        width, height: pixels, as returned by ``read`` (after rotation).
        fps: mean frames per second; None for frame folders and if the file does not say.
        duration: seconds from the first frame to the end of the last, by the time stamps of the
            frames; None if there are none.
        codec: "h264", "vp9", ...; "jpeg" or "png" for frame folders.
        rotation: degrees anticlockwise by which stored frames are rotated, a multiple of 90.
        container: FFmpeg's name of the file format; "frames" for frame folders.
    """

    num_frames: int
    width: int
    height: int
    fps: float | None
    duration: float | None
    codec: str
    rotation: int
    container: str


def mean_rate(frames: int, seconds: float | None, declared: float | None) -> float | None:
    """Mean frames per second: the declared rate unless the time stamps contradict it.

    Matroska files of variable rate declare another rate than their mean.

    Args:
        frames: number of frames.
        seconds: their duration by the time stamps; None if unknown.
        declared: rate in the header; None if there is none.
    """
    if not seconds or not frames:
        return declared
    mean = frames / seconds
    # Time stamps in milliseconds are rounded; declared rates are not.
    return declared if declared and abs(mean / declared - 1) < 0.02 else mean


class Video(ABC):
    """An open source of frames: a context manager, made by :func:`smnet.data.open.open_video`."""

    path: str

    @property
    @abstractmethod
    def num_frames(self) -> int:
        """Frames that can be read."""

    @property
    @abstractmethod
    def info(self) -> VideoInfo:
        """All facts. For a video file this decodes one frame, which carries the rotation."""

    @property
    @abstractmethod
    def damage(self) -> int:
        """Packets that did not decode and frames that were lost or marred, so far; 0 is sound.

        A lost frame is replaced by the nearest one in time. A marred frame is one that the decoder
        itself marks as corrupt. Only what ``read`` came across is counted, plus one if a part of
        the file is known to be missing.
        """

    @property
    def missing(self) -> str:
        """The part of the file that is known to be missing, in words; "" if none is."""
        return ""

    @abstractmethod
    def close(self) -> None:
        """Release the file; may be called more than once."""

    @abstractmethod
    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        """Yield (index, frame (H, W, 3)) once for each of the sorted, distinct ``wanted``."""

    def read(
        self, indices: Sequence[int] | NDArray[np.int64], short_side: int | None = None
    ) -> Frames:
        """Decode frames.

        Args:
            indices: 0-based, in any order, repeats allowed; at least one.
            short_side: scale frames down during conversion, to this many pixels on the shorter
                side; smaller frames keep their size. Fast for large frames, but the pixels differ
                slightly from a resize afterwards. None is the source size.

        Returns:
            uint8 RGB, (len(indices), H, W, 3), upright (rotation applied).

        Raises:
            UserError: an index is outside the video, or the file is too damaged or too slow to
                read. The message starts with the path.
        """
        asked = np.asarray(indices)
        if asked.ndim != 1 or asked.size == 0 or asked.dtype.kind not in "iu":
            raise UserError(f"{self.path}: frame indices must be a non-empty list of whole numbers")
        if short_side is not None and short_side < 1:
            raise UserError(f"{self.path}: short_side is {short_side}; it must be at least 1")
        low, high = int(asked.min()), int(asked.max())
        if low < 0 or high >= self.num_frames:
            raise UserError(
                f"{self.path}: frame {low if low < 0 else high} asked for,"
                f" but it has frames 0 to {self.num_frames - 1}"
            )
        out: Frames | None = None
        for index, frame in self._frames(np.unique(asked).tolist(), short_side):
            if out is None:
                out = np.empty((len(asked), *frame.shape), dtype=np.uint8)
            out[asked == index] = frame
        assert out is not None
        return out

    def each(
        self, indices: Sequence[int], short_side: int | None = None
    ) -> Iterator[tuple[int, Frames]]:
        """Decode frames one at a time, to save memory.

        Args:
            indices: 0-based, distinct, ascending.
            short_side: see :meth:`read`.

        Yields:
            (index, frame (H, W, 3)) for each, in the order of decoding.
        """
        return self._frames(indices, short_side)

    def jpeg(self, index: int) -> bytes | None:
        """The JPEG file that a frame is stored as; None if it is not stored as one."""
        return None

    @property
    def fps(self) -> float | None:
        return self.info.fps

    @property
    def duration(self) -> float | None:
        return self.info.duration

    @property
    def width(self) -> int:
        return self.info.width

    @property
    def height(self) -> int:
        return self.info.height

    @property
    def times(self) -> list[float] | None:
        """Presentation times in seconds from the first frame; None if unknown."""
        return None

    @property
    def codec(self) -> str:
        return self.info.codec

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_size(path: str, width: int, height: int) -> None:
    """Refuse frame sizes that only a damaged header declares and that would exhaust the memory.

    Raises:
        UserError: a side of 0 or over 16384 pixels, or over 67 million pixels in all.
    """
    if width < 1 or height < 1:
        raise UserError(
            f"{path}: its header gives no frame size ({width}x{height});"
            " the file is damaged or cut off"
        )
    if max(width, height) > _MAX_SIDE or width * height > MAX_PIXELS:
        raise UserError(
            f"{path}: frames of {width}x{height} pixels exceed the limit of {_MAX_SIDE} per side"
            f" and {MAX_PIXELS} in all; the header is damaged, or scale the video down"
        )


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """The size after scaling down to ``short_side``, rounded, aspect kept: (width, height)."""
    shorter = min(width, height)
    if short_side is None or shorter <= short_side:
        return width, height
    return (
        max(1, round(width * short_side / shorter)),
        max(1, round(height * short_side / shorter)),
    )
