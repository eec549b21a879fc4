"""The network that ships: small, known by name, and right on motion that it was not drawn with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import smnet
from smnet.checkpoints.header import checkpoint_file, read_header
from smnet.data.loading.transforms import normalise
from smnet.data.synthetic.world import (
    BASIC_MOTIONS,
    draw_textures,
    draw_world_clip,
    random_symmetry,
)
from smnet.models import create_model
from smnet.recipes.recipe import read_recipe
from smnet.training.start_weights import start_from
from tests.conftest import Called

torch.set_num_threads(1)


def test_it_is_part_of_the_package_and_small() -> None:
    path = checkpoint_file("motion")
    assert path.is_relative_to(Path(smnet.__file__).parent)
    assert path.stat().st_size < 4e6
    assert read_header("motion").spec.class_names == BASIC_MOTIONS


def test_it_starts_the_small_presets() -> None:
    for preset in ("nano", "small"):
        recipe = read_recipe(preset, ["data=clips"])
        model = create_model(recipe.model, 3, recipe.segments, **recipe.options)
        assert start_from(model, "motion") == (
            "weights: smnet_resnet18 from motion; the classifier is new"
        )


def test_it_names_drawn_motion() -> None:
    """The floor is far below its accuracy; a damaged file is at 1/12."""
    rng, model = np.random.default_rng(99), smnet.load("motion")
    textures, right = draw_textures(rng, 6), 0
    for _ in range(20):
        clip, label = random_symmetry(rng, *draw_world_clip(rng, textures, plain=True))
        with torch.no_grad():
            scores = model(normalise(clip[None], model.spec.mean, model.spec.std))
        right += int(scores.argmax()) == label
    assert right >= 9


def noise_picture() -> NDArray[np.uint8]:
    """A coarse random picture, 240 x 320."""
    rng = np.random.default_rng(5)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 15, 20)).astype(np.float32))
    picture = torch.nn.functional.interpolate(coarse, (240, 320), mode="bicubic")[0]
    return picture.clamp(0, 255).byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("direction", ["left", "right", "up", "down"])
def test_it_names_the_direction_of_a_picture(direction: str) -> None:
    picture, frames = noise_picture(), []
    for t in range(40):
        step = 2 * t if direction in ("left", "up") else 2 * (39 - t)
        x, y = (step, 20) if direction in ("left", "right") else (20, step)
        frames.append(picture[y : y + 144, x : x + 192])
    assert smnet.Recognizer.load("motion", "cpu").predict(np.stack(frames)).label == direction


def test_predict_takes_its_name(smnet: Callable[..., Called], clips: Path) -> None:
    called = smnet("predict", "motion", clips / "val" / "rising" / "0.mp4", "--json")
    assert called.status == 0
    assert json.loads(called.out)["label"] in BASIC_MOTIONS
