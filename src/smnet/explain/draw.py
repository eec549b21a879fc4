"""Pictures and short videos of evidence: the frames that a network saw, with the map over them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, PngImagePlugin

from smnet.files import WRITTEN_BY, atomic_path, check_suffix
from smnet.inference.evidence import Evidence
from smnet.inference.overlay import font_for
from smnet.report.clips import encode

SUFFIXES = (".mp4", ".gif", ".png", ".html")
FOR, AGAINST = (255, 120, 0), (40, 100, 255)
"""Colours of evidence for and against a class."""
STRONGEST = 0.75
"""Opacity of the strongest cell."""
RATE = 3
"""Frames per second of a video; one frame a segment."""
SIDE = 224
"""Height of a drawn frame, pixels."""
_TEXT, _BAR = 22, 44
_INK, _PAPER, _SOFT = (28, 36, 48), (255, 255, 255), (200, 205, 212)

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """What is drawn of an explanation: a title, the evidence, and the class or classes."""

    title: str
    evidence: Evidence
    label: str
    against: str | None = None

    @property
    def overlay(self) -> Frames:
        """The frames (T, H, W, 3) with the map over them."""
        return overlay(self.evidence.frames, self.evidence.map_of(self.label, self.against))


def overlay(frames: Frames, maps: NDArray[np.float32]) -> Frames:
    """Frames (T, H, W, 3) with maps (T', h, w) over them, orange for and blue against the class.

    The strongest cell of all frames has full colour, so that frames can be compared. Frames of the
    same T' get the same map.
    """
    limit = float(np.abs(maps).max()) or 1.0
    height, width = frames.shape[1:3]
    drawn = np.empty_like(frames)
    for number, frame in enumerate(frames):
        cell = maps[number * len(maps) // len(frames)] / limit
        share = _smooth(cell, width, height).clip(-1, 1)
        grey = 0.5 * frame + 0.5 * frame.mean(-1, keepdims=True)
        colour = np.where(share > 0, FOR, AGAINST)
        opacity = STRONGEST * np.abs(share)
        drawn[number] = (grey * (1 - opacity) + colour * opacity).round().clip(0, 255)
    return drawn


def video_frames(shown: Shown) -> Frames:
    """Frames (T, H, 2W, 3): the clip beside the clip with its map, at even sides of some pixels."""
    plain, drawn = shown.evidence.frames, shown.overlay
    return np.stack([_resized(np.hstack(pair), SIDE) for pair in zip(plain, drawn, strict=True)])


def strip(panels: Sequence[Shown]) -> Image.Image:
    """The frames, the map over them, and the evidence of each frame, for one or more networks."""
    blocks = [_block(panel) for panel in panels]
    width = max(block.width for block in blocks)
    picture = Image.new("RGB", (width, sum(block.height for block in blocks)), _PAPER)
    top = 0
    for block in blocks:
        picture.paste(block, (0, top))
        top += block.height
    return picture


def mask_strip(frames: Frames, masks: NDArray[np.float32], side: int = 96) -> Image.Image:
    """Frames (T, H, W, 3) with masks (T, h, w), light where the mask is largest over the clip."""
    low, high = float(masks.min()), float(masks.max())
    shares = (masks - low) / max(high - low, 1e-9)
    cells = []
    for frame, share in zip(frames, shares, strict=True):
        smooth = _smooth(share, frame.shape[1], frame.shape[0])
        cells.append(_resized((frame * (0.15 + 0.85 * smooth)).astype(np.uint8), side))
    return Image.fromarray(np.hstack(cells))


def write_shown(path: str | Path, panels: Sequence[Shown]) -> None:
    """Write a strip (.png) or a video (.mp4, .gif), by the suffix.

    In a video, each network has a row: the clip, and the clip with its map.

    Raises:
        UserError: another suffix, or it cannot be written.
    """
    check_suffix(path, SUFFIXES[:3], "an explanation")
    with atomic_path(path) as temporary:
        match Path(path).suffix.lower():
            case ".png":
                strip(panels).save(temporary, pnginfo=_software())
            case ".mp4":
                temporary.write_bytes(encode(list(_rows(panels)), RATE))
            case _:
                pictures = [Image.fromarray(frame) for frame in _rows(panels)]
                pictures[0].save(
                    temporary,
                    save_all=True,
                    append_images=pictures[1:],
                    duration=1000 // RATE,
                    loop=0,
                    comment=WRITTEN_BY.encode(),
                )


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "png", pnginfo=_software())
    return file.getvalue()


def _software() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", WRITTEN_BY)
    return info


def _rows(panels: Sequence[Shown]) -> Frames:
    """The videos of several networks below each other; shorter ones show frames longer."""
    videos = [video_frames(panel) for panel in panels]
    count, width = max(map(len, videos)), max(video.shape[2] for video in videos)
    rows = []
    for video in videos:
        longer = video[np.arange(count) * len(video) // count]
        rows.append(np.pad(longer, ((0, 0), (0, 0), (0, width - video.shape[2]), (0, 0))))
    return np.concatenate(rows, axis=1)


def _smooth(cells: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Cells (h, w) as (height, width, 1), without values beyond theirs."""
    picture = Image.fromarray(cells.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))[..., None]


def _resized(frame: Frames, height: int) -> Frames:
    """A frame of this height, with an even width."""
    width = max(round(frame.shape[1] * height / frame.shape[0] / 2) * 2, 2)
    return np.asarray(Image.fromarray(frame).resize((width, height)))


def _block(shown: Shown) -> Image.Image:
    """The strip of one network."""
    side = SIDE // 2
    rows = [[_resized(f, side) for f in row] for row in (shown.evidence.frames, shown.overlay)]
    count, width = len(rows[0]), rows[0][0].shape[1]
    step = width + 4
    picture = Image.new("RGB", (count * step, _TEXT + 2 * side + 4 + _BAR + _TEXT), _PAPER)
    pen = ImageDraw.Draw(picture)
    font, (title,) = font_for([shown.title], 14)
    pen.text((2, 2), title, _INK, font)
    for row, frames in enumerate(rows):
        for column, frame in enumerate(frames):
            place = (column * step, _TEXT + row * (side + 4))
            picture.paste(Image.fromarray(frame), place)
    _bars(pen, shown.evidence.curve(shown.label, shown.against), count * step, picture.height)
    return picture


def _bars(pen: ImageDraw.ImageDraw, curve: NDArray[np.float64], width: int, bottom: int) -> None:
    """A bar and a number for each value, from a line at 0."""
    step = width / len(curve)
    low, high = min(0.0, float(curve.min())), max(0.0, float(curve.max()))
    scale = (_BAR - 8) / max(high - low, 1e-9)
    zero = bottom - _TEXT - 4 + low * scale
    font, _ = font_for(["0"], 12)
    for number, value in enumerate(curve.tolist()):
        left, right = number * step + step / 4, (number + 1) * step - step / 4
        ends = sorted((zero, zero - value * scale))
        pen.rectangle((left, ends[0], right, ends[1]), FOR if value > 0 else AGAINST)
        pen.text(((left + right) / 2, bottom - _TEXT + 2), f"{value:+.2f}", _INK, font, "ma")
    pen.line((0, zero, width, zero), _SOFT)
