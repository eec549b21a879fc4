"""Drawing of labels on a video."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smnet.data.open import open_video
from smnet.errors import UserError
from smnet.files import WRITTEN_BY, atomic_path, check_suffix
from smnet.inference.recognizer import Prediction

CHUNK = 32
"""Frames decoded, drawn and encoded at a time; bounds the memory of long videos."""

TICK = Fraction(1, 90000)
"""Time base of the output, seconds. As in broadcasting, all usual frame rates divide it."""

_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")


def write_annotated(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    prediction: Prediction | Callable[[float], Prediction],
) -> None:
    """Copy a video, or a folder of frames, as H.264 with its best labels and scores drawn over the
    lower edge. The timing of the frames is kept. Sound is not copied. Of a part that was predicted,
    only the part is copied.

    Args:
        source: the video.
        target: ``.mp4``, ``.mkv`` or ``.mov``.
        prediction: the labels and scores to draw; or those of a moment, in seconds from the first
            frame. Nothing is drawn where there are no labels.

    Raises:
        UserError: as :func:`check_target`; a source that cannot be read or has a side of one
            pixel; or a target that cannot be written.
    """
    check_target(source, target)
    if callable(prediction):
        part, at = None, prediction
    else:
        fixed = prediction
        part, at = fixed.part, lambda time: fixed
    with open_video(source, part=part) as video, atomic_path(target) as temporary:
        width, height = video.width // 2 * 2, video.height // 2 * 2
        if not (width and height):
            raise UserError(f"{source}: {video.width}x{video.height} pixels, too few to draw on")
        banner = lru_cache(8)(partial(_banner, width=video.width))
        rate = max(Fraction(video.fps or 25).limit_denominator(1001), Fraction(1, 1001))
        times = video.times or [float(index / rate) for index in range(video.num_frames)]
        with av.open(str(temporary), "w") as output:
            output.metadata["comment"] = WRITTEN_BY
            stream = output.add_stream("libx264", rate=rate, options={"crf": "20"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = TICK
            for first in range(0, video.num_frames, CHUNK):
                chunk = range(first, min(first + CHUNK, video.num_frames))
                for index, frame in zip(chunk, video.read(chunk), strict=True):
                    shown = at(times[index])
                    drawn = _draw(frame, banner(shown)) if shown.labels else frame
                    drawn = np.ascontiguousarray(drawn[:height, :width])
                    picture = av.VideoFrame.from_ndarray(drawn, "rgb24")
                    picture.pts, picture.time_base = round(times[index] / TICK), TICK
                    output.mux(stream.encode(picture))
            output.mux(stream.encode())


def check_target(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Refuse a target of another suffix than ``.mp4``, ``.mkv`` or ``.mov``, and the source."""
    check_suffix(target, (".mp4", ".mkv", ".mov"), "an annotated video")
    if Path(target).exists() and Path(target).samefile(source):
        raise UserError(f"{target}: is the source video; choose another file")


def _banner(prediction: Prediction, width: int) -> Image.Image:
    """The lines of text as a transparent image of the video's width."""
    lines = [
        f"{score:.0%}  {label}"
        for label, score in zip(prediction.labels[:3], prediction.scores[:3], strict=True)
    ]
    size = max(10, width // 26)
    font, lines = font_for(lines, size)
    while size > 8 and max(font.getlength(line) for line in lines) > width - 2 * size:
        size -= 1
        font = font.font_variant(size=size)
    step = round(size * 1.35)
    banner = Image.new("RGBA", (width, step * len(lines) + size), (0, 0, 0, 150))
    pen = ImageDraw.Draw(banner)
    for number, line in enumerate(lines):
        shade = (255, 255, 255, 255) if number == 0 else (200, 200, 200, 255)
        pen.text((size // 2, size // 2 + number * step), line, shade, font)
    return banner


def font_for(lines: list[str], size: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """A font of the machine, ``size`` pixels high, and the lines; or Pillow's font, which covers
    ASCII, and the lines in ASCII."""
    for name in _FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size), lines
    fallback = ImageFont.load_default(size)
    assert isinstance(fallback, ImageFont.FreeTypeFont)  # true if a size is given
    return fallback, [in_ascii(line) for line in lines]


def in_ascii(text: str) -> str:
    """Letters without accents, and ``?`` for all others: ``"Öl 日"`` becomes ``"Ol ?"``."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(c if c.isascii() else "?" for c in apart if not unicodedata.combining(c))


def _draw(frame: np.ndarray, banner: Image.Image) -> np.ndarray:
    picture = Image.fromarray(frame)
    picture.paste(banner, (0, max(picture.height - banner.height, 0)), banner)
    return np.asarray(picture)
