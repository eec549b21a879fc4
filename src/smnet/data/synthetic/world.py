"""The drawn world of the network ``motion``: basic motions under hard domain randomisation.

Clips are drawn as tensors, at the frames that a model reads, and never encoded. Six kinds of motion
are drawn (to the right, towards the camera, clockwise, apart, still, shaking). Mirroring,
transposing and reversing them in time gives the twelve classes, see :data:`SYMMETRIES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from smnet.data.sampling.rules import sample
from smnet.data.synthetic.film import film
from smnet.data.synthetic.layers import Floats, Layer, compose, sway
from smnet.data.synthetic.textures import draw_cutout, draw_texture

BASIC_MOTIONS = (
    "apart",
    "away",
    "clockwise",
    "counterclockwise",
    "down",
    "left",
    "right",
    "shaking",
    "still",
    "together",
    "towards",
    "up",
)
"""Class names. Directions are those of the picture; clockwise is as seen."""


def draw_world_clip(
    rng: np.random.Generator,
    textures: list[Tensor],
    *,
    segments: int = 8,
    frames_per_segment: int = 5,
    side: int = 64,
    plain: bool = False,
) -> tuple[Tensor, int]:
    """Draw one clip of a random kind of motion.

    Args:
        rng: the only source of randomness.
        textures: pictures of :func:`smnet.data.synthetic.textures.draw_texture`.
        segments, frames_per_segment: the frames that the model reads, by the rule ``uniform``.
        side: of the square frames, pixels.
        plain: a short video without other things, a shaking camera or the traces of a lens, a
            sensor and an encoder, for the beginning of training.

    Returns:
        (T*L, 3, side, side) uint8 and the index of its class in :data:`BASIC_MOTIONS`. The classes
        are ``right``, ``towards``, ``clockwise``, ``apart``, ``still`` and ``shaking``, each as
        often as its symmetries ask.
    """
    name = str(rng.choice(list(_KINDS), p=[share / 12 for share, _ in _KINDS.values()]))
    count = int(np.exp(rng.uniform(math.log(10), math.log(48 if plain else 240))))
    frames = sample(
        count,
        segments,
        mode="train" if rng.random() < 0.5 else "test",
        frames_per_segment=frames_per_segment,
        rng=rng,
    )[0]
    if not plain and rng.random() < 0.1:  # a film at a higher rate than it was filmed at
        frames = frames // (repeats := int(rng.integers(2, 4))) * repeats
    layers = _KINDS[name][1](_Scene(rng, count, textures, plain))
    if not plain:
        layers = _held_by_hand(rng, layers, calm=name in ("still", "shaking"))
    clip = compose([layer.at(frames) for layer in layers], side)
    if not plain:
        clip = film(rng, clip, frames_per_segment)
    return clip.mul_(255).round_().to(torch.uint8), BASIC_MOTIONS.index(name)


def draw_textures(rng: np.random.Generator, count: int) -> list[Tensor]:
    """Some textures for :func:`draw_world_clip`."""
    return [draw_texture(rng) for _ in range(count)]


# --- symmetries --------------------------------------------------------------------------------


def _permutation(*pairs: tuple[str, str]) -> tuple[int, ...]:
    exchange = dict(pairs) | {b: a for a, b in pairs}
    return tuple(BASIC_MOTIONS.index(exchange.get(name, name)) for name in BASIC_MOTIONS)


_TURN = ("clockwise", "counterclockwise")
SYMMETRIES: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "mirror": (_permutation(("left", "right"), _TURN), lambda clip: clip.flip(-1)),
    "flip": (_permutation(("up", "down"), _TURN), lambda clip: clip.flip(-2)),
    "transpose": (
        _permutation(("left", "up"), ("right", "down"), _TURN),
        lambda clip: clip.transpose(-1, -2),
    ),
    "reverse": (
        _permutation(
            ("left", "right"), ("up", "down"), ("towards", "away"), ("apart", "together"), _TURN
        ),
        lambda clip: clip.flip(0),
    ),
}
"""The new label of each class, and the change of a clip (T*L, 3, H, W)."""


def random_symmetry(rng: np.random.Generator, clip: Tensor, label: int) -> tuple[Tensor, int]:
    """Each symmetry with probability 1/2: all classes become equally likely."""
    for labels, change in SYMMETRIES.values():
        if rng.random() < 0.5:
            clip, label = change(clip), labels[label]
    return clip, label


# --- tracks ------------------------------------------------------------------------------------


def _progress(rng: np.random.Generator, frames: int) -> Floats:
    """0 -> 1, (n,): a pause, a rise with a random ease and skew, a pause."""
    before, after = rng.uniform(0, 0.3, 2) * rng.integers(0, 2, 2)
    t = np.clip((np.linspace(0, 1, frames) - before) / (1 - before - after), 0, 1)
    t = t + rng.uniform(-0.4, 0.4) * t * (1 - t)
    ease = rng.uniform(1.0, 1.8)
    return (t**ease / (t**ease + (1 - t) ** ease)).astype(np.float32)


def _tremble(rng: np.random.Generator, frames: int, reach: float) -> Floats:
    """A fast movement to and fro, (n,), with a deviation of ``reach``."""
    cycles = min(rng.uniform(3, 16), frames / 3)
    t = np.linspace(0, 1, frames)
    wave = np.sin(2 * math.pi * (cycles * t + rng.uniform()) + rng.uniform(0, 2) * np.sin(9 * t))
    if rng.random() < 0.5:
        rough = rng.standard_normal(frames + 2)
        wave = 0.5 * wave + rng.uniform(0.3, 1) * (rough[:-2] + rough[1:-1] + rough[2:]) / 1.7
    wave = wave / (wave.std() + 1e-6)
    if rng.random() < 0.4:  # it starts or ends within the clip
        wave = wave * (_progress(rng, frames) if rng.random() < 0.5 else 1 - _progress(rng, frames))
    return (reach * wave).astype(np.float32)


@dataclass(frozen=True)
class _Scene:
    """What the kinds of motion are drawn with: ``frames`` is the number of frames of the video."""

    rng: np.random.Generator
    frames: int
    textures: list[Tensor]
    plain: bool

    def progress(self) -> Floats:
        return _progress(self.rng, self.frames)

    def texture(self) -> Tensor:
        return self.textures[self.rng.integers(len(self.textures))]

    def background(self) -> Layer:
        rng, zero = self.rng, np.zeros(self.frames, np.float32)
        return Layer(
            self.texture(),
            x=zero + rng.uniform(-1, 1),
            y=zero + rng.uniform(-1, 1),
            size=zero + rng.uniform(1.3, 2.6),
            angle=zero + rng.uniform(0, 2 * math.pi),
        )

    def thing(
        self,
        size: float,
        x: float | Floats = 0.0,
        y: float | Floats = 0.0,
        growth: float | Floats = 1.0,
        angle: float | Floats | None = None,
        loose: float = 0.06,
    ) -> Layer:
        """A cut-out of half side ``size`` on a track, which sways a little."""
        rng, frames = self.rng, self.frames
        texels = int(np.clip(2.4 * 64 * size * np.sqrt(np.mean(growth)), 10, 96))
        turn = rng.uniform(0, 2 * math.pi)
        own = sway(rng, frames, 5 * loose) if angle is None else angle
        zero = np.zeros(frames, np.float32)
        return Layer(
            draw_cutout(rng, self.texture(), texels),
            x=np.asarray(zero + x + sway(rng, frames, loose), np.float32),
            y=np.asarray(zero + y + sway(rng, frames, loose), np.float32),
            size=np.asarray(size * growth * np.exp(sway(rng, frames, 2 * loose)), np.float32),
            angle=np.asarray(turn + own + zero, np.float32),
            wave=rng.uniform(0, 0.2) if rng.random() < 0.25 else 0.0,
        )

    def others(self, size: float, reach: float) -> list[Layer]:
        """Smaller things that stand, sway or tremble less than the motion of the clip."""
        rng, layers = self.rng, []
        for _ in range(0 if self.plain else rng.integers(0, 4)):
            x, y = rng.uniform(-0.5, 0.5, 2)
            if rng.random() < 0.3:
                x = x + _tremble(rng, self.frames, reach / 8)
            loose = rng.uniform(0, reach / 3)
            layers.append(self.thing(size * rng.uniform(0.3, 0.8), x, y, loose=loose))
        return layers

    def shuffled(self, layers: list[Layer]) -> list[Layer]:
        """In random order from back to front."""
        return [layers[i] for i in self.rng.permutation(len(layers))]


# --- kinds of motion ---------------------------------------------------------------------------


def _right(scene: _Scene) -> list[Layer]:
    rng, back = scene.rng, scene.background()
    way, slope = rng.uniform(0.25, 1.1), math.tan(rng.uniform(-0.4, 0.4))
    rise = scene.progress() - 0.5
    x = way * rise
    y = slope * x + rng.uniform(-0.1, 0.1) * np.sin(math.pi * rise * rng.uniform(1, 3))
    if rng.random() < 0.3:  # the whole picture moves, and what stands in it moves along
        depth, along = rng.uniform(0.8, 1.5), scene.others(rng.uniform(0.1, 0.4), 0.1)
        along = [replace(a, x=a.x + depth * x, y=a.y + depth * y) for a in along]
        return [replace(back, x=back.x + x, y=back.y + y), *along]
    size = rng.uniform(0.09, 0.4)
    x, y = x + rng.uniform(-0.2, 0.2), y + rng.uniform(-0.3, 0.3)
    things = [scene.thing(size, x, y), *scene.others(size, way)]
    if rng.random() < 0.2:  # a second one goes along
        ahead, aside = rng.uniform(-0.4, 0.4, 2)
        things.append(scene.thing(size, x + ahead, y + aside))
    return [back, *scene.shuffled(things)]


def _towards(scene: _Scene) -> list[Layer]:
    rng, back, rise = scene.rng, scene.background(), scene.progress()
    x, y = rng.uniform(-0.2, 0.2, 2)
    if rng.random() < 0.35:  # zoom, about a point of the picture
        growth = rng.uniform(1.3, 2.8) ** (rise - 0.5)
        return [
            replace(a, size=a.size * growth, x=x + (a.x - x) * growth, y=y + (a.y - y) * growth)
            for a in (back, *scene.others(rng.uniform(0.1, 0.3), 0.1))
        ]
    size, full = rng.uniform(0.06, 0.2), rng.uniform(1.7, 4.0)
    mover = scene.thing(size, x, y, full**rise)
    return [back, *scene.shuffled([mover, *scene.others(size, 0.2)])]


def _clockwise(scene: _Scene) -> list[Layer]:
    rng, back, rise = scene.rng, scene.background(), scene.progress()
    x, y = rng.uniform(-0.2, 0.2, 2)
    if rng.random() < 0.35:  # the camera turns about a point of the picture
        turn = rng.uniform(0.4, 2.6) * (rise - 0.5)
        near = scene.others(rng.uniform(0.1, 0.3), 0.1)
        return [_turned(layer, turn, x, y) for layer in (back, *near)]
    turn = rng.uniform(0.8, 4.5) * rise
    if rng.random() < 0.15:  # on a circle
        size, radius = rng.uniform(0.08, 0.16), rng.uniform(0.15, 0.3)
        mover = scene.thing(size, x + radius, y, loose=0.02)
        mover = _turned(mover, rng.uniform(0, 6.3) + 1.3 * turn, x, y)
    else:
        size = rng.uniform(0.18, 0.42)
        mover = scene.thing(size, x, y, angle=turn)
    return [back, *scene.shuffled([mover, *scene.others(size, 0.2)])]


def _turned(layer: Layer, turn: Floats, x: float, y: float) -> Layer:
    """Turned clockwise about the point (x, y)."""
    dx, dy, cosine, sine = layer.x - x, layer.y - y, np.cos(turn), np.sin(turn)
    return replace(
        layer,
        x=np.asarray(x + dx * cosine - dy * sine, np.float32),
        y=np.asarray(y + dx * sine + dy * cosine, np.float32),
        angle=layer.angle + turn,
    )


def _apart(scene: _Scene) -> list[Layer]:
    rng, back = scene.rng, scene.background()
    size = rng.uniform(0.08, 0.24)
    half = rng.uniform(0.5, 1.3) * size + rng.uniform(0.12, 0.4) * scene.progress()
    x, y = rng.uniform(-0.15, 0.15, 2)
    axis = rng.uniform(0, 2 * math.pi)
    dx, dy = half * math.cos(axis), half * math.sin(axis)
    ends = [
        scene.thing(size * rng.uniform(0.8, 1.2), x + sign * dx, y + sign * dy) for sign in (-1, 1)
    ]
    return [back, *scene.shuffled([*ends, *scene.others(size, 0.2)])]


def _still(scene: _Scene) -> list[Layer]:
    rng, layers = scene.rng, [scene.background()]
    for _ in range(rng.integers(0, 5)):
        x, y = rng.uniform(-0.5, 0.5, 2)
        thing = scene.thing(rng.uniform(0.05, 0.35), x, y, loose=0)
        layers.append(replace(thing, wave=0.0))
    return layers


def _shaking(scene: _Scene) -> list[Layer]:
    rng, frames, layers = scene.rng, scene.frames, _still(scene)
    reach, axis = rng.uniform(0.02, 0.09), rng.uniform(0, 2 * math.pi)
    x = math.cos(axis) * _tremble(rng, frames, reach)
    y = math.sin(axis) * _tremble(rng, frames, reach)
    if rng.random() < 0.4:  # the camera
        return [replace(layer, x=layer.x + x, y=layer.y + y) for layer in layers]
    x, y = x + rng.uniform(-0.3, 0.3), y + rng.uniform(-0.3, 0.3)
    turn = _tremble(rng, frames, rng.uniform(0, 0.5)) if rng.random() < 0.5 else 0.0
    return [*layers, scene.thing(rng.uniform(0.1, 0.4), x, y, angle=turn)]


# The share of a kind, in twelfths, is the number of classes that its symmetries give.
_KINDS: dict[str, tuple[int, Callable[[_Scene], list[Layer]]]] = {
    "right": (4, _right),
    "towards": (2, _towards),
    "clockwise": (2, _clockwise),
    "apart": (2, _apart),
    "still": (1, _still),
    "shaking": (1, _shaking),
}


# --- camera ---------------------------------------------------------------------------


def _held_by_hand(rng: np.random.Generator, layers: list[Layer], calm: bool) -> list[Layer]:
    """A camera that trembles and, unless it is ``calm``, drifts."""
    count = len(layers[0].x)
    unsteady = rng.choice((0, 0.003, 0.004 if calm else 0.012), p=(0.4, 0.3, 0.3))
    drift = 0.0 if calm else rng.choice((0, 0.04, 0.12), p=(0.4, 0.3, 0.3))
    smooth = int(rng.integers(1, 6))
    kernel = np.ones(smooth) / math.sqrt(smooth)
    dx, dy = (
        np.convolve(rng.normal(0, unsteady, count + smooth - 1), kernel, "valid")
        + sway(rng, count, drift)
        for _ in range(2)
    )
    return [
        replace(
            layer,
            x=np.asarray(layer.x + dx, np.float32),
            y=np.asarray(layer.y + dy, np.float32),
        )
        for layer in layers
    ]
