"""Weight files of other programs: all forms are read; code and oversized claims are refused."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from smnet.models import create_model
from smnet.models.weight_files import AVERAGED, WRAPPERS, check_architecture, read_weight_file


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv1.weight": torch.randn((8, 3, 7, 7), generator=generator),
        "bn1.bias": torch.randn(8, generator=generator),
        "bn1.num_batches_tracked": torch.tensor(3),
    }


def image_network() -> dict[str, Tensor]:
    return create_model("tsn_resnet18", 10, width=8).state_dict()


def under(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights().items()}


def averaged() -> dict[str, Tensor]:
    """As ``torch.optim.swa_utils.AveragedModel`` saves itself."""
    return {"n_averaged": torch.tensor(5), **under("module.")}


FORMS: dict[str, Callable[[], Any]] = {
    "plain": weights,
    "state_dict": lambda: {"state_dict": weights(), "epoch": 3},
    "model": lambda: {"model": weights(), "epoch": 3, "args": {"lr": 0.1}},
    "data-parallel": lambda: {"state_dict": under("module.")},
    "compiled": lambda: under("_orig_mod."),
    "both": lambda: {"model": under("module._orig_mod.")},
    "both, turned": lambda: under("_orig_mod.module."),
    "timm": lambda: {
        "arch": "resnet18",
        "state_dict": {k: v + 1 for k, v in weights().items()},
        "state_dict_ema": weights(),
    },
    "torchvision": lambda: {
        "model": {k: v + 1 for k, v in weights().items()},
        "model_ema": averaged(),
        "epoch": 3,
    },
    "nothing averaged": lambda: {"state_dict": weights(), "state_dict_ema": None},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_of_training_programs(form: str, zipped: bool, tmp_path: Path) -> None:
    torch.save(FORMS[form](), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    read = read_weight_file(tmp_path / "x.pth")
    assert read.tensors.keys() == weights().keys()
    assert all(torch.equal(read.tensors[k], v) for k, v in weights().items())
    expected = {"timm": "state_dict_ema", "torchvision": "model_ema", "model": "model"}
    if form in expected:
        assert read.under == expected[form]
    assert (read.under in AVERAGED) == (form in ("timm", "torchvision"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_the_format_is_recognised_by_the_content(suffix: str, tmp_path: Path) -> None:
    save_file(weights(), tmp_path / f"a{suffix}", {"format": "pt"})
    torch.save(weights(), tmp_path / f"b{suffix}")
    for name in "ab":
        read = read_weight_file(tmp_path / f"{name}{suffix}")
        assert read.under == ""
        assert read.tensors.keys() == weights().keys()
        assert all(torch.equal(read.tensors[k], v) for k, v in weights().items())


@pytest.mark.parametrize("form", ["state_dict", "module", "model", "averaged"])
def test_a_model_starts_from_every_form(form: str, tmp_path: Path) -> None:
    state = image_network()
    content: dict[str, Any] = {
        "state_dict": {"state_dict": state},
        "module": {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        "model": {"model": state},
        "averaged": {"state_dict": image_network(), "state_dict_ema": state},
    }[form]
    torch.save(content, tmp_path / "x.pth")
    model = create_model("smnet_resnet18", 5, width=8, weights=str(tmp_path / "x.pth"))
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(value: float, tmp_path: Path) -> None:
    torch.save({**weights(), "fc.bias": torch.tensor([1.0, value])}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"'fc\.bias' has values that are NaN or infinite"):
        read_weight_file(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "name",
    [
        "resnetblur50-84f4748f.pth",
        "c2d_r50-in1k-pre_8xb32-8x8x1-100e_kinetics400-rgb_20221027-3ca304fa.pth",
        "resnetaa50_a1h-4cf422b3.pth",
        "resnetblur50.bt_in1k/model.safetensors",
        "models--timm--resnetaa50.a1h_in1k/snapshots/0123abcd/model.safetensors",
    ],
)
def test_networks_with_the_tensors_of_others(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights(), file)
    with pytest.raises(ValueError, match=r"resnet(blur|aa)50 has filters|C2D pools over time"):
        read_weight_file(file)
    check_architecture("resnet50-0676ba61.pth")
    check_architecture(
        "c2d_r50-in1k-pre-nopool_8xb32-8x8x1-100e_kinetics400-rgb_20221027-e0227b22.pth"
    )


# ---------------------------------------------------------------- no code is run


class Trap:
    """Unpickling it makes the file ``trap``; what a hostile checkpoint would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


class Logger:
    """Stands for what training programs leave in their files."""


class Filled:
    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (1 << 40,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(zipped: bool, tmp_path: Path) -> None:
    sprung, file = tmp_path / "sprung", tmp_path / "weights.pth"
    content = {"state_dict": weights(), "best": Trap(sprung)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="without running code of the file") as caught:
        create_model("smnet_resnet18", 5, width=8, weights=str(file))
    assert not sprung.exists()
    assert str(file) in str(caught.value)
    torch.load(file, weights_only=False)
    assert sprung.exists(), "the trap itself works"


NETWORK = nn.Linear(2, 2)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": NETWORK.state_dict(), "hub": Logger()},
        {"model": NETWORK.state_dict(), "model_ema": NETWORK.state_dict(), "args": Logger()},
        NETWORK,
    ],
    ids=["state_dict", "model", "the module itself"],
)
def test_the_advice_for_a_refused_file_works(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"holds a [\w.]+ besides tensors.*if you trust") as caught:
        read_weight_file(tmp_path / "x.pth")
    said = str(caught.value)
    assert "\n" not in said
    line = re.search(r"wrote it, by (c = .*)$", said)
    assert line
    new = io.BytesIO()
    exec(line[1], {"torch": torch, "FILE": tmp_path / "x.pth", "NEW": new})
    (tmp_path / "new.pth").write_bytes(new.getvalue())
    stripped = read_weight_file(tmp_path / "new.pth").tensors
    assert torch.equal(stripped["weight"], NETWORK.weight)


# ---------------------------------------------------------------- nothing grows beyond the file


def test_claims_beyond_the_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    for state, said in (
        ({"a": torch.ones(1).expand(10**6)}, "claims more values than are stored"),
        ({"a": torch.ones(3), "b": Filled()}, "bytearray"),
    ):
        torch.save(state, file)
        with pytest.raises(ValueError, match=said):
            read_weight_file(file)
    torch.save({"a": torch.zeros(10**6)}, file)
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="refused, because it claims"):
        read_weight_file(packed)


def test_an_oversized_claim_in_an_old_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(300)}, file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    small_size, huge = b"M" + struct.pack("<H", 300), b"J" + struct.pack("<i", 2**31 - 1)
    assert content.count(small_size) >= 2  # BININT2 300: the storage's length, the tensor's shape
    file.write_bytes(content.replace(small_size, huge))
    with pytest.raises(ValueError, match="not a file of weights, or damaged"):
        read_weight_file(file)


# ---------------------------------------------------------------- damaged, or something else


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"hello world\n", "not a file of weights"),
        (b"<!doctype html><html></html>", "not a file of weights"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not a file of weights"),
        (bytes(99), "not a file of weights"),
        (b"PK\x03\x04 and then nothing", "not a file of weights"),
        (struct.pack("<Q", 1 << 40) + b"{", "damaged or cut short"),
    ],
)
def test_files_of_another_kind(content: bytes, said: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_weight_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value), "nobody is advised to run it"


def refusal(path: Path) -> str | None:
    """What reading the file says, or None where it yields tensors."""
    try:
        read = read_weight_file(path).tensors
    except ValueError as error:
        return str(error)
    assert all(isinstance(v, Tensor) for v in read.values())
    return None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".old.pth"])
def test_damaged_files(suffix: str, tmp_path: Path) -> None:
    state = weights()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization="old" not in suffix)
    sound = path.read_bytes()
    for part in (0.01, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(sound[: int(len(sound) * part)])
        with pytest.raises(ValueError, match=r"not a file of weights|cut short"):
            read_weight_file(path)
    rng = random.Random(0)
    for _ in range(200):
        damaged = bytearray(sound)
        for _ in range(3):
            damaged[rng.randrange(min(len(sound), 600))] = rng.randrange(256)
        path.write_bytes(damaged)
        said = refusal(path)
        assert said is None or said.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no named tensors"),
        ([torch.ones(2)], "holds no named tensors"),
        (torch.zeros(3), "holds no named tensors"),
        ({"state_dict": {}}, "holds no named tensors"),
        ({"model_ema": {"n_averaged": torch.tensor(1)}}, "holds no named tensors"),
        ({"epoch": 3}, "'epoch' is a int, not a tensor"),
        ({"a": [torch.zeros(1)]}, "'a' is a list, not a tensor"),
        ({1: torch.zeros(1)}, "the key 1 is not the name"),
        ({"a": torch.ones(2, device="meta")}, "without data"),
        ({"a": torch.ones(2, 2).to_sparse()}, "sparse"),
        ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, "quantised to 8 bits"),
    ],
)
def test_other_contents(content: object, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=said):
        read_weight_file(tmp_path / "x.pth")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.pth"):
        with pytest.raises(ValueError, match="no such file of weights"):
            read_weight_file(path)
    with pytest.raises(ValueError, match="no such file of weights"):
        create_model("tsn_resnet18", 5, width=8, weights=os.fspath(tmp_path / "no.pth"))


def test_the_error_names_the_expected_keys(tmp_path: Path) -> None:
    torch.save({"net": weights()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=re.escape(", ".join(WRAPPERS))):
        read_weight_file(tmp_path / "x.pth")
