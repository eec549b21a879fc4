"""Pictures that move over each other: the layers of a drawn scene."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """A picture that moves. Lengths are in sides of the frame, from its centre, y downwards.

    Attributes:
        picture: (3, h, w), mirrored beyond its edges; or (4, h, w) with a cover, once.
        x, y: track of the centre, (n,) for the n frames of a video.
        size: half of the side, (n,).
        angle: radians, clockwise as seen, (n,).
        wave: amplitude of a travelling bend, in units of ``size``.
    """

    picture: Tensor
    x: Floats
    y: Floats
    size: Floats
    angle: Floats
    wave: float = 0.0

    def at(self, frames: NDArray[np.int64]) -> Layer:
        """The layer at some frames only."""
        x, y, size, angle = (v[frames] for v in (self.x, self.y, self.size, self.angle))
        return replace(self, x=x, y=y, size=size, angle=angle)


def sway(rng: np.random.Generator, frames: int, reach: float) -> Floats:
    """A drift and a slow swing around 0, (n,), both up to ``reach``."""
    t = np.linspace(-0.5, 0.5, frames)
    drift, swing = rng.uniform(-reach, reach), rng.uniform(0, 0.4 * reach)
    phase = 2 * math.pi * (rng.uniform(0.5, 2.0) * t + rng.uniform())
    return (drift * t + swing * np.sin(phase)).astype(np.float32)


def compose(layers: list[Layer], side: int) -> Tensor:
    """Draw layers over each other, from back to front: (n, 3, side, side) in [0, 1]."""
    canvas = torch.empty(0)
    pixel = (torch.arange(side) + 0.5) / side - 0.5
    for layer in layers:
        picture, count = layer.picture, len(layer.x)
        numbers = (np.cos(layer.angle), np.sin(layer.angle), layer.size, layer.x, layer.y)
        cosine, sine, size, x, y = (torch.from_numpy(n)[:, None] for n in numbers)
        right, down = (pixel - x) / size, (pixel - y) / size  # (n, side)
        grid = torch.empty(count, side, side, 2)
        torch.add((cosine * right)[:, None, :], (sine * down)[:, :, None], out=grid[..., 0])
        torch.sub((cosine * down)[:, :, None], (sine * right)[:, None, :], out=grid[..., 1])
        if layer.wave:
            time = torch.linspace(0, 12, count)[:, None, None]
            grid[..., 0] += layer.wave * torch.sin(3 * grid[..., 1] + time)
        painted = F.grid_sample(
            picture[None],
            grid.view(1, count * side, side, 2),
            padding_mode="reflection" if len(picture) == 3 else "zeros",
            align_corners=False,
        )
        painted = painted.view(len(picture), count, side, side)
        if len(picture) == 3:
            canvas = painted
        else:
            canvas += painted[3] * (painted[:3] - canvas)
    return canvas.transpose(0, 1).contiguous()
