"""Checkpoint files: complete, atomic, and without code."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from smnet.checkpoints import save as checkpoint_module
from smnet.checkpoints.file import Checkpoint, load, read_checkpoint, save_checkpoint
from smnet.errors import UserError
from smnet.models import VideoModel, create_model
from tests.conftest import file_size_limit


@pytest.fixture(scope="module")
def model() -> VideoModel:
    made = create_model("smnet_resnet18", 3, 4, width=8, place="after_conv1", stages=[3, 4])
    made.spec = replace(
        made.spec, class_names=("up", "dówn", "[x]"), input_size=32, short_side=36, mean=(0.1, 0, 1)
    )
    return made.eval()


@pytest.fixture
def whole(model: VideoModel) -> Checkpoint:
    recipe = {"epochs": 3, "options": {"width": 8}}
    return Checkpoint(model.spec, model.state_dict(), recipe, {"val": {"top1": 0.5}})


def test_round_trip(tmp_path: Path, model: VideoModel, whole: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a.safetensors", whole)
    again = read_checkpoint(tmp_path / "a.safetensors")
    assert again.spec == model.spec
    assert again.recipe == whole.recipe
    assert again.metrics == whole.metrics
    assert again.tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(again.tensors[k], v) for k, v in model.state_dict().items())
    built = load(tmp_path / "a.safetensors")
    assert not built.training
    assert built.spec == model.spec
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(built(clip), model(clip))


def test_equal_checkpoints_are_equal_files(tmp_path: Path, whole: Checkpoint) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        save_checkpoint(file, whole)
    assert len({file.read_bytes() for file in files}) == 1


def test_no_tensor_is_left_without_memory(tmp_path: Path, whole: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a.safetensors", whole)
    built = load(tmp_path / "a.safetensors")
    assert not any(t.is_meta for t in [*built.parameters(), *built.buffers()])


def test_layouts_on_the_way_do_not_matter(tmp_path: Path, whole: Checkpoint) -> None:
    tensors = {
        k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v
        for k, v in whole.tensors.items()
    }
    save_checkpoint(tmp_path / "a.safetensors", replace(whole, tensors=tensors))
    again = read_checkpoint(tmp_path / "a.safetensors").tensors
    assert all(torch.equal(again[k], v) for k, v in whole.tensors.items())


def test_a_run_folder_opens_its_best_checkpoint(tmp_path: Path, whole: Checkpoint) -> None:
    save_checkpoint(tmp_path / "best.safetensors", whole)
    assert read_checkpoint(tmp_path).spec == whole.spec


def test_any_reader_of_the_format_sees_all_of_it(tmp_path: Path, whole: Checkpoint) -> None:
    save_checkpoint(tmp_path / "a.safetensors", whole)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        header = file.metadata()
    assert header["format"] == "smnet-video/1"
    assert json.loads(header["spec"])["class_names"] == ["up", "dówn", "[x]"]
    assert json.loads(header["metrics"]) == {"val": {"top1": 0.5}}


@pytest.fixture
def file(tmp_path: Path, whole: Checkpoint) -> Path:
    save_checkpoint(tmp_path / "a.safetensors", whole)
    return tmp_path / "a.safetensors"


def rewrite(file: Path, **header: str | None) -> None:
    with safe_open(file, "pt") as old:
        kept = {**old.metadata(), **header}
    save_file(load_file(file), file, {k: v for k, v in kept.items() if v is not None})


def respecify(file: Path, **values: Any) -> None:
    with safe_open(file, "pt") as old:
        spec = json.loads(old.metadata()["spec"])
    rewrite(file, spec=json.dumps({**spec, **values}))


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_cut_short(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"a\.safetensors: not a checkpoint, or truncated"):
        load(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        b"\xff" * 100,
        b"not a checkpoint",
        pickle.dumps({"model": [1, 2]}),
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.safetensors: "):
        load(file)


class Malice:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.witness,)


@pytest.mark.parametrize("write", [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x))])
def test_no_code_runs(tmp_path: Path, write: Callable[..., Any]) -> None:
    write({"state_dict": Malice(tmp_path / "ran")}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="not a checkpoint"):
        load(tmp_path / "x.safetensors")
    assert not (tmp_path / "ran").exists()


def test_of_another_program(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="a safetensors file, but not a checkpoint of smnet"):
        load(tmp_path / "x.safetensors")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        load(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"best\.safetensors: no such checkpoint"):
        load(tmp_path)


def test_of_a_later_version(file: Path) -> None:
    rewrite(file, format="smnet-video/9")
    with pytest.raises(UserError, match="format smnet-video/9; this version reads smnet-video/1"):
        load(file)


@pytest.mark.parametrize(
    "header",
    [
        {"spec": None},
        {"recipe": None},
        {"metrics": None},
        {"spec": "{"},
        {"spec": "5"},
        {"spec": "[]"},
        {"spec": "{}"},
        {"spec": "[" * 100_000},
        {"recipe": "5"},
        {"metrics": "[1]"},
        {"metrics": "[" * 100_000},
    ],
)
def test_a_damaged_header(file: Path, header: dict[str, str | None]) -> None:
    rewrite(file, **header)
    with pytest.raises(UserError, match=r"a\.safetensors: its header is damaged"):
        load(file)


@pytest.mark.parametrize(
    "values",
    [
        {"name": 5},
        {"name": None},
        {"num_classes": "3"},
        {"num_classes": 0},
        {"num_classes": 2.5},
        {"num_segments": "x"},
        {"num_segments": 10**9},
        {"frames_per_segment": 10**9},
        {"frames_per_segment": 0},
        {"options": [1]},
        {"input_size": "x"},
        {"input_size": -32},
        {"input_size": 10**7, "short_side": 10**7},
        {"input_size": 64, "short_side": 32},
        {"mean": [1]},
        {"std": ["a", "b", "c"]},
        {"class_names": [1, 2, 3]},
        {"class_names": ["a", "b"]},
        {"colour": "red"},
    ],
)
def test_a_specification_that_cannot_be(file: Path, values: dict[str, Any]) -> None:
    respecify(file, **values)
    with pytest.raises(UserError, match=r"a\.safetensors: its header is damaged") as caught:
        load(file)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "smnet_resnet34"}, "the tensors are not those of smnet_resnet34: see layer1"),
        ({"name": "nonsense"}, "no model is called 'nonsense'"),
        ({"options": {"width": 16}}, "the tensors are not those of smnet_resnet18"),
        ({"options": {"width": 10**7}}, "the tensors are not those of|width"),
        ({"options": {"width": "a"}}, "width"),
        ({"options": {"depth": 1}}, "has no option 'depth'|cannot be built"),
        ({"num_classes": 4, "class_names": None}, r"the tensors are not those .* see fc\.bias"),
    ],
)
def test_a_specification_of_another_model(file: Path, values: dict[str, Any], says: str) -> None:
    respecify(file, **values)
    with pytest.raises(UserError, match=rf"a\.safetensors: .*({says})"):
        load(file)


def test_tensors_of_another_type(tmp_path: Path, whole: Checkpoint) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in whole.tensors.items()}
    save_checkpoint(tmp_path / "x.safetensors", replace(whole, tensors=halves))
    with pytest.raises(UserError, match="the tensors are not those of"):
        load(tmp_path / "x.safetensors")


def test_a_full_disk_leaves_the_old_one(file: Path, whole: Checkpoint) -> None:
    before = file.read_bytes()
    changed = {k: v + 1 for k, v in whole.tensors.items()}
    with (
        file_size_limit(100_000),
        pytest.raises(UserError, match=r"cannot write .*a\.safetensors: .*[Tt]oo large"),
    ):
        save_checkpoint(file, replace(whole, tensors=changed))
    assert os.listdir(file.parent) == ["a.safetensors"]
    assert file.read_bytes() == before


def test_a_save_that_breaks_off_leaves_the_old_one(
    file: Path, whole: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def half(tensors: object, path: Path, header: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_module, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(file, whole)
    assert os.listdir(file.parent) == ["a.safetensors"]
    assert file.read_bytes() == before
