"""Runs that end with a training on all clips."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smnet.checkpoints.file import read_checkpoint
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.recipes.recipe import Recipe
from smnet.training import log as log_module
from smnet.training.budget import check_retrain
from smnet.training.calibration import MEASURED
from smnet.training.retrain import AGAIN, train_to_end
from smnet.training.setup import store_recipe, stored_recipe
from tests.conftest import Called, tiny, write_clips

ALONE = Processes(torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of five clips, without splits."""
    root = tmp_path_factory.mktemp("undivided")
    write_clips(root, {"": 5})
    return root


def recipe(folder: Path, **changes: Any) -> Recipe:
    return tiny(folder, **{"retrain": "on", "groups": "off", **changes})


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("retrained") / "run"
    outcome = train_to_end(recipe(folder), run)
    assert outcome.finished
    assert outcome.checkpoint == run / "best.safetensors"
    return run


def test_the_result_is_trained_on_all_clips(done: Path) -> None:
    best, measured = (read_checkpoint(done / name) for name in ("best.safetensors", MEASURED))
    whole = read_checkpoint(done / AGAIN / "last.safetensors")
    assert [one.metrics["data"]["train"] for one in (measured, whole)] == [12, 15]
    assert best.metrics == {**measured.metrics, "trained_on_all": True}
    assert best.recipe == measured.recipe
    assert best.spec == replace(whole.spec, decision=measured.spec.decision)
    for name, tensor in whole.tensors.items():
        assert torch.equal(best.tensors[name], tensor)
    assert not torch.equal(best.tensors["fc.weight"], measured.tensors["fc.weight"])


def test_a_finished_run_is_not_trained_again(folder: Path, done: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in done.rglob("*.safetensors")}
    again = train_to_end(stored_recipe(done), done, resume=True)
    assert {p: p.stat().st_mtime_ns for p in done.rglob("*.safetensors")} == before
    # its result is that of the measured network, which has not seen the clips
    result = evaluate_checkpoints([str(done / MEASURED)], str(folder), workers=0)
    assert result is not None
    assert again.held_out is not None
    np.testing.assert_allclose(again.held_out.scores, result.scores, atol=1e-5)


def test_evaluate_says_that_the_clips_were_seen(
    folder: Path, done: Path, said: io.StringIO
) -> None:
    evaluate_checkpoints([str(done / "best.safetensors")], str(folder), workers=0)
    assert "trained on all clips of its data set, perhaps on these" in said.getvalue()


def test_an_interrupted_second_run_is_resumed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, run, steps = log_module.RunLog.step, tmp_path / "run", []

    def step(self: Any, epoch: int, number: int, note: str) -> None:
        plain(self, epoch, number, note)
        steps.append(number)
        if steps[-2:] == [1, 2] and len(steps) > 8:  # the first run has eight
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(log_module.RunLog, "step", step)
    outcome = train_to_end(recipe(folder), run)
    assert not outcome.finished
    assert outcome.stop_requested
    assert not (run / MEASURED).exists()
    monkeypatch.setattr(log_module.RunLog, "step", plain)
    assert train_to_end(stored_recipe(run), run, resume=True).finished
    assert read_checkpoint(run / "best.safetensors").metrics["trained_on_all"]
    assert stored_recipe(run / AGAIN).epochs == 2


def test_time_that_has_run_out(folder: Path, tmp_path: Path) -> None:
    """A second run that does not fit is left out, and the measured network stays."""
    given = recipe(folder, minutes=1e-4)
    outcome = train_to_end(given, tmp_path / "run")
    assert outcome.finished
    assert stored_recipe(tmp_path / "run").retrain == "on"
    assert not (tmp_path / "run" / AGAIN).exists()
    assert "trained_on_all" not in read_checkpoint(outcome.checkpoint).metrics


def test_by_default_nothing_is_trained_again(folder: Path, tmp_path: Path) -> None:
    for k, value in enumerate(("off", "auto")):  # auto is for runs by minutes
        outcome = train_to_end(recipe(folder, retrain=value, epochs=1), tmp_path / str(k))
        assert outcome.finished
        assert not (tmp_path / str(k) / AGAIN).exists()


def test_where_it_cannot_be(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="retrain=on: no validation clips are drawn here"):
        train_to_end(recipe(clips), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    two = replace(ALONE, world=2)
    with pytest.raises(UserError, match="several processes train"):
        check_retrain(Recipe(retrain="on"), True, two)
    timed = Recipe(retrain="auto", minutes=10)
    assert check_retrain(timed, True, two).retrain == "off"
    assert check_retrain(timed, False, ALONE).retrain == "off"
    assert check_retrain(timed, True, ALONE) == timed


def test_the_verb_says_what_was_measured(
    folder: Path, tmp_path: Path, smnet: Callable[..., Called]
) -> None:
    store_recipe(tmp_path, recipe(folder, epochs=1, retrain="off"))
    run = tmp_path / "run"
    done = smnet("train", tmp_path / "recipe.yaml", "retrain=on", "--out", run, "--no-report")
    assert done.status == 0, done.err
    *_, measured, checkpoint = done.out.splitlines()
    assert measured.startswith(f"measured: {run / MEASURED}; ")
    assert checkpoint == f"checkpoint: {run / 'best.safetensors'}"
