"""Crops, by painted frames; mixing, by its shares."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from smnet.data.loading import crops as crops_module
from smnet.data.loading import views as views_module
from smnet.data.loading.crops import (
    MULTISCALE,
    MULTISCALE_POSITIONS,
    Box,
    centre_box,
    multiscale_box,
    resized_box,
)
from smnet.data.loading.transforms import mix_clips, normalise, scale_with_torch
from smnet.data.loading.views import Cropper, ViewPlan, read_views, scale_with_pillow
from smnet.errors import UserError

SIDES = st.integers(1, 700)
SEEDS = st.integers(0, 2**32)


def painted(height: int, width: int, count: int = 2) -> NDArray[np.uint8]:
    """Frames that tell where they were cut: red is the column, green the row, blue the frame."""
    frames = np.zeros((count, height, width, 3), dtype=np.uint8)
    frames[..., 0] = np.arange(width)[None, None]
    frames[..., 1] = np.arange(height)[None, :, None]
    frames[..., 2] = np.arange(count)[:, None, None]
    return frames


def crop_all(frames: NDArray[np.uint8], plan: ViewPlan, *random: Any) -> Tensor:
    """(T, H, W, 3) -> (crops, T, 3, side, side)."""
    cropper = Cropper(plan, *frames.shape[1:3], scale_with_torch, *random)
    views = cropper(list(frames)).swapaxes(0, 1)
    return torch.from_numpy(np.moveaxis(views, -1, 2).copy())


def train_view(
    frames: NDArray[np.uint8], size: int, crop: str, mirror: bool, rng: np.random.Generator
) -> Tensor:
    return crop_all(frames, ViewPlan(size=size, crop=crop, train=True), rng, mirror)


def protocol_views(frames: NDArray[np.uint8], size: int, short_side: int, crops: int) -> Tensor:
    return crop_all(frames, ViewPlan(size=size, short_side=short_side, crops=crops))


def place(view: Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a painted view (T, 3, h, w), by its first and last pixel."""
    (left, right), (top, bottom) = view[0, 0, 0, [0, -1]].tolist(), view[0, 1, [0, -1], 0].tolist()
    return top, left, bottom - top + 1, right - left + 1


def inside(box: Box, height: int, width: int) -> bool:
    return (
        box.top >= 0
        and box.left >= 0
        and box.height >= 1
        and box.width >= 1
        and box.top + box.height <= height
        and box.left + box.width <= width
    )


# --- Boxes.


@given(SIDES, SIDES, st.integers(16, 320), SEEDS)
def test_multiscale_stays_in_the_frame(height: int, width: int, size: int, seed: int) -> None:
    box = multiscale_box(height, width, size, np.random.default_rng(seed))
    assert inside(box, height, width)


@given(SIDES, SIDES, SEEDS)
def test_resized_stays_in_the_frame(height: int, width: int, seed: int) -> None:
    assert inside(resized_box(height, width, np.random.default_rng(seed)), height, width)


@given(SIDES, SIDES)
def test_the_centre_is_the_largest_square(height: int, width: int) -> None:
    box = centre_box(height, width)
    assert inside(box, height, width)
    assert box.height == box.width == min(height, width)
    assert abs((height - box.height) - 2 * box.top) <= 1
    assert abs((width - box.width) - 2 * box.left) <= 1


def test_multiscale_draws_the_sides_and_places_of_the_family() -> None:
    rng = np.random.default_rng(0)
    boxes = [multiscale_box(256, 340, 224, rng) for _ in range(4000)]
    sides = [256, 224, 192, 168]  # 1, 0.875, 0.75 and 0.66 of the short side
    assert [int(256 * scale) for scale in MULTISCALE] == sides
    pairs = Counter((box.height, box.width) for box in boxes)
    steps = {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    assert set(pairs) == steps
    assert max(pairs.values()) < 1.4 * min(pairs.values())
    places = Counter((b.top, b.left) for b in boxes if (b.height, b.width) == (168, 168))
    step_h, step_w = (256 - 168) // 4, (340 - 168) // 4
    assert set(places) == {(i * step_h, j * step_w) for i, j in MULTISCALE_POSITIONS}
    assert len(set(MULTISCALE_POSITIONS)) == 13


def test_multiscale_snaps_to_the_size_of_the_network() -> None:
    rng = np.random.default_rng(0)
    sides = {multiscale_box(258, 340, 224, rng).height for _ in range(300)}  # 0.875 of it is 225
    assert 224 in sides
    assert 225 not in sides
    # but never to a size that the frame does not have
    assert {multiscale_box(14, 14, 16, rng).height for _ in range(100)} == {14, 12, 10, 9}


def test_resized_draws_areas_and_ratios_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    boxes = [resized_box(300, 400, rng) for _ in range(2000)]
    areas = np.array([box.height * box.width for box in boxes]) / (300 * 400)
    ratios = np.array([box.width / box.height for box in boxes])
    assert 0.34 < areas.min() < 0.38
    assert 0.95 < areas.max() <= 1
    assert 0.74 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.35


@pytest.mark.parametrize(("height", "width"), [(10, 400), (400, 10)])
def test_resized_of_a_strip_keeps_an_allowed_ratio(height: int, width: int) -> None:
    box = resized_box(height, width, np.random.default_rng(0))
    assert inside(box, height, width)
    assert 0.7 < box.width / box.height < 1.4


# --- Views.


@pytest.mark.parametrize("crop", ["multiscale", "resized", "centre"])
@pytest.mark.parametrize("mirror", [False, True])
def test_all_frames_of_a_clip_are_cut_alike(crop: str, mirror: bool) -> None:
    frames = painted(120, 200, count=5)
    for seed in range(20):
        view = train_view(frames, 32, crop, mirror, np.random.default_rng(seed))
        assert view.shape == (1, 5, 3, 32, 32)
        assert view.dtype == torch.uint8
        assert (view[0, :, :2] == view[0, :1, :2]).all()
        assert view[0, :, 2, 0, 0].tolist() == [0, 1, 2, 3, 4]  # and stand in their order


@pytest.mark.parametrize("crop", ["multiscale", "resized", "centre"])
def test_a_mirror_turns_the_view_round(crop: str) -> None:
    frames = painted(120, 200)
    plain, turned = (
        train_view(frames, 32, crop, mirror, np.random.default_rng(3)) for mirror in (False, True)
    )
    assert torch.equal(plain.flip(-1), turned)
    assert plain[0, 0, 0, 0, 0] < plain[0, 0, 0, 0, -1]
    assert turned[0, 0, 0, 0, 0] > turned[0, 0, 0, 0, -1]


def test_the_crop_of_training_is_the_box_it_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops_module, "multiscale_box", lambda *_: Box(7, 21, 32, 32))
    view = train_view(painted(120, 200), 32, "multiscale", False, np.random.default_rng(0))
    assert place(view[0]) == (7, 21, 32, 32)


def test_random_crops_differ_between_clips() -> None:
    frames = painted(120, 200)
    views = {
        train_view(frames, 32, "multiscale", False, np.random.default_rng(seed)).sum().item()
        for seed in range(20)
    }
    assert len(views) > 10


@pytest.mark.parametrize(
    ("crops", "height", "width", "places"),
    [
        (1, 40, 60, [(4, 14, 32, 32)]),
        (1, 60, 40, [(14, 4, 32, 32)]),
        (1, 40, 41, [(4, 4, 32, 32)]),
        (3, 40, 60, [(0, 0, 40, 40), (0, 10, 40, 40), (0, 20, 40, 40)]),
        (3, 60, 40, [(0, 0, 40, 40), (10, 0, 40, 40), (20, 0, 40, 40)]),
        (3, 40, 40, [(0, 0, 40, 40)] * 3),
        (
            5,
            40,
            60,
            [(0, 0, 32, 32), (0, 28, 32, 32), (8, 0, 32, 32), (8, 28, 32, 32), (4, 14, 32, 32)],
        ),
        (
            5,
            60,
            40,
            [(0, 0, 32, 32), (0, 8, 32, 32), (28, 0, 32, 32), (28, 8, 32, 32), (14, 4, 32, 32)],
        ),
    ],
)
def test_protocol_crops_by_painted_frames(
    crops: int, height: int, width: int, places: list[tuple[int, int, int, int]]
) -> None:
    views = protocol_views(painted(height, width, count=3), size=32, short_side=40, crops=crops)
    assert [place(view) for view in views] == places
    assert all(view[:, 2, 0, 0].tolist() == [0, 1, 2] for view in views)


@pytest.mark.parametrize("crops", [1, 3, 5])
@given(height=st.integers(8, 300), width=st.integers(8, 300), size=st.integers(16, 40))
def test_protocol_views_have_their_size_whatever_the_frame(
    crops: int, height: int, width: int, size: int
) -> None:
    short_side = size + 5
    views = protocol_views(painted(height, width, 1), size, short_side, crops)
    side = short_side if crops == 3 else size
    assert views.shape == (crops, 1, 3, side, side)


def test_frames_are_scaled_to_the_short_side() -> None:
    (view,) = protocol_views(painted(80, 120, 1), size=32, short_side=40, crops=1)
    # half of everything: the centre of the view is the centre of the frame
    assert abs(view[0, 0].float().mean().item() - 59.5) < 1
    assert abs(view[0, 1].float().mean().item() - 39.5) < 1


@pytest.mark.parametrize("shape", [(30, 47), (100, 77), (64, 64)])
def test_scaling_is_pillows(shape: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    ours, theirs = scale_with_torch(frames, *shape), scale_with_pillow(frames, *shape)
    assert ours.shape == theirs.shape == (2, *shape, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("scale", [scale_with_torch, scale_with_pillow])
@pytest.mark.parametrize("crops", [1, 3, 5])
def test_views_do_not_depend_on_the_size_of_the_groups(
    scale: Any, crops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 40, 50, 3), dtype=np.uint8)
    plan = ViewPlan(segments=5, size=24, short_side=32, clips=2, crops=crops)
    together = read_views(frames, plan, scale)
    for limit in (1, 40_000):
        monkeypatch.setattr(views_module, "_GROUP_BYTES", limit)
        assert np.array_equal(read_views(frames, plan, scale), together)


def test_groups_are_of_bounded_size() -> None:
    assert Cropper(ViewPlan(), 64, 86, scale_with_pillow).group > 64
    assert Cropper(ViewPlan(), 2160, 3840, scale_with_pillow).group == 1
    assert Cropper(ViewPlan(), 16, 640, scale_with_pillow).group < 8  # 256x10240 when scaled


@pytest.mark.parametrize(("height", "width"), [(16384, 1), (1, 16384)])
def test_a_frame_too_narrow_to_scale_is_refused(height: int, width: int) -> None:
    with pytest.raises(UserError, match=f"frames of {width}x{height} pixels are too narrow"):
        Cropper(ViewPlan(), height, width, scale_with_pillow)
    train = Cropper(ViewPlan(train=True), height, width, scale_with_pillow, np.random.default_rng())
    assert train([np.zeros((height, width, 3), np.uint8)]).shape == (1, 1, 224, 224, 3)


def test_views_that_do_not_fit_into_memory_are_refused() -> None:
    assert ViewPlan(clips=10, crops=3, short_side=256).shape == (30, 8, 3, 256, 256)
    with pytest.raises(UserError, match="30 views of 1024 frames of 256x256 pixels take"):
        ViewPlan(clips=10, crops=3, segments=1024)


# --- On the device.


def test_normalise_by_hand() -> None:
    clips = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    values = normalise(clips, (0.5, 0.1, 0.0), (0.5, 0.1, 2.0))
    assert values.dtype == torch.float32
    assert values[0, :, 0, 0].tolist() == pytest.approx([-1.0, 1.0, 0.5])


def batch(count: int = 4, side: int = 8, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Clips whose every pixel is their number, and their labels one-hot."""
    clips = torch.arange(count).float().view(-1, 1, 1, 1, 1).expand(-1, 2, 3, side, side)
    return clips.contiguous(), torch.eye(classes)[:count]


def test_without_mixing_nothing_happens() -> None:
    clips, targets = batch()
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    mixed, soft = mix_clips(clips, targets, 0, 0, generator)
    assert mixed is clips
    assert soft is targets
    assert torch.equal(generator.get_state(), before)


def test_mixup_mixes_clips_and_targets_by_one_share() -> None:
    clips, targets = batch()
    shares = []
    for seed in range(50):
        mixed, soft = mix_clips(clips, targets, 0.4, 0, torch.Generator().manual_seed(seed))
        share = soft[0, 0].item()
        shares.append(share)
        assert torch.allclose(soft, share * targets + (1 - share) * targets.flip(0), atol=1e-6)
        assert torch.allclose(mixed, share * clips + (1 - share) * clips.flip(0), atol=1e-5)
        assert torch.allclose(soft.sum(1), torch.ones(4))
    assert 0.3 < np.mean(shares) < 0.7
    assert np.std(shares) > 0.2  # Beta(0.4, 0.4) has 0.37: mostly near one of the two


def test_cutmix_cuts_the_same_box_out_of_all_frames() -> None:
    clips, targets = batch(side=16)
    for seed in range(50):
        mixed, soft = mix_clips(clips, targets, 0, 1.0, torch.Generator().manual_seed(seed))
        foreign = mixed[0] == 3  # the first clip is nought, its partner three
        assert ((mixed[0] == 0) | foreign).all()
        assert (foreign == foreign[:1, :1]).all()
        rows, columns = torch.nonzero(foreign[0, 0], as_tuple=True)
        area = len(rows)
        if area:  # the pixels are one rectangle
            height, width = (int(x.max() - x.min()) + 1 for x in (rows, columns))
            assert height * width == area
        # targets follow the pixels that were really cut
        assert soft[0, 3].item() == pytest.approx(area / 256, abs=1e-6)
        assert soft[0, 0].item() == pytest.approx(1 - area / 256, abs=1e-6)
    assert torch.equal(clips, batch(side=16)[0])  # what came in is as it was


def test_both_take_turns() -> None:
    clips, targets = batch(side=16)
    generator = torch.Generator().manual_seed(0)
    cut = [
        set(mix_clips(clips, targets, 1, 1, generator)[0][0].unique().tolist()) <= {0, 3}
        for _ in range(200)
    ]
    assert 70 < sum(cut) < 130


def test_mixing_is_a_function_of_the_generator() -> None:
    clips, targets = batch()
    first, again = (
        mix_clips(clips, targets, 0.4, 0.4, torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize("alpha", [1e-4, 0.2, 1.0, 8.0])
def test_shares_of_any_alpha_are_shares(alpha: float) -> None:
    clips, targets = batch(2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        _, soft = mix_clips(clips, targets, alpha, 0, generator)
        assert torch.isfinite(soft).all()
        assert ((soft >= 0) & (soft <= 1)).all()
