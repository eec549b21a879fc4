"""Exported steps: equal to the checkpoint's clips, frame by frame, with the state outside."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.errors import UserError
from smnet.export.export import Exported, export
from smnet.inference.backends import open_backend
from smnet.inference.streams import NotAStream, OnnxStream, open_stream, score_clip
from smnet.models import create_model
from tests.models.reference import scramble

pytestmark = pytest.mark.usefixtures("short_networks", "torchlib")

SIZE, SEGMENTS, LENGTH = 32, 3, 5
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def checkpoint(path: Path, name: str = "smnet_resnet18", **options: Any) -> Path:
    model = create_model(name, 3, SEGMENTS, width=8, **options)
    scramble(model)
    model.fc.weight.data *= 0.1
    model.spec = replace(model.spec, input_size=SIZE, short_side=SIZE)
    save_checkpoint(path, Checkpoint(model.spec, model.state_dict()))
    return path


@pytest.fixture(scope="module")
def causal(short_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("causal") / "causal.safetensors"
    return checkpoint(path, causal=True, stages=(3, 5), modality="rgb+rgbdiff")


@pytest.fixture(scope="module")
def made(torchlib: None, causal: Path) -> dict[str, Exported]:
    """The exported steps, by engine."""
    engines = [to for to in SUFFIXES if find_spec(to)]
    return {
        to: export(causal, causal.with_name(f"step{SUFFIXES[to]}"), to=to, stream=True)
        for to in engines
    }


@pytest.fixture
def frames() -> np.ndarray:
    """Segments of five frames."""
    shape = (SEGMENTS + 2, LENGTH, 3, SIZE, SIZE)
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("to", SUFFIXES)
def test_steps_of_the_file_are_those_of_the_checkpoint(
    causal: Path, made: dict[str, Exported], frames: np.ndarray, to: str
) -> None:
    pytest.importorskip(to)
    path = made[to].path
    assert made[to].parity.max_abs < 1e-4
    stream, expected = open_stream(path, "cpu"), open_stream(causal, "cpu")
    assert stream.state_bytes == expected.state_bytes > 0
    for frame in frames:
        np.testing.assert_allclose(stream.step(frame), expected.step(frame), rtol=0, atol=1e-4)
    clip = frames[:SEGMENTS].reshape(-1, 3, SIZE, SIZE)
    scores = open_backend(causal, "cpu").score(clip[None, None])[0]
    np.testing.assert_allclose(score_clip(stream, clip), scores, rtol=0, atol=1e-4)
    with pytest.raises(UserError, match="use it with smnet live"):
        open_backend(path)


def test_the_state_is_outside(made: dict[str, Exported], frames: np.ndarray) -> None:
    """At most four dimensions each; a step with the same state gives the same logits again."""
    stream = open_stream(made["onnx"].path, "cpu")
    assert isinstance(stream, OnnxStream)
    assert all(len(shape) <= 4 for shape in stream.states.values())
    first, state = stream.run_step(frames[0], stream.state)
    again, _ = stream.run_step(frames[0], stream.state)
    after, _ = stream.run_step(frames[0], state)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, after)


@pytest.mark.parametrize("to", SUFFIXES)
def test_int8(clips: Path, tmp_path: Path, to: str, monkeypatch: Any) -> None:
    pytest.importorskip(to)
    monkeypatch.setattr("smnet.export.quantise.MAX_DROP", 100.0)  # random weights
    monkeypatch.setattr("smnet.export.export.CALIBRATION_CLIPS", 2)
    made = export(
        checkpoint(tmp_path / "causal.safetensors", "tsm_resnet18", causal=True),
        tmp_path / f"step{SUFFIXES[to]}",
        to=to,
        precision="int8",
        calibration=str(clips),
        stream=True,
    )
    assert made.quantised is not None
    assert made.parity.max_abs < 0.1


def test_what_cannot_be_a_stream(causal: Path, tmp_path: Path) -> None:
    two_sided = checkpoint(tmp_path / "m.safetensors", "tsm_resnet18")
    with pytest.raises(UserError, match=r"options\.causal=true"):
        export(two_sided, tmp_path / "m.onnx", stream=True)
    with pytest.raises(UserError, match=r"model\.step"):
        export(causal, tmp_path / "m.pt2", to="torch", stream=True)
    with pytest.raises(NotAStream, match="--mode window"):
        open_stream(two_sided, "cpu")


@pytest.mark.parametrize("shape", [[1 << 20, 1 << 20], [-1, 4], [0, 4]])
def test_a_state_that_no_step_has_is_refused(
    made: dict[str, Exported], tmp_path: Path, shape: list[int]
) -> None:
    onnx = pytest.importorskip("onnx")
    file = onnx.load(made["onnx"].path)
    (entry,) = [entry for entry in file.metadata_props if entry.key == "state"]
    name = next(iter(json.loads(entry.value)))
    entry.value = json.dumps({**json.loads(entry.value), name: shape})
    onnx.save(file, tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"other\.onnx: its state does not match its metadata"):
        open_stream(tmp_path / "other.onnx")
