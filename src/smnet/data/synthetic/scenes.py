"""Draw the scenes of the data set ``motion``, whose classes are directions of motion.

The classes follow Something-Something (Goyal et al., 2017): actions on arbitrary objects, in pairs
that differ only by the direction of time. A clip of the second class of a pair is a clip of the
first with its frames reversed. Everything else (background, camera, distractors, light, noise,
pace) has a distribution that reversal does not change. So neither a frame nor an unordered set of
frames distinguishes the two: a model that averages over frames scores 1/2 within a pair.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Object:
    """One object of a scene. Lengths are in sides of the frame, angles in radians, y downwards."""

    x: Floats  # (T,)
    y: Floats
    radius: Floats
    angle: Floats  # grows clockwise as seen
    turnable: bool = False  # its outline must show its angle


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise ``UserError`` unless ``value`` is a whole number from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"motion: {name}={value!r}; give a whole number from {low} to {high}")


def check_size(size: object) -> None:
    """Raise ``UserError`` unless ``size`` can be the side of a clip: even, 32 to 256 pixels."""
    check_whole("size", size, 32, 256)
    if isinstance(size, int) and size % 2:
        raise UserError(f"motion: size={size} is odd; H.264 needs an even size, use {size + 1}")


# --- Tracks of objects. Mirroring in time, left-right or up-down maps the distribution of each to
# --- itself or to the opposite action.


def _progress(rng: np.random.Generator, frames: int) -> Floats:
    """0 -> 1 over the clip, (T,): a pause, an eased rise, a pause.

    ``s(t)`` and ``1 - s(1 - t)`` have the same distribution: both pauses are drawn alike, the ease
    is odd about its middle, and the skew is symmetric.
    """
    before, after = rng.uniform(0.0, 0.2, 2)
    t = np.clip((np.linspace(0, 1, frames) - before) / (1 - before - after), 0, 1)
    t = t + rng.uniform(-0.4, 0.4) * t * (1 - t)
    ease = rng.uniform(1.0, 1.8)
    return (t**ease / (t**ease + (1 - t) ** ease)).astype(np.float32)


def _wander(rng: np.random.Generator, frames: int, reach: float) -> Floats:
    """A random track around 0 without a direction of time, (T,): a drift and a sway."""
    t = np.linspace(-0.5, 0.5, frames)
    drift, sway = rng.uniform(-reach, reach), rng.uniform(0, 0.4 * reach)
    phase = 2 * math.pi * (rng.uniform(0.5, 2.0) * t + rng.uniform())
    return (drift * t + sway * np.sin(phase)).astype(np.float32)


def _object(
    rng: np.random.Generator,
    frames: int,
    x: float | Floats,
    y: float | Floats,
    radius: float | Floats,
    angle: Floats | None = None,
    loose: float = 0.08,
) -> _Object:
    """An object on the given track that also sways, grows and tilts a little."""
    tilt = rng.uniform(0, 2 * math.pi) + (_wander(rng, frames, 0.4) if angle is None else angle)
    return _Object(
        x=np.asarray(x + _wander(rng, frames, loose), np.float32),
        y=np.asarray(y + _wander(rng, frames, loose), np.float32),
        radius=np.asarray(radius * np.exp(_wander(rng, frames, 0.15)), np.float32),
        angle=np.asarray(tilt, np.float32),
        turnable=angle is not None,
    )


def _across(rng: np.random.Generator, frames: int) -> tuple[Floats, float, float]:
    """One coordinate that crosses the frame, (T,), the other that stays, and a radius."""
    way = 0.5 + rng.uniform(-0.1, 0.1) + rng.uniform(0.45, 0.65) * (_progress(rng, frames) - 0.5)
    return np.asarray(way, np.float32), rng.uniform(0.25, 0.75), rng.uniform(0.13, 0.19)


def _left_to_right(rng: np.random.Generator, frames: int) -> list[_Object]:
    x, y, radius = _across(rng, frames)
    return [_object(rng, frames, x, y, radius)]


def _down(rng: np.random.Generator, frames: int) -> list[_Object]:
    y, x, radius = _across(rng, frames)
    return [_object(rng, frames, x, y, radius)]


def _towards(rng: np.random.Generator, frames: int) -> list[_Object]:
    far, growth = rng.uniform(0.07, 0.10), rng.uniform(2.5, 3.2)
    x, y = rng.uniform(0.35, 0.65, 2)
    return [_object(rng, frames, x, y, far * growth ** _progress(rng, frames))]


def _apart(rng: np.random.Generator, frames: int) -> list[_Object]:
    near, far = rng.uniform(0.16, 0.22), rng.uniform(0.55, 0.75)
    half = (near + (far - near) * _progress(rng, frames)) / 2
    x, y = rng.uniform(0.4, 0.6, 2)
    axis = rng.uniform(0, 2 * math.pi)
    ends = ((x + s * half * math.cos(axis), y + s * half * math.sin(axis)) for s in (-1, 1))
    return [_object(rng, frames, ex, ey, rng.uniform(0.09, 0.13)) for ex, ey in ends]


def _clockwise(rng: np.random.Generator, frames: int) -> list[_Object]:
    # Slow enough that eight frames of a clip show the direction.
    angle = rng.uniform(1.4, 2.6) * _progress(rng, frames)
    x, y = rng.uniform(0.35, 0.65, 2)
    return [_object(rng, frames, x, y, rng.uniform(0.25, 0.33), angle=angle)]


def _distractor(rng: np.random.Generator, frames: int) -> _Object:
    x, y = rng.uniform(0.1, 0.9, 2)
    return _object(rng, frames, x, y, rng.uniform(0.035, 0.06), loose=0.2)


_Action = Callable[[np.random.Generator, int], list[_Object]]
# name -> (action, whether it is reversed). In alphabetical order, in which readers of class folders
# number the classes.
_ACTIONS: dict[str, tuple[_Action, bool]] = {
    "Moving something away from the camera": (_towards, True),
    "Moving something down": (_down, False),
    "Moving something from left to right": (_left_to_right, False),
    "Moving something from right to left": (_left_to_right, True),
    "Moving something towards the camera": (_towards, False),
    "Moving something up": (_down, True),
    "Moving two things apart": (_apart, False),
    "Moving two things together": (_apart, True),
    "Turning something clockwise": (_clockwise, False),
    "Turning something counterclockwise": (_clockwise, True),
}
MOTION_CLASSES: tuple[str, ...] = tuple(_ACTIONS)
MOTION_PAIRS: tuple[tuple[int, int], ...] = tuple(
    (label, other)
    for label, (action, backwards) in enumerate(_ACTIONS.values())
    for other, partner in enumerate(_ACTIONS.values())
    if partner == (action, True) and not backwards
)
"""Labels ``(forwards, backwards)`` of classes that are time reversals of each other."""


# --- Paint: textures and outlines.


def _cloud(rng: np.random.Generator, side: int, grain: float) -> Floats:
    """Periodic smooth noise, (side, side), mean 0, standard deviation 1; ``grain`` in texels."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    spectrum = np.fft.rfft2(rng.standard_normal((side, side)))
    noise = np.fft.irfft2(spectrum * np.exp(-2 * (math.pi * grain) ** 2 * (fx**2 + fy**2)))
    noise -= noise.mean()
    return np.asarray(noise / (noise.std() + 1e-9), np.float32)


def _texture(rng: np.random.Generator, side: int, waves: int) -> Floats:
    """A periodic pattern, (side, side) in [0, 1]; ``waves`` is the maximum number of changes."""
    kind = rng.integers(4)
    cloud = _cloud(rng, side, side / (3 * waves))
    if kind == 0:
        return np.asarray(np.clip(0.5 + 0.3 * cloud, 0, 1), np.float32)
    if kind == 1:  # blobs
        return np.asarray(0.5 + 0.5 * np.tanh(4 * cloud), np.float32)
    t = 2 * math.pi * np.arange(side) / side
    if kind == 2:  # stripes
        kx, ky = rng.integers(-waves, waves + 1), rng.integers(1, waves + 1)
        wave = np.sin(kx * t[None] + ky * t[:, None] + 0.5 * cloud)
    else:  # checks
        kx, ky = rng.integers(1, waves + 1, 2)
        wave = np.sin(kx * t[None] + 0.2 * cloud) * np.sin(ky * t[:, None] + 0.2 * cloud)
    return np.asarray(0.5 + 0.5 * np.tanh(3 * wave), np.float32)


def _sample(texture: Floats, x: Floats, y: Floats) -> Floats:
    """Sample ``texture`` at (x, y) in texels, bilinear and periodic; ``x`` and ``y`` are (T, h, w).

    A few frames at a time: arrays beyond the allocator's heap are new pages in every step, which
    cost six times the arithmetic.
    """
    result = np.empty_like(x)
    block = 1 + 16384 // x[0].size
    for start in range(0, len(x), block):
        part = slice(start, start + block)
        result[part] = _sample_block(texture, x[part], y[part])
    return result


def _sample_block(texture: Floats, x: Floats, y: Floats) -> Floats:
    side = texture.shape[0]  # a power of two, so `& (side - 1)` wraps
    x, y = x + 64 * side, y + 64 * side  # above 0, where the cast to integers is the floor
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, below = x - column.astype(np.float32), y - row.astype(np.float32)
    c0, c1 = column & (side - 1), (column + 1) & (side - 1)
    r0, r1 = (row & (side - 1)) * side, ((row + 1) & (side - 1)) * side
    upper, lower = texture.take(r0 + c0), texture.take(r1 + c0)
    upper += right * (texture.take(r0 + c1) - upper)
    lower += right * (texture.take(r1 + c1) - lower)
    upper += below * (lower - upper)
    return upper


def _colours(rng: np.random.Generator, saturation: float, contrast: float) -> tuple[Floats, Floats]:
    """Two RGB colours (3, 1, 1) in [0, 255] with different hue and a lightness ``contrast``."""
    hue, middle = rng.uniform(), rng.uniform(0.55, 0.65)
    pair = []
    for sign in rng.permutation((-1, 1)):
        value = middle + sign * contrast / 2
        rgb = colorsys.hsv_to_rgb(hue % 1, saturation * rng.uniform(0.6, 1), value)
        pair.append(np.asarray(rgb, np.float32).reshape(3, 1, 1) * 255)
        hue += rng.uniform(0.1, 0.5)
    return pair[0], pair[1]


_Outline = Callable[[Floats, Floats], NDArray[np.floating]]


def _outline(rng: np.random.Generator, turnable: bool) -> _Outline:
    """A shape: maps (u, v) in radii to the approximate distance to its edge, negative inside."""
    if turnable:
        return _pointing_outline(rng)
    kind = rng.integers(5)
    if kind == 0:  # box
        across, along = rng.uniform(0.4, 0.65), rng.uniform(0.75, 0.9)
        return lambda u, v: np.maximum(np.abs(u) - across, np.abs(v) - along)
    if kind == 1:  # star
        points, depth = int(rng.integers(3, 6)), rng.uniform(0.2, 0.35)
        return lambda u, v: np.hypot(u, v) - (1 - depth) - depth * np.cos(points * np.arctan2(v, u))
    if kind == 2:  # blob: long and asymmetric
        phase = rng.uniform(0, 2 * math.pi)
        return lambda u, v: (
            np.hypot(u, v)
            - 0.7
            - 0.2 * np.cos(2 * np.arctan2(v, u))
            - 0.1 * np.cos(3 * np.arctan2(v, u) + phase)
        )
    if kind == 3:  # disc
        return lambda u, v: np.hypot(u, v) - 0.9
    return lambda u, v: np.abs(np.hypot(u, v) - 0.68) - 0.27  # ring


def _pointing_outline(rng: np.random.Generator) -> _Outline:
    """A shape whose outline shows its angle: long, or cut off on one side."""
    if rng.random() < 0.5:
        across, along = rng.uniform(0.25, 0.4), rng.uniform(0.8, 0.95)
        return lambda u, v: np.maximum(np.abs(u) - across, np.abs(v) - along)
    cut = rng.uniform(-0.1, 0.2)
    return lambda u, v: np.maximum(np.hypot(u, v) - 0.95, u - cut)


# --- Pictures.


def _paint_background(rng: np.random.Generator, shake: Floats, size: int) -> Floats:
    """(T, 3, size, size): a textured plane under a camera that pans, turns and zooms at random."""
    frames = shake.shape[1]
    texture = _texture(rng, 128, int(rng.integers(4, 9)))
    dark, light = _colours(rng, saturation=0.45, contrast=rng.uniform(0.1, 0.4))
    pan_x, pan_y = _wander(rng, frames, 0.15), _wander(rng, frames, 0.15)
    turn = rng.uniform(0, 2 * math.pi) + _wander(rng, frames, 0.15)
    texels = 96 * np.exp(_wander(rng, frames, 0.1))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x = grid[None, None, :] - (pan_x + shake[0])[:, None, None]
    y = grid[None, :, None] - (pan_y + shake[1])[:, None, None]
    cosine, sine = ((texels * f(turn))[:, None, None] for f in (np.cos, np.sin))
    paint = _sample(texture, x * cosine - y * sine, x * sine + y * cosine)
    return dark + paint[:, None] * (light - dark)


def _paint_object(rng: np.random.Generator, drawn: _Object, canvas: Floats, shake: Floats) -> None:
    """Draw an object into ``canvas`` (T, 3, size, size) in place, within its moving window."""
    size = canvas.shape[3]
    outline = _outline(rng, drawn.turnable)
    texture = _texture(rng, 64, 3)
    dark, light = _colours(rng, saturation=1.0, contrast=0.55)
    x, y = (drawn.x + shake[0]) * size, (drawn.y + shake[1]) * size
    window = min(size, math.ceil(2.2 * float(drawn.radius.max()) * size) + 2)
    # Moved back into the frame, the window still covers every visible part of the object.
    left, top = (np.clip(c - window / 2, 0, size - window).astype(np.int32) for c in (x, y))
    pixel = np.arange(window, dtype=np.float32) + 0.5
    scale = (1 / (drawn.radius * size))[:, None, None]
    dx = (left[:, None] + pixel - x[:, None])[:, None, :] * scale
    dy = (top[:, None] + pixel - y[:, None])[:, :, None] * scale
    cosine, sine = np.cos(drawn.angle)[:, None, None], np.sin(drawn.angle)[:, None, None]
    u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
    distance = outline(u, v)
    cover = np.clip(0.5 - distance / scale, 0, 1)[:, None]
    paint = _sample(texture, 32 * u, 32 * v)[:, None]
    rim = np.clip(1 + distance / 0.2, 0, 1)[:, None]
    colour = (dark + paint * (light - dark)) * (1 - 0.6 * rim)
    for frame, (row, column) in enumerate(zip(top.tolist(), left.tolist(), strict=True)):
        patch = canvas[frame, :, row : row + window, column : column + window]
        patch += cover[frame] * (colour[frame] - patch)


def draw_clip(
    label: int, rng: np.random.Generator, *, size: int = 96, frames: int | None = None
) -> NDArray[np.uint8]:
    """Draw one clip of class ``MOTION_CLASSES[label]``.

    With the same state of ``rng``, the two classes of a pair give the same frames in reverse order.

    Args:
        label: 0 <= label < len(MOTION_CLASSES).
        rng: the only source of randomness.
        size: side of the square frames in pixels, even, 32 to 256.
        frames: number of frames, 8 to 120; None draws a number from 24 to 36.

    Returns:
        (T, size, size, 3) uint8 RGB.

    Raises:
        UserError: a parameter is out of range.
    """
    check_whole("label", label, 0, len(MOTION_CLASSES) - 1)
    check_size(size)
    if frames is None:
        frames = int(rng.integers(24, 37))
    check_whole("frames", frames, 8, 120)

    action, backwards = _ACTIONS[MOTION_CLASSES[label]]
    shake = rng.normal(0, 0.004, (2, frames)).astype(np.float32)
    clip = _paint(rng, action(rng, frames), shake, size)
    return np.ascontiguousarray(clip[::-1] if backwards else clip)


def draw_pause(rng: np.random.Generator, *, size: int = 96, frames: int = 24) -> NDArray[np.uint8]:
    """Draw a scene in which none of the actions happens: background and small objects that drift.

    Returns:
        (frames, size, size, 3) uint8 RGB.
    """
    shake = rng.normal(0, 0.004, (2, frames)).astype(np.float32)
    return _paint(rng, [], shake, size)


def _paint(
    rng: np.random.Generator, objects: list[_Object], shake: Floats, size: int
) -> NDArray[np.uint8]:
    """The frames (T, size, size, 3) of some objects among others before a background."""
    frames = int(shake.shape[1])
    objects = objects + [_distractor(rng, frames) for _ in range(rng.integers(1, 4))]
    canvas = _paint_background(rng, shake, size)
    for index in rng.permutation(len(objects)):
        _paint_object(rng, objects[index], canvas, shake)
    light = 1 + _wander(rng, frames, 0.15) + rng.normal(0, 0.015, frames).astype(np.float32)
    canvas *= light[:, None, None, None]
    noise = rng.standard_normal((frames, 1, size, size), dtype=np.float32)
    canvas += np.float32(rng.uniform(1, 5)) * noise
    canvas += 0.5
    clip = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(clip)
