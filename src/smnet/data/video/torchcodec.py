"""Frames from video files through TorchCodec, on a CPU or an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from smnet.data.video.base import Frames, scaled_size
from smnet.data.video.pyav import VideoFile
from smnet.errors import UserError

# Codecs whose frames equal sequential decoding. MPEG-4 in AVI, interlaced and 10-bit video and
# transport streams do not.
_CODECS = {"h264", "hevc", "vp8", "vp9", "av1"}
_BATCH = 32  # frames
_ERRORS = (RuntimeError, ValueError, IndexError, OSError)  # raised by the library


class TorchCodecFile(VideoFile):
    """A video file read by TorchCodec; see :func:`smnet.data.open.open_video`.

    The frames are listed as for every other file, so indices have the same meaning.

    Args:
        path, timeout: see there; the time limit covers opening only.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. A GPU converts colours differently, so its
            frames are near those of a CPU but not equal.

    Raises:
        UserError: the library is missing or does not load, or it does not read this kind of video
            exactly.
    """

    def __init__(self, path: str, timeout: float | None, device: str = "cpu") -> None:
        decoders = library()
        super().__init__(path, timeout)
        try:
            codec = self._packets.codec_name
            layout = self._codec.format
            bits = layout.components[0].bits if layout else 0
            if self._packets.order is None or codec not in _CODECS or bits > 8:
                raise UserError(
                    f"{path}: decoder torchcodec reads progressive 8-bit"
                    f" {', '.join(sorted(_CODECS))} in mp4, mov, mkv and webm, and this is {codec}"
                    f" with {bits} bits; use decoder pyav"
                )
            self._decoder: Any = self._call(
                decoders.VideoDecoder, path, dimension_order="NHWC", device=device
            )
            if len(self._decoder) != self.num_frames:
                raise UserError(
                    f"{path}: TorchCodec counts {len(self._decoder)} of {self.num_frames} frames;"
                    " use decoder pyav"
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._decoder = None
        super().close()

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        self._start_clock()
        for first in range(0, len(wanted), _BATCH):
            part = list(wanted[first : first + _BATCH])
            batch = self._call(self._decoder.get_frames_at, indices=part)
            for index, frame in zip(part, batch.data.cpu().numpy(), strict=True):
                yield index, _scaled(frame, short_side)

    def _call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except _ERRORS as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise UserError(
                f"{self.path}: TorchCodec does not decode it ({reason}); try decoder pyav"
            ) from error


def _scaled(frame: Frames, short_side: int | None) -> Frames:
    height, width = frame.shape[:2]
    size = scaled_size(width, height, short_side)
    if size == (width, height):
        return frame
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))


@cache
def library() -> Any:
    """The module ``torchcodec.decoders``.

    Raises:
        UserError: it or its libraries are not installed.
    """
    try:
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            "decoder torchcodec does not load; install it with: pip install"
            " 'smnet-video[gpu-decode]', in the version for your PyTorch, and FFmpeg 4 to 8 with"
            " its shared libraries (apt install ffmpeg);"
            f" {type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        ) from error
    return decoders
