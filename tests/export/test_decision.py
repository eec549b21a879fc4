"""Exported files carry the decision of the checkpoint and give its calibrated scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.export.export import export
from smnet.inference.recognizer import Recognizer
from smnet.models import create_model
from smnet.models.spec import Decision
from tests.conftest import class_frames


@pytest.mark.usefixtures("torchlib", "short_network")
@pytest.mark.parametrize("several", [False, True])
def test_an_exported_file_answers_as_the_checkpoint(tmp_path: Path, several: bool) -> None:
    torch.manual_seed(0)
    model = create_model("tsn_resnet18", 3, 2, width=8, head="motion")
    torch.nn.init.normal_(model.fc.weight)
    decision = Decision(2.0, 0.34, (0.4, 0.5, 0.6) if several else None)
    spec = replace(
        model.spec,
        input_size=32,
        short_side=32,
        class_names=("rise", "none", "fall"),
        several=several,
        decision=decision,
    )
    file = tmp_path / "best.safetensors"
    save_checkpoint(file, Checkpoint(spec, model.state_dict()))
    export(file, tmp_path / "best.onnx")
    ours, theirs = (Recognizer.load(tmp_path / f"best.{s}", "cpu") for s in ("safetensors", "onnx"))
    assert theirs.backend.spec == spec
    frames = class_frames(0, 1)
    a, b = ours.predict(frames), theirs.predict(frames)
    assert (a.answer, a.unknown, a.labels) == (b.answer, b.unknown, b.labels)
    assert np.allclose(a.scores, b.scores, atol=1e-3)
    assert several or sum(a.scores) == pytest.approx(1)
