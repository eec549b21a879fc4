"""What ``freeze`` fixes, by names written down here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smnet.errors import UserError
from smnet.models import create_model
from smnet.models.base import STAGES
from smnet.recipes.recipe import Recipe
from smnet.training.freeze import (
    freeze_parameters,
    is_frozen,
    needs_temporal_weights,
    train_mode,
)
from smnet.training.loop import train
from tests.conftest import OF_RUN, tiny
from tests.families import ONE_OF_EACH


@pytest.mark.parametrize(
    ("name", "key", "stage"),
    [
        ("smnet_resnet18", "conv1.weight", "stem"),
        ("smnet_resnet18", "bn1.running_mean", "stem"),
        ("smnet_resnet18", "layer1.0.conv1.weight", "res2"),
        ("smnet_resnet18", "layer4.1.temporal.se.temporal.weight", "res5"),
        ("smnet_resnet18", "fc.weight", "head"),
        ("tdn_resnet18", "difference.conv1.weight", "stem"),
        ("tdn_resnet18", "difference.layer1.0.conv1.weight", "res2"),
        ("smnet_mobilenetv2", "features.0.0.weight", "stem"),
        ("smnet_mobilenetv2", "features.1.conv.0.0.weight", "stem"),
        ("smnet_mobilenetv2", "features.2.conv.0.0.weight", "res2"),
        ("smnet_mobilenetv2", "features.17.conv.0.0.weight", "res5"),
        ("smnet_mobilenetv2", "features.18.0.weight", "res5"),
        ("smnet_mobilenetv2", "fc.bias", "head"),
    ],
)
def test_the_stage_of_a_key(name: str, key: str, stage: str) -> None:
    with torch.device("meta"):
        assert create_model(name, 3, 2, width=8).stage_of(key) == stage


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_family_has_every_stage(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, 3, 2, width=8)
    assert {model.stage_of(key) for key, _ in model.named_parameters()} == set(STAGES)


def test_a_stage_takes_all_below_and_the_trunk_leaves_the_temporal_modules() -> None:
    with torch.device("meta"):
        model = create_model("smnet_resnet18", 3, 2, width=8)
    learn = {
        freeze: {k for k, _ in model.named_parameters() if not is_frozen(model, k, freeze)}
        for freeze in ("none", "stem", "res3", "trunk")
    }
    assert len(learn["none"]) == len(list(model.parameters()))
    assert learn["none"] - learn["stem"] == {"conv1.weight", "bn1.weight", "bn1.bias"}
    assert {key.partition(".")[0] for key in learn["res3"]} == {"layer3", "layer4", "fc"}
    assert all("temporal" in key or key.startswith("fc.") for key in learn["trunk"])
    note = freeze_parameters(model, "trunk")
    assert note.startswith("freeze=trunk: ")
    assert {k for k, p in model.named_parameters() if p.requires_grad} == learn["trunk"]


def test_new_temporal_modules_in_the_frozen_part() -> None:
    with torch.device("meta"):
        smnet = create_model("smnet_resnet18", 3, 2, width=8)
        tsm = create_model("tsm_resnet18", 3, 2, width=8)
    for recipe, needs in (
        ({"freeze": "none"}, False),
        ({"freeze": "stem"}, False),
        ({"freeze": "res2"}, True),
        ({"freeze": "trunk"}, True),
        ({"freeze_norm": True}, True),
    ):
        assert needs_temporal_weights(smnet, Recipe(**recipe)) is needs
        assert not needs_temporal_weights(tsm, Recipe(**recipe))


def test_frozen_norms_are_in_evaluation_mode() -> None:
    model = create_model("tsm_resnet18", 3, 2, width=8)
    freeze_parameters(model, "res2")
    train_mode(model, Recipe(freeze="res2"))
    assert not model.bn1.training
    assert not model.layer1[0].bn1.training
    assert model.layer2[0].bn1.training


def test_a_frozen_part_stays_bit_for_bit(clips: Path, run: Path, tmp_path: Path) -> None:
    train(tiny(clips, **{**OF_RUN, "epochs": 2}, weights=str(run), freeze="res3"), tmp_path / "r")
    start, after = load_file(run / "best.safetensors"), load_file(tmp_path / "r/last.safetensors")
    frozen = ("conv1", "bn1", "layer1", "layer2")
    assert all(torch.equal(after[key], start[key]) for key in after if key.startswith(frozen))
    for key in ("layer3.0.conv1.weight", "layer4.1.bn2.running_mean", "fc.weight"):
        assert not torch.equal(after[key], start[key])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": "res3", "weights": "none"}, "freeze=res3 would keep random weights"),
        ({"class_weights": "auto", "balance": "classes"}, "both make up for rare classes"),
        ({"layer_decay": 0.0}, "layer_decay must be a number above 0 and at most 1"),
        ({"track": "tensorboard,mlflow"}, "there is no tracker 'mlflow'"),
        ({"freeze": "res5"}, "freeze must be none, stem, res2, res3, res4 or trunk"),
    ],
)
def test_combinations_that_are_refused(clips: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(clips, **changes)
