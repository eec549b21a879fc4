"""Textures and cut-outs of the drawn world: pictures with the statistics of photographs.

Amplitudes fall with the frequency as 1/f (Field, "Relations between the statistics of natural
images and the response properties of cortical cells", 1987). Edges and occlusions follow the dead
leaves model: shapes that cover each other, with radii of a power law (Lee, Mumford and Huang,
"Occlusion models for natural images", 2001).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

SIDE = 256
"""Side of a texture in texels."""
_OVERSAMPLED = 4


def draw_texture(rng: np.random.Generator) -> Tensor:
    """One texture, (3, SIDE, SIDE) float32 in [0, 1]."""
    kind = rng.choice(4, p=(0.25, 0.4, 0.2, 0.15))
    if kind == 0:
        picture = _photograph_noise(rng)
    elif kind == 1:
        leaves = _leaves(rng, int(rng.integers(60, 500)), largest=rng.uniform(20, 120))
        picture = leaves + rng.uniform(0, 0.5) * (_photograph_noise(rng) - 0.5)
    elif kind == 2:  # a room: few large flat shapes
        leaves = _leaves(rng, int(rng.integers(5, 40)), largest=200, smallest=20)
        picture = leaves + rng.uniform(0, 0.15) * (_photograph_noise(rng) - 0.5)
    else:
        picture = _regular(rng) + rng.uniform(0, 0.5) * (_photograph_noise(rng) - 0.5)
    if rng.random() < 0.5:  # a picture is rarely sharp to the pixel
        small = int(rng.integers(SIDE // 4, SIDE))
        picture = _resized(_resized(picture, small), SIDE)
    return picture.clamp(0, 1)


def draw_cutout(rng: np.random.Generator, texture: Tensor, side: int) -> Tensor:
    """A shape with a part of ``texture``: (4, side, side) RGB and cover, in [0, 1]."""
    cover = torch.from_numpy(_silhouette(rng, side * _OVERSAMPLED))
    cover = F.avg_pool2d(cover[None, None], _OVERSAMPLED)[0]
    part = int(rng.integers(min(24, SIDE // 2), SIDE))
    row, column = rng.integers(0, SIDE - part + 1, 2)
    colours = _resized(texture[:, row : row + part, column : column + part], side)
    if rng.random() < 0.5:  # contrast against a background of the same kind
        shift = torch.from_numpy(rng.uniform(-0.4, 0.4, (3, 1, 1)).astype(np.float32))
        colours = colours + shift
    if rng.random() < 0.3:  # shading
        dark, bright = rng.uniform(0.5, 1.4, 2)
        light = torch.linspace(float(dark), float(bright), side)
        colours = colours * (light[:, None] if rng.random() < 0.5 else light[None, :])
    return torch.cat([colours.clamp(0, 1), cover])


def _resized(picture: Tensor, side: int) -> Tensor:
    return F.interpolate(
        picture[None], size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )[0]


def _noise(rng: np.random.Generator, fall: float, channels: int = 1) -> NDArray[np.float32]:
    """Noise with amplitudes 1/f^``fall``, (channels, SIDE, SIDE), mean 0, deviation 1."""
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1
    amplitude = radius**-fall
    amplitude[0, 0] = 0
    spectrum = np.fft.rfft2(rng.standard_normal((channels, SIDE, SIDE)))
    noise = np.fft.irfft2(spectrum * amplitude, s=(SIDE, SIDE))
    return np.asarray(noise / (noise.std((1, 2), keepdims=True) + 1e-9), np.float32)


def _photograph_noise(rng: np.random.Generator) -> Tensor:
    """Colour noise with the spectrum of photographs: mostly lightness, and a little colour."""
    light = _noise(rng, rng.uniform(0.8, 1.5))
    colour = _noise(rng, rng.uniform(0.9, 1.6), 3)
    mean = rng.uniform(0.25, 0.75) + rng.uniform(-0.12, 0.12, (3, 1, 1))
    picture = mean + rng.uniform(0.06, 0.25) * light + rng.uniform(0, 0.1) * colour
    return torch.from_numpy(picture.astype(np.float32))


def _leaves(rng: np.random.Generator, count: int, largest: float, smallest: float = 3.0) -> Tensor:
    image = Image.new("RGB", (SIDE, SIDE), _colour(rng))
    draw = ImageDraw.Draw(image)
    # Radii with density r^-3 between the two limits.
    share = rng.uniform(size=count)
    radii = (largest**-2 + share * (smallest**-2 - largest**-2)) ** -0.5
    for radius in np.sort(radii)[::-1] if rng.random() < 0.5 else radii:
        x, y = rng.uniform(-20, SIDE + 20, 2)
        _shape(rng, draw, x, y, float(radius), _colour(rng))
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)


def _regular(rng: np.random.Generator) -> Tensor:
    """Stripes, checks or tiles between two colours."""
    t = 2 * math.pi * np.arange(SIDE) / SIDE
    kx, ky = rng.integers(-16, 17), rng.integers(1, 17)
    bend = rng.uniform(0, 0.6) * _noise(rng, 2.0)[0]
    if rng.random() < 0.5:
        wave = np.sin(kx * t[None] + ky * t[:, None] + bend)
    else:
        wave = np.sin(kx * t[None] + bend) * np.sin(ky * t[:, None] + bend)
    paint = 0.5 + 0.5 * np.tanh(rng.uniform(0.5, 4) * wave)
    first, second = (np.reshape(_colour(rng), (3, 1, 1)) / 255 for _ in range(2))
    return torch.from_numpy((first + paint * (second - first)).astype(np.float32))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Mostly grey, as colours of photographs are."""
    colour = rng.uniform(10, 245) + rng.normal(0, rng.choice((6, 25, 60)), 3)
    red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
    return red, green, blue


def _shape(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    radius: float,
    fill: int | tuple[int, int, int],
) -> None:
    """An ellipse, a box or a polygon."""
    kind = rng.integers(3)
    if kind == 0:
        a, b = radius * rng.uniform(0.35, 1, 2)
        draw.ellipse((x - a, y - b, x + a, y + b), fill)
        return
    corners = 4 if kind == 1 else int(rng.integers(3, 10))
    turns = np.sort(rng.uniform(0, 1, corners)) if kind == 2 else np.array((0.1, 0.4, 0.6, 0.9))
    angles = 2 * math.pi * (turns + rng.uniform())
    reach = radius * (rng.uniform(0.4, 1, corners) if kind == 2 else np.full(4, 1.0))
    points = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1)
    draw.polygon([tuple(point) for point in points.tolist()], fill)


def _silhouette(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """The outline of a thing that fills a square of ``side``: 0 or 1."""
    image = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(image)
    middle = side / 2
    kind = rng.integers(3)
    if kind == 0:
        _shape(rng, draw, middle, middle, 0.48 * side, 255)
    elif kind == 1:  # a body with limbs and a head
        a, b = side * rng.uniform(0.1, 0.22), side * rng.uniform(0.2, 0.3)
        draw.ellipse((middle - a, middle - b, middle + a, middle + b), 255)
        for _ in range(rng.integers(2, 6)):
            x, y = middle + side * rng.uniform(-0.46, 0.46, 2)
            width = max(1, int(side * rng.uniform(0.05, 0.14)))
            draw.line((middle, middle + rng.uniform(-b, b), x, y), 255, width)
        head, top = side * rng.uniform(0.06, 0.14), middle - b
        draw.ellipse((middle - head, top - head, middle + head, top + head), 255)
    else:  # several parts
        for _ in range(rng.integers(2, 6)):
            x, y = middle + side * rng.uniform(-0.25, 0.25, 2)
            _shape(rng, draw, x, y, side * rng.uniform(0.12, 0.25), 255)
    if rng.random() < 0.5:
        image = image.rotate(float(rng.uniform(0, 360)), Image.Resampling.NEAREST)
    return np.asarray(image, np.float32) / np.float32(255)
