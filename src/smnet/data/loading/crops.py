"""Where the crops lie: the random crop of training and the crops of the test protocols.

NumPy only, so that a machine without PyTorch cuts the same views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MULTISCALE = (1.0, 0.875, 0.75, 0.66)
"""Sides of the crops of the TSN family, as fractions of the short side."""

MULTISCALE_POSITIONS = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),  # corners and centre
    *((2, 0), (2, 4), (4, 2), (0, 2)),  # middles of the sides
    *((1, 1), (1, 3), (3, 1), (3, 3)),  # centres of the quarters
)
"""(row, column) of a crop on a grid of quarter steps."""


@dataclass(frozen=True, slots=True)
class Box:
    """A crop of the source frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Crops:
    """The crops of a test protocol in the scaled frame, in pixels.

    Attributes:
        height, width: size to which the frame is scaled.
        side: side of the square crops.
        places: (top, left) of each crop.
    """

    height: int
    width: int
    side: int
    places: tuple[tuple[int, int], ...]


def random_box(height: int, width: int, size: int, crop: str, rng: np.random.Generator) -> Box:
    """The crop of a training view; ``crop`` is "multiscale", "resized" or "centre"."""
    if crop == "multiscale":
        return multiscale_box(height, width, size, rng)
    if crop == "resized":
        return resized_box(height, width, rng)
    return centre_box(height, width)


def multiscale_box(height: int, width: int, size: int, rng: np.random.Generator) -> Box:
    """MultiScaleCrop of the TSN family (Wang et al., ECCV 2016).

    The two sides are drawn from :data:`MULTISCALE` times the short side, at most one step apart. A
    side within two pixels of ``size`` becomes ``size``. The position is drawn from
    :data:`MULTISCALE_POSITIONS`.
    """
    short = min(height, width)
    sides = [int(short * scale) for scale in MULTISCALE]
    sides = [size if abs(side - size) < 3 and size <= short else side for side in sides]
    steps = [
        (i, j) for i in range(len(MULTISCALE)) for j in range(len(MULTISCALE)) if abs(i - j) <= 1
    ]
    i, j = steps[rng.integers(len(steps))]
    crop_h, crop_w = max(sides[i], 1), max(sides[j], 1)
    step_h, step_w = (height - crop_h) // 4, (width - crop_w) // 4
    row, column = MULTISCALE_POSITIONS[rng.integers(len(MULTISCALE_POSITIONS))]
    return Box(row * step_h, column * step_w, crop_h, crop_w)


def resized_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.35, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """RandomResizedCrop (Inception): area and aspect ratio are drawn at random.

    After ten draws that do not fit, it is the largest centred crop with an allowed ratio.
    """
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        crop_w, crop_h = round(np.sqrt(target * aspect)), round(np.sqrt(target / aspect))
        if 0 < crop_w <= width and 0 < crop_h <= height:
            top = int(rng.integers(height - crop_h + 1))
            left = int(rng.integers(width - crop_w + 1))
            return Box(top, left, crop_h, crop_w)
    crop_w = min(width, round(height * ratio[1]))
    crop_h = min(height, round(width / ratio[0]))
    return Box((height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w)


def centre_box(height: int, width: int) -> Box:
    """The largest centred square."""
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def protocol_crops(height: int, width: int, size: int, short_side: int, crops: int) -> Crops:
    """The crops of the test protocols in a frame of ``height`` x ``width`` pixels.

    Args:
        height, width: size of the decoded frame.
        size: side of the crop in training, pixels.
        short_side: short side of the scaled frame, pixels.
        crops: 1 is the centre ``size`` x ``size``. 3 are full ``short_side`` squares at both ends
            and in the middle of the long side (fully convolutional testing). 5 are the corners and
            the centre, ``size`` x ``size``.
    """
    scale = short_side / min(height, width)
    height, width = (
        (short_side, max(round(width * scale), short_side))
        if height <= width
        else (max(round(height * scale), short_side), short_side)
    )
    side = short_side if crops == 3 else size
    down, right = height - side, width - side
    middle = (down // 2, right // 2)
    if crops == 1:
        return Crops(height, width, side, (middle,))
    if crops == 3:
        return Crops(height, width, side, ((0, 0), middle, (down, right)))
    corners = ((0, 0), (0, right), (down, 0), (down, right))
    return Crops(height, width, side, (*corners, middle))
