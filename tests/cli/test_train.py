"""``smnet train``: presets, budgets and what excludes what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training import presets as presets_module
from tests.conftest import TINY, Called

Smnet = Callable[..., Called]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], float]]:
    """The keys and minutes for which a preset was chosen; it is the recipe of the tests."""
    calls: list[tuple[list[str], float]] = []

    def choose(keys: list[str], values: Any, minutes: float) -> tuple[Recipe, list[str]]:
        calls.append((keys, minutes))
        return read_recipe(None, keys, {**TINY, **values, "epochs": 1}), ["preset tiny: it fits"]

    monkeypatch.setattr(presets_module, "choose_preset", choose)
    return calls


def test_a_preset_is_announced_and_trained_for_ten_minutes(
    smnet: Smnet, clips: Path, tmp_path: Path, asked: list[tuple[list[str], float]]
) -> None:
    called = smnet("train", "--data", clips, "--out", tmp_path / "r", "epochs=1", "seed=3")
    assert called.status == 0, called
    assert asked == [(["epochs=1", "seed=3"], 10.0)]
    assert called.err.startswith("preset tiny: it fits\n")
    assert read_recipe(str(tmp_path / "r" / "recipe.yaml")).minutes == 0


def test_minutes_are_shared_by_folds(
    smnet: Smnet, clips: Path, tmp_path: Path, asked: list[tuple[list[str], float]]
) -> None:
    words = ("minutes=30", "folds=3", "patience=x")  # refused after the preset is chosen
    assert smnet("train", "--data", clips, "--out", tmp_path / "r", *words).status == 1
    assert asked == []
    smnet("train", "--data", clips, "--out", tmp_path / "r", "minutes=30", "folds=3", "fold=7")
    assert asked[0][1] == 10.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--minutes", "5", "epochs=3"), "--minutes decides the number of epochs"),
        (("minutes=5", "epochs=3"), "--minutes decides the number of epochs"),
        (("--resume", "x", "--minutes", "5"), "give nothing else"),
    ],
)
def test_what_excludes_what(smnet: Smnet, words: tuple[str, ...], message: str) -> None:
    called = smnet("train", *words)
    assert called.status == 1
    assert message in called.err


def test_several_processes_need_a_name(
    smnet: Smnet, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    called = smnet("train", "--data", clips)
    assert called.status == 1
    assert "several processes: name a preset, a recipe or a model" in called.err
