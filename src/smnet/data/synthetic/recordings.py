"""Long recordings of drawn actions with known borders: scenes of ``motion`` with pauses between.

    root/marks.csv           path, label, start, end, split
    root/train/00000.mp4

A recording depends only on the seed, its split and its number.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnet.data.synthetic.motion import FPS, encode
from smnet.data.synthetic.scenes import MOTION_CLASSES, check_whole, draw_clip, draw_pause
from smnet.files import atomic_path, write_text

_RATES = (8, 12, 16)  # frames per second of the scenes where the rate varies
_PAUSE = (1.0, 3.0)  # seconds


def write_recordings(
    root: str | os.PathLike[str],
    *,
    train: int = 2,
    val: int = 2,
    scenes: int = 8,
    size: int = 96,
    seed: int = 0,
    variable: bool = False,
) -> Path:
    """Draw recordings into the folder ``root`` unless they exist.

    The files are H.264 in mp4 without sound. Each scene shows one action of
    :data:`smnet.data.synthetic.scenes.MOTION_CLASSES` for 2 to 3 seconds at 12 frames per second.
    Pauses of 1 to 3 seconds stand before, between and after the scenes.

    Args:
        root: a folder.
        train, val: recordings per split.
        scenes: per recording; each class occurs about as often as any other.
        size: side of the square frames in pixels, even, 32 to 256.
        seed: 0 or more.
        variable: frame rates that change from scene to scene.

    Returns:
        The path of ``marks.csv``, a data set of parts. Its borders are exact.

    Raises:
        UserError: a number out of range, or a folder that cannot be written.
    """
    for name, number in (("train", train), ("val", val)):
        check_whole(name, number, 0, 10_000)
    check_whole("scenes", scenes, 1, 10_000)
    folder = Path(root)
    rows: list[tuple[object, ...]] = []
    for part, (split, count) in enumerate((("train", train), ("val", val))):
        for number in range(count):
            name = f"{split}/{number:05d}.mp4"
            rng = np.random.default_rng((seed, part, number))
            labels = [(number * scenes + k) % len(MOTION_CLASSES) for k in range(scenes)]
            rng.shuffle(labels)
            parts = _plan(rng, labels, variable)
            if not (folder / name).exists():
                frames, stamps = _draw(rng, parts, size)
                with atomic_path(folder / name) as temporary:
                    temporary.write_bytes(encode(frames, stamps if variable else None))
            begin = 0.0
            for label, seconds, _ in parts:
                if label is not None:
                    row = (MOTION_CLASSES[label], f"{begin:.3f}", f"{begin + seconds:.3f}", split)
                    rows.append((name, *row))
                begin += seconds
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "start", "end", "split"))
    writer.writerows(rows)
    write_text(folder / "marks.csv", text.getvalue())
    return folder / "marks.csv"


_Part = tuple[int | None, float, int]
"""(label, seconds, frames per second); a pause has no label."""


def _plan(rng: np.random.Generator, labels: list[int], variable: bool) -> list[_Part]:
    """Scenes with pauses around them; lengths are whole numbers of frames."""
    parts: list[_Part] = []
    for label in [*labels, None]:
        rates = rng.choice(_RATES, 2).tolist() if variable else [FPS, FPS]
        pause = round(rng.uniform(*_PAUSE) * rates[0])
        parts.append((None, pause / rates[0], rates[0]))
        if label is not None:
            parts.append((label, round(rng.uniform(2, 3) * rates[1]) / rates[1], rates[1]))
    return parts


def _draw(
    rng: np.random.Generator, parts: list[_Part], size: int
) -> tuple[NDArray[np.uint8], list[int]]:
    """All frames (T, size, size, 3), and their times in milliseconds."""
    pieces: list[NDArray[np.uint8]] = []
    stamps: list[int] = []
    begin = 0.0
    for label, seconds, rate in parts:
        count = round(seconds * rate)
        if label is None:
            pieces.append(draw_pause(rng, size=size, frames=count))
        else:
            pieces.append(draw_clip(label, rng, size=size, frames=count))
        stamps += [round(1000 * (begin + k / rate)) for k in range(count)]
        begin += seconds
    return np.concatenate(pieces), stamps
