"""A run of a given duration."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smnet.distributed import Processes
from smnet.models import VideoModel, create_model
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training import budget as budget_module
from smnet.training import loop as train_module
from smnet.training.budget import MOST_EPOCHS, fit_epochs, refit_epochs
from smnet.training.loop import train
from tests.conftest import tiny

ALONE = Processes(torch.device("cpu"))


class Loader:
    """Six batches."""

    def __len__(self) -> int:
        return 6


def fit(monkeypatch: pytest.MonkeyPatch, seconds: float, **keys: Any) -> tuple[Recipe, str]:
    monkeypatch.setattr(budget_module, "_seconds_per_batch", lambda *_: (seconds, 4))
    model = create_model("tsn_resnet18", 3, 2, width=8)
    recipe = Recipe(**{"minutes": 10, "batch": 8, "warmup": 2, "ema": 0.99, **keys})
    loader: Any = Loader()
    return fit_epochs(recipe, model, loader, 24, lambda *_: None, ALONE, time.monotonic() - 6)


def test_the_epochs_fill_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # 6 batches of 2 s, 24 clips of validation at a third of 2/8 s, and a little for the disk
    recipe, note = fit(monkeypatch, 2.0)
    assert recipe.epochs == int((0.95 * 600 - 6) / (12 + 2 + 0.01))
    assert recipe.warmup == 2
    assert recipe.ema == pytest.approx(1 - 10 / (6 * recipe.epochs))
    assert note.startswith("budget of 10 minutes: 40 epochs of 14.0 s (4.0 clips/s in 4 steps)")


def test_at_least_one_epoch_with_a_warmup_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, note = fit(monkeypatch, 500.0)
    assert (recipe.epochs, recipe.warmup, recipe.ema) == (1, 0.1, 0.0)
    assert note.endswith("one epoch takes longer than that")
    Recipe(**recipe.model_dump())  # a valid recipe


def test_half_of_the_time_is_for_all_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = fit(monkeypatch, 0.9)
    assert whole.epochs >= budget_module.RETRAIN_FROM
    half, note = fit(monkeypatch, 0.9, retrain="auto")
    assert (half.retrain, half.epochs) == ("on", whole.epochs // 2)
    assert note.endswith("; then as many on all clips")
    few, note = fit(monkeypatch, 2.0, retrain="auto")
    assert (few.retrain, few.epochs) == ("off", fit(monkeypatch, 2.0)[0].epochs)
    assert fit(monkeypatch, 2.0, retrain="on")[0].epochs == few.epochs // 2


def test_not_more_epochs_than_help(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, note = fit(monkeypatch, 0.001, ema=0.5)
    assert (recipe.epochs, recipe.ema) == (MOST_EPOCHS, 0.5)
    assert "are the most" in note


def test_a_run_by_minutes(
    clips: Path, tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measured epochs are part of the stored recipe; the measurement leaves no trace."""
    monkeypatch.setattr(budget_module, "MOST_EPOCHS", 2)
    outcome = train(tiny(clips, minutes=1, cache="auto"), tmp_path / "r")
    assert (outcome.finished, outcome.epoch) == (True, 2)
    text = said.getvalue()
    assert "cache: 15 of 15 clips in memory" in text
    assert "budget of 1 minutes: 2 epochs" in text
    stored = read_recipe(str(tmp_path / "r" / "recipe.yaml"))
    assert (stored.epochs, stored.minutes) == (2, 1)
    plain = tiny(clips, epochs=2, warmup=stored.warmup, ema=stored.ema)
    train(plain, tmp_path / "plain")
    one, other = (load_file(tmp_path / n / "last.safetensors") for n in ("r", "plain"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    measured: list[VideoModel] = []
    monkeypatch.setattr(budget_module, "fit_epochs", measured.append)
    assert train(stored, tmp_path / "r", resume=True).finished
    assert measured == []


def test_the_first_epoch_corrects_the_plan() -> None:
    plan = Recipe(minutes=10, epochs=99, warmup=2)
    recipe, note = refit_epochs(plan, time.monotonic() - 30, 21.0, ALONE)
    assert recipe.epochs == 1 + int((0.95 * 600 - 30) / 21)
    assert note == "budget: 26 epochs by the first, about 8:45 left"
    late, note = refit_epochs(plan, time.monotonic() - 600, 20.0, ALONE)
    assert note == "budget: it ends here, another epoch of 20.0 s does not fit"
    assert (late.epochs, late.warmup) == (1, 0.1)


def test_a_corrected_plan_is_stored_and_resumed(
    clips: Path, tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fitted(recipe: Recipe, *_: object) -> tuple[Recipe, str]:
        return recipe.model_copy(update={"epochs": 9}), "budget: 9"

    def corrected(recipe: Recipe, *_: object) -> tuple[Recipe, str]:
        return recipe.model_copy(update={"epochs": 2}), "budget: 2"

    monkeypatch.setattr(train_module, "fit_epochs", fitted)
    monkeypatch.setattr(train_module, "refit_epochs", corrected)
    outcome = train(tiny(clips, minutes=1), tmp_path / "r")
    assert (outcome.finished, outcome.epoch) == (True, 2)
    assert "epoch 1/2" in said.getvalue()
    stored = read_recipe(str(tmp_path / "r" / "recipe.yaml"))
    assert stored.epochs == 2
    longer = stored.model_copy(update={"epochs": 3})  # as if it had stopped before the correction
    assert train(longer, tmp_path / "r", resume=True).epoch == 3
