"""A small causal network, and one that looks at windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.models import create_model
from tests.models.reference import scramble

SIZE, SEGMENTS, RATE = 32, 4, 5.0
CLASSES = ("falling", "resting", "rising")


def write_checkpoint(path: Path, name: str, **options: Any) -> Path:
    model = create_model(name, len(CLASSES), SEGMENTS, width=8, **options)
    scramble(model)
    model.spec = replace(
        model.spec, input_size=SIZE, short_side=SIZE, class_names=CLASSES, rate=RATE
    )
    save_checkpoint(path, Checkpoint(model.spec, model.state_dict()))
    return path


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    return write_checkpoint(folder / "causal.safetensors", "smnet_resnet18", causal=True)


@pytest.fixture(scope="session")
def two_sided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    return write_checkpoint(folder / "two-sided.safetensors", "tsm_resnet18")
