"""Augmentation on the device: what the operations do, and that a clip stays one clip."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from smnet.data.loading.transforms import normalise
from smnet.errors import UserError
from smnet.recipes.keys import RANDAUGMENT_OPERATIONS, Recipe, parse_randaugment
from smnet.training.augment import Augmentation, RandAugment
from smnet.training.loop import train
from tests.conftest import tiny
from tests.training.test_state import assert_same_run, stop_after
from tests.videos import moving_frames

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NAMES = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


def needs_kornia() -> None:
    pytest.importorskip("kornia", reason="the extra augment is not installed")


def clips(count: int = 3, frames: int = 4, still: bool = False) -> Tensor:
    """(count, frames, 3, 24, 32) uint8."""
    films = [moving_frames(frames, 32, 24, seed=k) for k in range(count)]
    batch = torch.from_numpy(np.stack(films)).permute(0, 1, 4, 2, 3).contiguous()
    return batch[:, :1].expand(-1, frames, -1, -1, -1).contiguous() if still else batch


def augmented(batch: Tensor, seed: int = 0, **keys: Any) -> Tensor:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    return Augmentation(Recipe(**keys))(batch, MEAN, STD, generator)


ON: list[dict[str, Any]] = [
    {"jitter": 0.4},
    {"randaugment": "m7-n4"},
    {"randaugment": "m9.5-n2"},
    {"erase": 1.0},
    {"jitter": 0.8, "randaugment": "m5-n1", "erase": 0.5},
]


def test_nothing_on_is_normalisation_and_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    batch = clips()
    before = batch.clone()
    assert torch.equal(augmented(batch), normalise(batch, MEAN, STD))
    assert torch.equal(batch, before)
    assert Augmentation(Recipe()).note == ""


@pytest.mark.parametrize("keys", ON)
def test_every_frame_of_a_clip_alike_and_every_clip_another(keys: dict[str, Any]) -> None:
    needs_kornia()
    batch = clips(4, still=True)
    batch[:] = batch[:1]  # four times the same clip
    before = batch.clone()
    plain = normalise(batch, MEAN, STD)
    different = 0
    for seed in range(4):
        done = augmented(batch, seed, **keys)
        assert done.shape == batch.shape
        assert done.dtype == torch.float32
        assert torch.isfinite(done).all()
        assert torch.allclose(done, done[:, :1].expand_as(done), atol=1e-5)
        different += len({clip.numpy().tobytes() for clip in done})
    assert torch.equal(batch, before)
    assert not torch.equal(done, plain)
    assert different >= 12  # of 16; identity and erasing at 0.5 leave some alike


@pytest.mark.parametrize("keys", ON)
def test_the_generators_decide_everything(keys: dict[str, Any]) -> None:
    needs_kornia()
    batch = clips()
    assert torch.equal(augmented(batch, 3, **keys), augmented(batch, 3, **keys))
    assert not torch.equal(augmented(batch, 3, **keys), augmented(batch, 4, **keys))


def test_a_moving_clip_does_not_flicker_by_equalisation() -> None:
    """One grey value is mapped to one grey value on all frames, also where their histograms
    differ."""
    needs_kornia()
    batch = torch.full((1, 2, 3, 8, 8), 100, dtype=torch.uint8)
    batch[0, 1, :, :4] = 200
    for number in (1, 2, 6, 7):
        operation = RandAugment(9, 1).operations[number]
        done = operation(batch.float() / 255, torch.tensor([0.9]))
        assert torch.allclose(done[0, 0, :, -1], done[0, 1, :, -1]), NAMES[number]


def picture(number: int = 5) -> Image.Image:
    return Image.fromarray(moving_frames(1, 64, 48, seed=number)[0])


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda p, s: p,
    "autocontrast": lambda p, s: ImageOps.autocontrast(p),
    "equalize": lambda p, s: ImageOps.equalize(p),
    "rotate": lambda p, s: p.rotate(30 * s, Image.Resampling.BILINEAR),
    "solarize": lambda p, s: ImageOps.solarize(p, int(256 * (1 - abs(s)))),
    "color": lambda p, s: ImageEnhance.Color(p).enhance(1 + 0.9 * s),
    "posterize": lambda p, s: ImageOps.posterize(p, 8 - round(4 * abs(s))),
    "contrast": lambda p, s: ImageEnhance.Contrast(p).enhance(1 + 0.9 * s),
    "brightness": lambda p, s: ImageEnhance.Brightness(p).enhance(1 + 0.9 * s),
    "sharpness": lambda p, s: ImageEnhance.Sharpness(p).enhance(1 + 0.9 * s),
    "translate_x": lambda p, s: p.transform(
        p.size, Image.Transform.AFFINE, (1, 0, -0.45 * s * p.width, 0, 1, 0)
    ),
    "translate_y": lambda p, s: p.transform(
        p.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -0.45 * s * p.height)
    ),
}


@pytest.mark.parametrize("strength", [0.7, -0.7])
@pytest.mark.parametrize("name", PILLOW)
def test_operations_are_those_of_pillow(name: str, strength: float) -> None:
    """The paper's operations are Pillow's; ours agree to a few grey levels on most pixels."""
    needs_kornia()
    source = picture()
    batch = torch.from_numpy(np.asarray(source).copy()).permute(2, 0, 1)[None, None].float() / 255
    operation = RandAugment(7, 1).operations[NAMES.index(name)]
    ours = 255 * operation(batch, torch.tensor([strength])).clamp(0, 1)[0, 0].permute(1, 2, 0)
    theirs = np.asarray(PILLOW[name](source, strength)).astype(float)
    apart = np.abs(ours.numpy() - theirs)
    assert np.median(apart) <= 2
    assert np.mean(apart <= 6) > 0.9
    if name != "identity":
        assert np.abs(255 * batch[0, 0].permute(1, 2, 0).numpy() - theirs).mean() > 1


@pytest.mark.parametrize(("name", "axis"), [("shear_x", 3), ("shear_y", 2)])
def test_shear_moves_along_its_axis(name: str, axis: int) -> None:
    needs_kornia()
    line = torch.zeros(1, 1, 3, 33, 33)
    line[..., 16, :] = 1  # the row in the middle stays what shear along x leaves as it is
    line = line if axis == 3 else line.transpose(3, 4)
    operation = RandAugment(9, 1).operations[NAMES.index(name)]
    done = operation(line, torch.tensor([0.9]))
    assert torch.allclose(done[..., 10:23, 10:23], line[..., 10:23, 10:23], atol=0.02)
    across = line.transpose(3, 4)
    assert (operation(across, torch.tensor([0.9])) - across).abs().max() > 0.5


def test_every_operation_is_drawn_and_they_are_as_many_as_said() -> None:
    needs_kornia()
    policy = RandAugment(5, 3)
    assert len(policy.operations) == RANDAUGMENT_OPERATIONS == len(NAMES)
    drawn: list[tuple[int, float]] = []

    def note(number: int) -> Callable[[Tensor, Tensor], Tensor]:
        def operation(batch: Tensor, strengths: Tensor) -> Tensor:
            drawn.extend((number, float(s)) for s in strengths)
            return batch + 0.001 * (number + 1)

        return operation

    policy.operations = [note(k) for k in range(RANDAUGMENT_OPERATIONS)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        policy(torch.zeros(20, 1, 3, 2, 2), generator)
    assert len(drawn) == 10 * 20 * 3
    assert {number for number, _ in drawn} == set(range(RANDAUGMENT_OPERATIONS))
    assert {strength for _, strength in drawn} == {0.5, -0.5}
    counts = [sum(number == k for number, _ in drawn) for k in range(RANDAUGMENT_OPERATIONS)]
    assert max(counts) < 3 * min(counts)


def test_what_is_erased_has_the_mean_colour() -> None:
    needs_kornia()
    batch = clips()
    plain, done = normalise(batch, MEAN, STD), augmented(batch, erase=1.0)
    erased = (done != plain).any(2)
    assert (done.movedim(2, -1)[erased] == 0).all()
    assert torch.equal(done.movedim(2, -1)[~erased], plain.movedim(2, -1)[~erased])
    share = erased.float().mean((1, 2, 3))
    assert (share > 0.01).all()
    assert (share < 0.4).all()


# --- The recipe.


def test_policies() -> None:
    assert parse_randaugment("") is None
    assert parse_randaugment("m7-n4") == (7.0, 4)
    assert parse_randaugment("m0.5-n14") == (0.5, 14)


@pytest.mark.parametrize("policy", ["m7", "n4", "m7n4", "m0-n1", "m10-n1", "m7-n0", "m7-n15", "x"])
def test_policies_that_are_none(policy: str) -> None:
    with pytest.raises(UserError, match="randaugment=") as caught:
        tiny(randaugment=policy)
    assert "such as m7-n4" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keys", ON)
def test_without_kornia_it_is_said_before_anything_is_written(
    keys: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    data: Path = request.getfixturevalue("clips")
    for name in [n for n in sys.modules if n.partition(".")[0] == "kornia"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(UserError, match=r"needs kornia.*pip install 'smnet-video\[augment\]'"):
        train(tiny(data, **keys), tmp_path / "r")
    assert not list(tmp_path.iterdir())


def test_an_augmented_run_goes_on_bit_for_bit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    said: io.StringIO,
) -> None:
    needs_kornia()
    data: Path = request.getfixturevalue("clips")
    keys: dict[str, Any] = {"jitter": 0.4, "randaugment": "m7-n2", "erase": 0.5, "mixup": 0.3}
    recipe = tiny(data, **keys, dropout=0.3, ema=0.8)
    assert train(recipe, tmp_path / "whole").finished
    assert "augmentation: jitter 0.4, randaugment m7-n2, erase 0.5" in said.getvalue()
    with monkeypatch.context() as patch:
        stop_after(patch, 2, signal.SIGTERM)  # inside the first epoch
        assert not train(recipe, tmp_path / "parts").finished
    torch.manual_seed(99)
    assert train(recipe, tmp_path / "parts", resume=True).finished
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert train(tiny(data, dropout=0.3, ema=0.8), tmp_path / "plain").finished
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "whole", tmp_path / "plain")
