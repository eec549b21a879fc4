"""Predict and evaluate run one program: the same scores to the bit, and one read of the weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.checkpoints import header as header_module
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.export.export import export
from smnet.inference.recognizer import Recognizer
from smnet.training.loop import train
from tests.conftest import CLASSES, Called, class_frames, tiny
from tests.videos import write_video


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of other sizes than the model takes, so that their frames are scaled."""
    root = tmp_path_factory.mktemp("large")
    for label, name in enumerate(CLASSES):
        for split in ("train", "val"):
            (root / split / name).mkdir(parents=True)
            for k in range(3):
                frames = class_frames(label, k, size=32).repeat(3, axis=1).repeat(2, axis=2)
                write_video(root / split / name / f"{k}.mp4", frames[:, :90, :50])
    return root


@pytest.fixture(scope="module")
def exported(untrained: Path, torchlib: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    return export(untrained, tmp_path_factory.mktemp("exported") / "best.onnx").path


@pytest.mark.parametrize("views", ["1x1", "2x5"])
@pytest.mark.parametrize("kind", ["checkpoint", "exported"])
def test_scores_are_equal_bit_for_bit(
    run: Path, large: Path, kind: str, views: str, request: pytest.FixtureRequest
) -> None:
    path = run if kind == "checkpoint" else request.getfixturevalue("exported")
    measured = evaluate_checkpoints([str(path)], str(large), views=views, workers=0, device="cpu")
    assert measured is not None
    clips, crops = map(int, views.split("x"))
    recognizer = Recognizer.load(path, "cpu", (clips, crops))
    for k, prediction in enumerate(recognizer.predict_many(measured.paths)):
        by_name = dict(zip(prediction.labels, prediction.scores, strict=True))
        row = np.array([by_name[name] for name in measured.classes], dtype=np.float32)
        assert np.array_equal(row, measured.scores[k])


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_weights_are_read_once_per_command(
    verb: str,
    run: Path,
    clips: Path,
    tmp_path: Path,
    smnet: Callable[..., Called],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    real = header_module.safe_open

    def counted(path: Any, framework: str) -> Any:
        if framework == "pt":  # the header alone is read with "np"
            read.append(str(path))
        return real(path, framework=framework)

    monkeypatch.setattr(header_module, "safe_open", counted)
    own = shutil.copy(run / "best.safetensors", tmp_path / "a.safetensors")
    words = {
        "predict": [clips / "val" / "rising" / "0.mp4"],
        "evaluate": ["--data", clips, "--workers", 0],
    }[verb]
    assert smnet(verb, own, *words).status == 0
    assert read == [str(own)]


def test_push_and_the_expected_numbers_need_no_weights(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smnet.checkpoints.card import model_card
    from smnet.checkpoints.header import read_header

    real = header_module.safe_open

    def without_weights(path: Any, framework: str) -> Any:
        assert framework == "np"
        return real(path, framework=framework)

    monkeypatch.setattr(header_module, "safe_open", without_weights)
    header = read_header(run)
    assert header.spec.class_names == CLASSES
    assert header.recipe["model"] == "smnet_resnet18"
    assert "falling" in model_card(header, "owner/name")


@pytest.mark.parametrize("rate", [None, 5.0])
def test_validation_in_training_is_the_same_program(
    clips: Path, tmp_path: Path, rate: float | None
) -> None:
    """Also where clips are kept in memory, and frames are taken at a rate."""
    recipe = tiny(clips, epochs=1, rate=rate, cache="auto")
    outcome = train(recipe, tmp_path / "run")
    measured = evaluate_checkpoints([str(tmp_path / "run")], str(clips), workers=0, device="cpu")
    assert measured is not None
    assert outcome.held_out is not None
    assert measured.sampling == outcome.held_out.sampling
    assert ("frames/s" in measured.sampling) == (rate is not None)
    assert np.allclose(measured.scores, outcome.held_out.scores, atol=1e-5)
