"""A run trains, resumes, is evaluated and predicts on every device."""

from __future__ import annotations

from pathlib import Path

import torch

from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.inference.recognizer import Recognizer
from smnet.training.loop import train
from tests.conftest import tiny


def test_train_resume_evaluate_predict(clips: Path, tmp_path: Path, device: torch.device) -> None:
    folder, recipe = tmp_path / "run", tiny(clips, device=device.type, epochs=2)
    assert train(recipe, folder).finished
    assert train(recipe, folder, resume=True).finished
    result = evaluate_checkpoints([folder], str(clips), device=device.type, workers=0)
    assert result is not None
    clip = clips / "val" / "rising" / "0.mp4"
    prediction = Recognizer.load(folder, device.type).predict(clip)
    assert prediction.label in result.classes
