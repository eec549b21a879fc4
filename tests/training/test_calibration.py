"""Calibration at the end of a run, and clips with several labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smnet.checkpoints.file import load, read_checkpoint, save_checkpoint
from smnet.data.annotations.read import read_clips
from smnet.evaluation.calibration import at_temperature, calibrate
from smnet.inference.backends import plan_views
from smnet.inference.torch_backend import TorchBackend
from smnet.models.base import probabilities
from smnet.models.spec import Decision, ModelSpec
from smnet.recipes.recipe import Recipe
from smnet.training import loop, setup
from smnet.training.loop import train
from smnet.training.loss import Loss
from tests.conftest import tiny


def test_the_best_checkpoint_is_calibrated(run: Path) -> None:
    best = read_checkpoint(run)
    found = best.metrics["calibration"]
    assert found["clips"] == 6
    assert best.spec.decision == Decision()  # six clips are too few


def test_many_clips_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.ones(3), 200)
    labels = np.array([rng.choice(3, p=p) for p in true])
    scores = true**3 / (true**3).sum(1, keepdims=True)  # logits three times too large
    found = calibrate(scores, np.eye(3, dtype=bool)[labels])
    assert found.decision.temperature == pytest.approx(3, rel=0.3)
    assert found.error_after < found.error_before
    assert found.threshold is not None
    assert found.decision.unknown_below == found.threshold.value > 0
    few = calibrate(scores[:19], np.eye(3, dtype=bool)[labels[:19]])
    assert few.decision == Decision()
    assert "19 held-out clips are too few (20 are needed)" in str(few)


def test_the_backend_gives_tempered_scores(run: Path, clips: Path) -> None:
    clip = str(next((clips / "val" / "rising").iterdir()))
    tempered, plain = (TorchBackend(load(run), "cpu") for _ in range(2))
    tempered.model.spec = replace(plain.spec, decision=Decision(2.5))
    views = tempered.read(clip, plan_views(tempered))[None]
    expected = at_temperature(plain.score(views), 2.5)
    assert np.allclose(tempered.score(views), expected, atol=1e-6)


def test_scores_of_several_labels_are_independent() -> None:
    spec = ModelSpec("x", 3, several=True, decision=Decision(2.0))
    logits = torch.tensor([[2.0, -2.0, 0.0]])
    assert torch.allclose(probabilities(logits, spec), torch.sigmoid(logits / 2))


def test_the_loss_of_several_labels() -> None:
    logits, targets = torch.randn(4, 3), (torch.rand(4, 3) < 0.5).float()
    found = Loss(tiny(), [0, 1, 2], 3, torch.device("cpu"), several=True)(logits, targets)
    p = logits.sigmoid()
    naive = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum(1).mean()
    assert float(found) == pytest.approx(float(naive), rel=1e-5)


@pytest.mark.slow
def test_a_run_with_several_labels(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every clip is also "resting", which is thus always answered."""

    def read(recipe: Recipe) -> object:
        found = read_clips(str(clips))
        splits = {
            name: [replace(c, labels=tuple(dict.fromkeys((c.label, 1)))) for c in side]
            for name, side in found.splits.items()
        }
        return replace(found, splits=splits)

    monkeypatch.setattr(loop, "read_training_clips", read)
    monkeypatch.setattr(setup, "read_training_clips", read)
    outcome = train(tiny(clips, epochs=4), tmp_path / "run")
    best = read_checkpoint(tmp_path / "run")
    assert best.spec.several
    assert best.spec.decision.thresholds is None  # too few clips
    assert best.metrics["val"]["map"] > 0.5
    assert outcome.held_out is not None
    assert outcome.held_out.answered[:, 1].all()
    again = train(tiny(clips, epochs=4), tmp_path / "run", resume=True)  # nothing is left to do
    assert again.held_out is not None
    assert np.allclose(again.held_out.scores, outcome.held_out.scores, atol=1e-5)


def test_a_checkpoint_with_a_decision_survives_its_file(run: Path, tmp_path: Path) -> None:
    best = read_checkpoint(run)
    decision = Decision(1.5, 0.25, (0.1, 0.2, 0.3))
    file = tmp_path / "c.safetensors"
    save_checkpoint(file, replace(best, spec=replace(best.spec, decision=decision, several=True)))
    spec = read_checkpoint(file).spec
    assert (spec.decision, spec.several) == (decision, True)
