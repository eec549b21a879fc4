"""``smnet models`` and ``smnet recipes``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smnet.models import list_models
from smnet.models.registry import FAMILIES
from smnet.recipes.recipe import read_recipe
from tests.conftest import Called


def test_the_families(smnet: Callable[..., Called]) -> None:
    called = smnet("models")
    assert called.status == 0
    rows = {line.split()[0]: line for line in called.out.splitlines()}
    assert set(FAMILIES) <= set(rows)
    assert rows["smnet"].split()[-5:] == ["Entropy", "2022", "all", "1.08", "1.05"]
    values = json.loads(smnet("models", "--json").out)
    assert [row["family"] for row in values] == list(FAMILIES)


def test_the_names_for_scripts(smnet: Callable[..., Called]) -> None:
    assert smnet("models", "--names").out.split() == list_models()
    assert smnet("models", "tsm_*").out.split() == list_models("tsm_*")
    assert json.loads(smnet("models", "tsm_*", "--json").out) == list_models("tsm_*")
    assert smnet("models", "tsm_resnet18", "--names").out == "tsm_resnet18\n"


@pytest.mark.parametrize("name", ["tsm", "tsm_resnet50"])
def test_the_options_of_a_model(name: str, smnet: Callable[..., Called]) -> None:
    text = smnet("models", name).out
    assert text.startswith("tsm_resnet50: ")
    for words in (
        "shift_div  ",
        "a whole number of at least 2",
        "modality  ",
        "Dropout probability",
    ):
        assert words in text
    rows = {row["name"]: row for row in json.loads(smnet("models", name, "--json").out)}
    assert rows["width"]["default"] == "64"
    assert rows["place"]["accepted"] == "before_conv1 or after_conv1"


def test_brackets_in_the_meaning_of_an_option_are_printed(smnet: Callable[..., Called]) -> None:
    assert "F[t+1] - F[t]" in smnet("models", "smnet_resnet18").out


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("tsm_resnet19", "did you mean tsm_resnet18"),
        ("tea_resnet50", "the trunks of tea are res2net50"),
        ("x*", "no model matches 'x*'"),
    ],
)
def test_unknown_models(pattern: str, message: str, smnet: Callable[..., Called]) -> None:
    called = smnet("models", pattern)
    assert called.status == 1
    assert message in called.err
    assert called.err.count("\n") == 1


def test_a_recipe_is_printed_with_its_meaning_and_can_be_read(
    smnet: Callable[..., Called], tmp_path: Path
) -> None:
    text = smnet("recipes", "motion").out
    assert "Side of the square crop, pixels." in text
    assert "Values: multiscale, resized" in text
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert read_recipe(str(tmp_path / "mine.yaml")) == read_recipe("motion")
