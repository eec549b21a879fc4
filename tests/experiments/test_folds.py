"""Cross-validation: every clip is scored once, by a model that has not seen it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.evaluation.results import Evaluation
from smnet.experiments import folds as folds_module
from smnet.experiments.folds import CrossValidation, cross_validate
from smnet.training.loop import Outcome, train
from tests.conftest import Called, tiny, write_clips


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four clips, without a split."""
    root = tmp_path_factory.mktemp("folds")
    return write_clips(root, {"clips": 4}, ("falling", "rising")) / "clips"


def test_folds_are_trained_resumed_and_put_together(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(data, folds=2, epochs=1, warmup=0.1)
    trained: list[tuple[int, bool]] = []

    def interrupted(own: Any, folder: Path, *, resume: bool) -> Outcome:
        trained.append((own.fold, resume))
        if len(trained) == 2:
            return Outcome(folder, False, None, 0, True)
        return train(own, folder, resume=resume)

    monkeypatch.setattr(folds_module, "train", interrupted)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "folds.json").write_text("{}")
    with pytest.raises(UserError, match=r"folds\.json: was not written by smnet"):
        cross_validate(recipe, tmp_path / "mine")
    assert cross_validate(recipe, tmp_path / "cv") is None
    with pytest.raises(UserError, match="contains a cross-validation already; resume it"):
        cross_validate(recipe, tmp_path / "cv")
    done = cross_validate(recipe, tmp_path / "cv", resume=True)
    assert trained == [(1, False), (2, False), (1, True), (2, False)]
    assert done is not None
    together = done.together
    assert sorted(together.paths) == sorted(str(path) for path in data.rglob("*.mp4"))
    assert np.isfinite(together.scores).all()
    stored = json.loads((tmp_path / "cv" / "folds.json").read_text())
    assert [fold["clips"] for fold in stored["folds"]] == [4, 4]
    assert stored["top1"] == pytest.approx(done.mean)
    lines = (tmp_path / "cv" / "predictions.csv").read_text().splitlines()
    assert lines[0].startswith("path,label,predicted,score:")
    assert len(lines) == 9
    # the checkpoint of a fold is evaluated on its own held-out clips
    again = evaluate_checkpoints([str(tmp_path / "cv" / "fold-2" / "last.safetensors")], str(data))
    assert again is not None
    assert again.paths == done.folds[1].paths


def test_the_mean_and_its_interval_by_hand() -> None:
    def fold(right: int, clips: int) -> Evaluation:
        scores = np.eye(2, dtype=np.float32)[[0] * right + [1] * (clips - right)]
        paths = tuple(map(str, range(clips)))
        return Evaluation(scores, np.zeros(clips, np.int64), ("a", "b"), paths, "1x1")

    done = CrossValidation((fold(4, 4), fold(2, 4), fold(1, 2)), (1.0, 1.0, 1.0))
    assert done.accuracies == [1.0, 0.5, 0.5]
    assert done.mean == pytest.approx(2 / 3)
    assert done.half_width == pytest.approx(4.30 * 0.288675 / 3**0.5, rel=1e-4)
    assert done.together.top(1).value == 0.7


def test_from_the_command_line(smnet: Callable[..., Called], data: Path, tmp_path: Path) -> None:
    words = "epochs=1 options.width=8 size=32 segments=2 weights=none workers=0 batch=2 device=cpu"
    called = smnet(
        *("train", "--data", data, "--out", tmp_path / "cv", "model=tsn_resnet18", "folds=2"),
        *words.split(),
    )
    assert called.status == 0, called
    assert "mean over 2 folds: " in called.out
    assert called.out.splitlines()[0].split() == ["fold", "clips", "top-1", "training"]
    again = smnet("train", "--resume", tmp_path / "cv")
    assert again.status == 0
    assert again.out.splitlines()[-2:] == called.out.splitlines()[-2:]
