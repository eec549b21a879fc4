"""JPEG files decoded by simplejpeg where it is installed: the pixels of Pillow in less time."""

from __future__ import annotations

from functools import cache
from typing import Any

from smnet.data.video.base import Frames

# Others, such as printers' colours, it converts to RGB in a way of its own.
_COLOURS = ("YCbCr", "Gray", "RGB")


def decode_jpeg(data: bytes, size: tuple[int, int]) -> Frames | None:
    """Decode a JPEG file without a flaw.

    Args:
        data: the file.
        size: width and height that it should have.

    Returns:
        (H, W, 3) uint8 RGB, equal to what Pillow gives. None where simplejpeg is not installed, or
        has something to say against the file: Pillow may be more lenient, and tells what is wrong.
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
    """The library; None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
