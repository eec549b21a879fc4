"""The drawn world: tracks do what the classes say, symmetries keep labels true."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from smnet.data.synthetic.film import compress, film, keep_blocks
from smnet.data.synthetic.layers import Floats, Layer, compose
from smnet.data.synthetic.textures import SIDE, draw_cutout, draw_texture
from smnet.data.synthetic.world import (
    _KINDS,
    BASIC_MOTIONS,
    SYMMETRIES,
    draw_textures,
    draw_world_clip,
    random_symmetry,
)


@pytest.fixture(scope="module")
def textures() -> list[Tensor]:
    return draw_textures(np.random.default_rng(0), 4)


def spot(**tracks: list[float]) -> Tensor:
    """A grey plane, and on it a thing with a bright spot right of its middle: (n, 3, 32, 32)."""
    frames = len(next(iter(tracks.values())))
    rest = {"x": [0.0], "y": [0.0], "size": [0.5], "angle": [0.0]} | tracks
    track: dict[str, Floats] = {
        key: np.resize(np.asarray(value, np.float32), frames) for key, value in rest.items()
    }
    thing = torch.zeros(4, 32, 32)
    thing[:, 12:20, 24:32] = 1
    still = np.zeros(frames, np.float32)
    plane = Layer(torch.zeros(3, 8, 8), still, still, still + 1, still)
    return compose([plane, Layer(thing, **track)], 32)


def centre(picture: Tensor) -> tuple[float, float]:
    """Column and row of the mean of a picture (3, 32, 32), from its middle."""
    weight = picture.mean(0)
    pixel = torch.arange(32) - 15.5
    total = weight.sum()
    return float((weight.sum(0) * pixel).sum() / total), float(
        (weight.sum(1) * pixel).sum() / total
    )


def test_x_grows_to_the_right_and_y_downwards() -> None:
    first, second = spot(x=[-0.4, 0.0], y=[-0.1, 0.2])
    assert centre(second)[0] - centre(first)[0] == pytest.approx(0.4 * 32, abs=0.5)
    assert centre(second)[1] - centre(first)[1] == pytest.approx(0.3 * 32, abs=0.5)


def test_the_angle_grows_clockwise() -> None:
    right, below = spot(angle=[0.0, np.pi / 2])
    assert centre(right) == pytest.approx((12, 0), abs=0.7)
    assert centre(below) == pytest.approx((0, 12), abs=0.7)


def test_the_size_grows_towards_the_camera() -> None:
    far, near = spot(size=[0.25, 0.5])
    assert near.sum() == pytest.approx(4 * float(far.sum()), rel=0.1)


@pytest.mark.parametrize("name", SYMMETRIES)
def test_a_symmetry_is_its_own_inverse(name: str) -> None:
    labels, change = SYMMETRIES[name]
    clip = torch.rand(5, 3, 4, 4)
    assert torch.equal(change(change(clip)), clip)
    assert [labels[labels[k]] for k in range(12)] == list(range(12))


def test_each_kind_is_drawn_as_often_as_it_gives_classes() -> None:
    reached: set[str] = set()
    for name, (share, _) in _KINDS.items():
        orbit = {BASIC_MOTIONS.index(name)}
        for _ in range(4):
            orbit |= {labels[k] for labels, _ in SYMMETRIES.values() for k in orbit}
        assert len(orbit) == share
        reached |= {BASIC_MOTIONS[k] for k in orbit}
    assert reached == set(BASIC_MOTIONS)


@pytest.mark.parametrize(
    ("name", "becomes", "moved"),
    [
        ("mirror", "left", [-13, 0]),
        ("flip", "right", [13, 0]),
        ("transpose", "down", [0, 13]),
        ("reverse", "left", [-13, 0]),
    ],
)
def test_labels_follow_the_picture(name: str, becomes: str, moved: list[int]) -> None:
    labels, change = SYMMETRIES[name]
    assert BASIC_MOTIONS[labels[BASIC_MOTIONS.index("right")]] == becomes
    first, second = change(spot(x=[-0.4, 0.0]))
    assert np.subtract(centre(second), centre(first)).round().tolist() == moved


@pytest.mark.parametrize("plain", [True, False])
def test_a_clip_depends_on_its_seed_alone(textures: list[Tensor], plain: bool) -> None:
    clips = [
        draw_world_clip(np.random.default_rng(3), textures, segments=2, side=48, plain=plain)
        for _ in range(2)
    ]
    assert clips[0][1] == clips[1][1]
    assert torch.equal(clips[0][0], clips[1][0])
    assert clips[0][0].shape == (10, 3, 48, 48)
    assert clips[0][0].dtype == torch.uint8


@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_is_drawn(
    kind: str, textures: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smnet.data.synthetic.world._KINDS", {kind: (12, _KINDS[kind][1])})
    rng = np.random.default_rng(1)
    for _ in range(3):
        clip, label = draw_world_clip(rng, textures, segments=2, frames_per_segment=2, side=48)
        assert BASIC_MOTIONS[label] == kind
        assert clip.float().std() > 1


def test_symmetries_make_all_classes() -> None:
    rng = np.random.default_rng(0)
    clip = torch.zeros(2, 3, 4, 4)
    kinds = [BASIC_MOTIONS.index(name) for name in _KINDS]
    labels = {random_symmetry(rng, clip, kinds[k % 6])[1] for k in range(200)}
    assert labels == set(range(12))


def test_textures_and_cutouts_are_pictures() -> None:
    rng = np.random.default_rng(2)
    for _ in range(6):
        texture = draw_texture(rng)
        assert texture.shape == (3, SIDE, SIDE)
        assert 0 <= texture.min() < texture.max() <= 1
        cutout = draw_cutout(rng, texture, 24)
        assert cutout.shape == (4, 24, 24)
        assert 0 < cutout[3].mean() < 1


def test_a_film_stays_in_range(textures: list[Tensor]) -> None:
    rng = np.random.default_rng(4)
    for _ in range(8):
        clip = film(rng, torch.rand(10, 3, 16, 16), adjacent=5)
        assert clip.shape == (10, 3, 16, 16)
        assert 0 <= clip.min() <= clip.max() <= 1


def test_compression_is_exact_in_the_limit_and_coarse_otherwise() -> None:
    clip = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(compress(clip, 8, 1e-6), clip, rtol=0, atol=1e-4)
    flat = compress(clip, 8, 10.0)
    assert flat.unfold(2, 8, 8).unfold(3, 8, 8).std((-1, -2)).max() < 1e-5


def test_blocks_that_hardly_change_are_repeated() -> None:
    clip = torch.zeros(4, 3, 8, 8)
    clip[1] = 0.001
    clip[3, :, 4:, 4:] = 1
    kept = keep_blocks(clip, 2, 0.01)
    assert torch.equal(kept[1], clip[0])
    assert torch.equal(kept[3], clip[3])
