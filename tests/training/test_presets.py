"""The presets, and which of them a machine and a data set get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smnet.data.annotations.read import read_clips
from smnet.data.clips import ClipSet
from smnet.errors import UserError
from smnet.models import VideoModel, multiply_adds, parameter_count
from smnet.models.registry import new_model
from smnet.recipes.presets import PRESETS
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training import presets as presets_module
from smnet.training.presets import choose_preset, seconds_per_clip
from tests.conftest import TINY


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_costs_are_those_of_the_recipe(preset: Any) -> None:
    recipe = read_recipe(preset.name)
    with torch.device("meta"):
        model = new_model(recipe.model, 10, recipe.segments, recipe.options)
    assert multiply_adds(model, size=recipe.size) / 1e9 == pytest.approx(preset.gmac, rel=0.05)
    assert 4 * parameter_count(model) / 1e6 == pytest.approx(preset.megabytes, rel=0.05)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds per clip by side of the crop; ImageNet weights are at hand."""
    seconds = {"64": 0.01, "112": 0.03, "112 resnet50": 0.5, "224 resnet50": 2.0}

    def speed(recipe: Recipe, clips: ClipSet) -> float:
        kind = " resnet50" if recipe.model.endswith("resnet50") else ""
        return seconds[f"{recipe.size}{kind}"]

    monkeypatch.setattr(presets_module, "seconds_per_clip", speed)
    monkeypatch.setattr(presets_module, "start_from", lambda model, weights, **_: "")
    monkeypatch.setattr(presets_module, "build_model", lambda *_: None)  # a large one takes long
    monkeypatch.setattr(presets_module, "needs_temporal_weights", lambda *_: False)
    return seconds


@pytest.mark.parametrize(
    ("minutes", "name"),
    [(0.1, "nano"), (1.0, "small"), (3.0, "medium"), (20.0, "large")],
)
def test_the_largest_that_fits(
    clips: Path, machine: dict[str, float], minutes: float, name: str
) -> None:
    # 9 training and 6 validation clips: 11 clips a pass
    recipe, lines = choose_preset(["lr=0.5"], {"data": str(clips)}, minutes)
    assert recipe == read_recipe(name, ["lr=0.5"], {"data": str(clips)})
    assert f"preset {name}: " in "\n".join(lines)


def test_given_epochs_must_fit_too(clips: Path, machine: dict[str, float]) -> None:
    data = {"data": str(clips)}
    assert choose_preset(["epochs=400"], data, 3.0)[0].size == 112
    assert choose_preset(["epochs=2"], data, 3.0)[0].size == 224


def test_without_start_weights_the_large_ones_are_left_out(
    clips: Path, machine: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, lines = choose_preset(["weights=none"], {"data": str(clips)}, 20.0)
    assert recipe.model == "smnet_resnet18"
    assert "medium is left out" in lines[-2]

    def offline(model: VideoModel, weights: str, **_: object) -> str:
        if weights == "imagenet":
            raise UserError("cannot download it; put the file there")
        return ""

    monkeypatch.setattr(presets_module, "start_from", offline)
    recipe, lines = choose_preset([], {"data": str(clips)}, 20.0)
    assert recipe.size == 112
    assert lines[-1] == "preset large is left out: cannot download it; put the file there"


def test_weights_that_fit_no_preset(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file of weights"):
        choose_preset([f"weights={tmp_path / 'x.pth'}"], {"data": str(clips)}, 1.0)


def test_a_speed_is_measured(clips: Path) -> None:
    assert 0 < seconds_per_clip(Recipe(**TINY), read_clips(str(clips))) < 10
