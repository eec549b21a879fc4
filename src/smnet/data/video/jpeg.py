"""Decode JPEG with simplejpeg if it is installed: the pixels of Pillow in less time."""

from __future__ import annotations

from functools import cache
from typing import Any

from smnet.data.video.base import Frames

# It converts other colour spaces, such as CMYK, differently from Pillow.
_COLOURS = ("YCbCr", "Gray", "RGB")


def decode_jpeg(data: bytes, size: tuple[int, int]) -> Frames | None:
    """Decode an undamaged JPEG file.

    Args:
        data: the file.
        size: its expected width and height.

    Returns:
        (H, W, 3) uint8 RGB, equal to Pillow's. None if simplejpeg is not installed or reports a
        problem; Pillow is more lenient and has better messages.
    """
    library = simplejpeg()
    if library is None:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(data)
        if (width, height) != size or colours not in _COLOURS:
            return None
        frame: Frames = library.decode_jpeg(data, colorspace="RGB")
    except ValueError:
        return None
    return frame


@cache
def simplejpeg() -> Any:
    """The library; None if it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
