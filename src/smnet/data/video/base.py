"""What every source of frames has in common, be it a video file or a folder of images."""

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

# 8K video has 33 million pixels. A header may claim anything; a frame is allocated as it says.
_MAX_SIDE = 16384
MAX_PIXELS = 8192 * 8192


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts about a source of frames.

    Attributes:
        num_frames: frames that can be read; counted, not what a header declares.
        width, height: pixels, as delivered by ``read``, that is after rotation.
        fps: mean frames per second; None for frame folders and where the file does not say.
        duration: seconds from the first frame to the end of the last, from the time stamps of
            the frames; None where there are none.
        codec: "h264", "vp9", ...; "jpeg" or "png" for frame folders.
        rotation: degrees anticlockwise, a multiple of 90, by which stored frames were turned.
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
    """Frames per second: what the file declares, unless that is not their mean, as in Matroska
    files of variable rate.

    Args:
        frames: that there are.
        seconds: they take, by their time stamps; None where these say nothing.
        declared: by the header; None where it says nothing.
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
        """All facts; for a video file this decodes one frame, to learn its rotation."""

    @property
    @abstractmethod
    def damage(self) -> int:
        """Packets that did not decode plus frames that were lost or marred, so far; 0 = sound.

        A lost frame was replaced by the one nearest in time; a marred one the decoder itself gave
        with a warning. Only what ``read`` came across counts: the rest was not tried.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the file; more than once does no harm."""

    @abstractmethod
    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        """Yield (index, (H, W, 3)) once for every one of the sorted, distinct ``wanted``."""

    def read(
        self, indices: Sequence[int] | NDArray[np.int64], short_side: int | None = None
    ) -> Frames:
        """Decode frames.

        Args:
            indices: 0-based, in any order, repeats allowed; at least one.
            short_side: scale frames down, while converting, so that their shorter side has this
                many pixels (smaller frames stay as they are). Bilinear as the decoder does it:
                fast for large frames, but not to the pixel what a resize afterwards gives.
                None = source size.

        Returns:
            uint8 RGB, (len(indices), H, W, 3), upright (rotation applied).

        Raises:
            UserError: an index outside the video, a file too damaged or too slow to read. The
                message starts with the path.
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
        """Decode frames one at a time, where all at once would not fit into memory.

        Args:
            indices: 0-based, each once, going up.
            short_side: see :meth:`read`.

        Yields:
            (index, frame (H, W, 3)) once for each, in an order that suits the decoder.
        """
        return self._frames(indices, short_side)

    def jpeg(self, index: int) -> bytes | None:
        """A frame as the JPEG file it is stored as, untouched; None where it is no such file."""
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
        """Seconds from the first frame at which each is shown; None where that is not known."""
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
    """Refuse frames that nobody films but that would exhaust the memory.

    Raises:
        UserError: a side of 0 or over 16384 pixels, or over 67 million pixels in all.
    """
    if width < 1 or height < 1:
        raise UserError(
            f"{path}: its header gives no frame size ({width}x{height});"
            " the file is damaged or broken off"
        )
    if max(width, height) > _MAX_SIDE or width * height > MAX_PIXELS:
        raise UserError(
            f"{path}: frames of {width}x{height} pixels are beyond the limit of"
            f" {_MAX_SIDE} a side and {MAX_PIXELS} in all; the header is damaged, or scale it down"
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
