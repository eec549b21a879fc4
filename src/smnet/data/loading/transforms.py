"""From decoded frames to what the network sees: crops on the CPU in uint8, the rest on the device.

Frames are scaled while still uint8, with antialiasing; the result is within one grey level of
Pillow's bilinear filter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from smnet.data.loading.views import protocol_crops

MULTISCALE = (1.0, 0.875, 0.75, 0.66)
"""Sides of the crops of the TSN family, as fractions of the short side."""


@dataclass(frozen=True, slots=True)
class Box:
    """A crop of the source frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


def multiscale_box(height: int, width: int, size: int, rng: np.random.Generator) -> Box:
    """MultiScaleCrop of the TSN family (Wang et al., ECCV 2016).

    The two sides are drawn from :data:`MULTISCALE` times the short side, at most one step apart; a
    side within two pixels of ``size`` becomes ``size``. The position is one of 13 on a grid of
    quarter steps: corners, centre, middles of the sides and centres of the quarters.
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


MULTISCALE_POSITIONS = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),  # corners and centre
    *((2, 0), (2, 4), (4, 2), (0, 2)),  # middles of the sides
    *((1, 1), (1, 3), (3, 1), (3, 3)),  # centres of the quarters
)


def resized_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.35, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """RandomResizedCrop (Inception): an area and an aspect ratio drawn at random, ten tries; then
    the largest centred crop whose ratio is allowed."""
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


def train_view(
    frames: NDArray[np.uint8], size: int, crop: str, mirror: bool, rng: np.random.Generator
) -> Tensor:
    """One random view of a clip, the same crop on all its frames.

    Args:
        frames: (T, H, W, 3) uint8.
        size: side of the result, pixels.
        crop: ``"multiscale"``, ``"resized"`` or ``"centre"``.
        mirror: turn left and right round (the caller swaps the label).
        rng: where the randomness comes from.

    Returns:
        (1, T, 3, size, size) uint8.
    """
    height, width = frames.shape[1:3]
    if crop == "multiscale":
        box = multiscale_box(height, width, size, rng)
    elif crop == "resized":
        box = resized_box(height, width, rng)
    else:
        box = centre_box(height, width)
    cut = frames[:, box.top : box.top + box.height, box.left : box.left + box.width]
    view = resize(_channels_first(cut), size, size)
    return (view.flip(-1) if mirror else view)[None]


def protocol_views(frames: NDArray[np.uint8], size: int, short_side: int, crops: int) -> Tensor:
    """The views of the test protocols.

    Args:
        frames: (T, H, W, 3) uint8.
        size, short_side, crops: see :func:`smnet.data.loading.views.protocol_crops`.

    Returns:
        (crops, T, 3, s, s) uint8, s = ``short_side`` for three crops, else ``size``.
    """
    height, width = frames.shape[1:3]
    where = protocol_crops(height, width, size, short_side, crops)
    scaled = resize(_channels_first(frames), where.height, where.width)
    side = where.side
    return torch.stack([scaled[..., y : y + side, x : x + side] for y, x in where.places])


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Bilinear with antialiasing on uint8 (T, 3, H, W) -> (T, 3, height, width)."""
    if frames.shape[-2:] == (height, width):
        return frames
    return F.interpolate(frames, (height, width), mode="bilinear", antialias=True)


def normalise(
    clips: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """uint8 (..., 3, H, W) in [0, 255] -> float32 normalised, on the tensor's device."""
    return standardise(clips.float().div_(255), mean, std)


def standardise(
    clips: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Float32 (..., 3, H, W) in [0, 1] -> normalised, in place."""
    shift = torch.tensor(mean, device=clips.device).view(3, 1, 1)
    scale = torch.tensor(std, device=clips.device).view(3, 1, 1)
    return clips.sub_(shift).div_(scale)


def mix_clips(
    clips: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., 2018) or CutMix (Yun et al., 2019) of a batch with itself in reverse.

    One of the two for a whole batch, with equal chance when both are on; the box of CutMix is the
    same on all frames of a clip.

    Args:
        clips: (B, T, 3, H, W) float.
        targets: (B, K) probabilities.
        mixup, cutmix: parameters alpha of the Beta distribution the share is drawn from; 0 is off.
        generator: a CPU generator, part of the run's state.

    Returns:
        Clips and targets of the same shapes.
    """
    if mixup <= 0 and cutmix <= 0:
        return clips, targets
    cut = cutmix > 0 and (mixup <= 0 or torch.rand((), generator=generator).item() < 0.5)
    share = _beta(cutmix if cut else mixup, generator)
    if cut:
        height, width = clips.shape[-2:]
        box_h, box_w = (round(side * (1 - share) ** 0.5) for side in (height, width))
        top = int(torch.randint(height - box_h + 1, (), generator=generator))
        left = int(torch.randint(width - box_w + 1, (), generator=generator))
        mixed = clips.clone()
        box = (..., slice(top, top + box_h), slice(left, left + box_w))
        mixed[box] = clips.flip(0)[box]
        share = 1 - box_h * box_w / (height * width)
    else:
        mixed = clips.lerp(clips.flip(0), 1 - share)
    return mixed, targets.lerp(targets.flip(0), 1 - share)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha) out of the run's own generator."""
    shape = torch.full((2,), alpha, dtype=torch.float64)
    a, b = torch._standard_gamma(shape, generator=generator).tolist()
    return a / (a + b) if a + b > 0 else 0.5


def _channels_first(frames: NDArray[np.uint8]) -> Tensor:
    """(T, H, W, 3) -> (T, 3, H, W), without a copy where the array allows it."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
