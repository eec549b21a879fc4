"""The rows of a comparison, from a study or a line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from smnet.errors import UserError
from smnet.experiments.compare import check_study, folder_name
from smnet.experiments.study import Candidate, read_models, read_study
from smnet.models import create_model
from smnet.recipes.recipe import Recipe

STUDIES = sorted(
    e.name.removesuffix(".yaml")
    for e in files("smnet.recipes.studies").iterdir()
    if e.name.endswith(".yaml")
)


@pytest.mark.parametrize("name", STUDIES)
def test_studies_of_the_package(name: str) -> None:
    variants = read_study(name)
    assert len(variants) >= 2
    assert len({v.label for v in variants}) == len(variants)
    assert len({folder_name(v.model, v.options, 0) for v in variants}) == len(variants)
    for variant in variants:
        with torch.device("meta"):
            create_model(variant.model, 10, 8, **variant.options)


def test_a_study_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "variants:\n  plain: {model: tsn_resnet18}\n"
        "  after: {model: smnet_resnet18, options: {place: after_conv1}}\n"
    )
    assert read_study(str(file)) == [
        Candidate("plain", "tsn_resnet18"),
        Candidate("after", "smnet_resnet18", {"place": "after_conv1"}),
    ]


@pytest.mark.parametrize(
    "content",
    [
        *("", "a: b", "variants: 5", "variants: [a]", "variants: {a: b}", "variants: {a: {}}"),
        *("{", "2020-13-45", "variants: {a: [model]}"),
        "variants: {a: {model: tsn_resnet18, options: {1: 2}}}",
        "variants: {a: {model: tsn_resnet18}, a: {model: tsm_resnet18}}",
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(UserError, match=r"bad\.yaml: a study has variants"):
        read_study(str(tmp_path / "bad.yaml"))


def test_a_study_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("variants: {}")
    with pytest.raises(UserError, match=r"bad\.yaml: the study has no variants"):
        read_study(str(tmp_path / "bad.yaml"))


def test_no_such_study() -> None:
    with pytest.raises(UserError, match="no study 'familly'; did you mean 'family'"):
        read_study("familly")


def test_models_of_a_line_with_their_options() -> None:
    line = "tdn_resnet18, smnet_resnet18:modality=rgb+rgbdiff,smnet_resnet18:groups=2:stages=[4,5]"
    assert [(v.label, v.model, v.options) for v in read_models(line)] == [
        ("tdn_resnet18", "tdn_resnet18", {}),
        ("smnet_resnet18:modality=rgb+rgbdiff", "smnet_resnet18", {"modality": "rgb+rgbdiff"}),
        (
            "smnet_resnet18:groups=2:stages=[4,5]",
            "smnet_resnet18",
            {"groups": 2, "stages": [4, 5]},
        ),
    ]
    check_study(Recipe(options={"width": 16}), read_models(line))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tsn_resnet18:width", "tsn_resnet18:width: write options as :key=value, not :width"),
        ("tsn_resnet18:", "write options as :key=value, not :$"),
        ("tsn_resnet18:width=[", "not YAML"),
        ("tsn_resnet18:width=8:width=16", "an option is given twice"),
        ("tsn_resnet18:widht=8", "has no option 'widht'; did you mean 'width'"),
        ("tsn_resnet18,,tsm_resnet18", "'tsn_resnet18,,tsm_resnet18': '' is not a model name"),
        ("tsn_resnet18,", "'' is not a model name"),
        (
            "smnet_resnet18:stages=4,5",
            r"'5' is not a model name; write lists in brackets, stages=\[4,5",
        ),
        ("tdn_mobilenetv2", "the trunks of tdn are resnet18, resnet34, resnet50, resnet101$"),
    ],
)
def test_lines_that_are_no_models(line: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_study(Recipe(), read_models(line))


def test_a_study_with_a_key_that_is_none(tmp_path: Path) -> None:
    study = tmp_path / "bad.yaml"
    study.write_text("seeds: 5\nvariants: {a: {model: tsn_resnet18}}")
    with pytest.raises(UserError, match=r"bad\.yaml: unknown key 'seeds'"):
        read_study(str(study))


def test_a_label_that_no_line_can_hold(tmp_path: Path) -> None:
    study = tmp_path / "bad.yaml"
    study.write_text('variants: {"a\\e[31m": {model: tsn_resnet18}}')
    with pytest.raises(UserError, match=r"the label 'a\\x1b\[31m' has unprintable"):
        read_study(str(study))


def test_the_row_is_named_whatever_is_wrong_with_it() -> None:
    rows = [Candidate("a", "smnet_resnet18", {"groups": {"a": 1}})]
    with pytest.raises(UserError, match=r"^a: groups must be"):
        check_study(Recipe(), rows)


def test_a_row_with_a_key_that_is_none(tmp_path: Path) -> None:
    study = tmp_path / "bad.yaml"
    study.write_text("variants: {a b: {model: tsn_resnet18, optoins: {groups: 2}}}")
    says = r"bad\.yaml: a b: unknown key 'optoins'; did you mean 'options'\?"
    with pytest.raises(UserError, match=says):
        read_study(str(study))
