"""Image weights: where they are looked for, what is refused, and that no file runs code."""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from smnet.models import VideoModel, create_model, imagenet, load_weights
from smnet.models.imagenet import PUBLISHED, imagenet_file, read_tensors


def image_network(trunk: str = "resnet18", width: int = 8, classes: int = 10) -> dict[str, Tensor]:
    state = create_model(f"tsn_{trunk}", classes, width=width).state_dict()
    return {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in state.items()}


def network() -> VideoModel:
    return create_model("smnet_resnet18", 5, width=8)


def assert_unchanged(model: VideoModel, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "home" / "hub" / "checkpoints"


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, state: dict[str, Tensor]) -> Path:
    """Put a small network where the published resnet18 would lie, under its own hash."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "new.pth")
    digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(PUBLISHED, "resnet18", f"resnet18-{digest}.pth")
    return (folder / "new.pth").rename(folder / PUBLISHED["resnet18"])


# ---------------------------------------------------------------- the cache and the network


def test_cached_file_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = image_network()
    path = publish(monkeypatch, cache, state)
    assert imagenet_file("resnet18") == path
    model = create_model("smnet_resnet18", 5, width=8, weights="imagenet")
    own = model.state_dict()
    assert all(torch.equal(own[k], v) for k, v in state.items() if not k.startswith("fc."))


def test_file_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = publish(monkeypatch, cache.parent / "elsewhere", image_network()).read_bytes()
    asked: list[str] = []

    def download(url: str, dst: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        Path(dst).write_bytes(data)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    first, second = imagenet_file("resnet18"), imagenet_file("resnet18")
    assert first == second == cache / PUBLISHED["resnet18"]
    assert asked == [f"https://download.pytorch.org/models/{PUBLISHED['resnet18']}"]


def test_published_names_carry_the_start_of_their_hash() -> None:
    for trunk, name in PUBLISHED.items():
        digits = name.rsplit("-", 1)[1].removesuffix(".pth")
        assert len(digits) == 8, trunk
        assert set(digits) <= set("0123456789abcdef"), trunk


def test_wrong_hash_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = publish(monkeypatch, cache, image_network())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="damaged") as caught:
        imagenet_file("resnet18")
    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)


def test_wrong_hash_of_a_download_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, dst: str, *_: Any, **__: Any) -> None:
        Path(dst).write_text("<html>please log in</html>")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(ValueError, match="damaged"):
        imagenet_file("resnet18")


@pytest.mark.parametrize(
    "error",
    [
        URLError("no network"),
        HTTPError("https://x", 404, "Not Found", None, None),  # type: ignore[arg-type]
        TimeoutError("timed out"),
        ConnectionResetError("reset"),
        PermissionError("read-only"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_offline_says_which_file_to_put_where(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ValueError) as caught:
        create_model("smnet_resnet50", 5, width=8, weights="imagenet")
    said = str(caught.value)
    assert f"https://download.pytorch.org/models/{PUBLISHED['resnet50']}" in said
    assert f"put the file at {cache / PUBLISHED['resnet50']}" in said
    assert "weights=none" in said
    assert "\n" not in said
    assert caught.value.__suppress_context__


def test_cache_that_cannot_be_made_is_one_error(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file where a folder must be")
    with pytest.raises(ValueError, match="put the file at"):
        imagenet_file("resnet18")


def test_trunk_without_published_weights(cache: Path) -> None:
    with pytest.raises(ValueError, match="no ImageNet weights are known for resnet19"):
        imagenet_file("resnet19")


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", [".pth", ".safetensors", "state_dict.pth", "old.pth"])
def test_kinds_of_files(kind: str, tmp_path: Path) -> None:
    state = image_network()
    path = tmp_path / f"weights{kind}"
    if kind == ".safetensors":
        save_file(state, path)
    elif kind == "old.pth":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"state_dict": state, "epoch": 3} if "dict" in kind else state, path)
    read = read_tensors(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[k], v) for k, v in state.items())
    model = create_model("smnet_resnet18", 5, width=8, weights=str(path))
    assert torch.equal(model.state_dict()["conv1.weight"], state["conv1.weight"])


class Trap:
    """Unpickling it makes the file ``trap``; what a hostile checkpoint would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "torch old", "pickle"])
def test_code_in_a_file_is_not_run(how: str, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    content = {"conv1.weight": Trap(sprung)}
    path = tmp_path / "weights.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ValueError, match="not a file of weights") as caught:
        create_model("smnet_resnet18", 5, width=8, weights=str(path))
    assert not sprung.exists()
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value), "nobody is advised to run it"
    pickle.loads(pickle.dumps(content))
    assert sprung.exists(), "the trap itself works"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file of weights"):
        create_model("tsn_resnet18", 5, width=8, weights=str(tmp_path / "no.pth"))
    with pytest.raises(ValueError, match="no such file of weights"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world\n",
        b"<!doctype html><html></html>",
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        bytes(99),
    ],
    ids=["empty", "text", "html", "png", "zeros"],
)
def test_file_of_something_else(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a file of weights") as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def refusal(path: Path) -> str | None:
    """What reading the file says, or None where it yields tensors."""
    try:
        read = read_tensors(path)
    except ValueError as error:
        return str(error)
    assert all(isinstance(v, Tensor) for v in read.values())
    return None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".old.pth"])
def test_damaged_file_is_one_error_or_sound(suffix: str, tmp_path: Path) -> None:
    state = {"conv1.weight": torch.randn(8, 3, 7, 7), "bn1.bias": torch.randn(8)}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization="old" not in suffix)
    sound = path.read_bytes()
    for part in (0.01, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(sound[: int(len(sound) * part)])
        with pytest.raises(ValueError, match="not a file of weights"):
            read_tensors(path)
    rng = random.Random(0)
    for _ in range(200):
        damaged = bytearray(sound)
        for _ in range(3):
            damaged[rng.randrange(min(len(sound), 600))] = rng.randrange(256)
        path.write_bytes(damaged)
        said = refusal(path)
        assert said is None or said.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1, 2],
        {"epoch": 3},
        {"state_dict": {}},
        torch.zeros(3),
        {"a": [torch.zeros(1)]},
        {1: torch.zeros(1)},
    ],
)
def test_pth_without_named_tensors(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="holds no named tensors"):
        read_tensors(tmp_path / "weights.pth")


# ---------------------------------------------------------------- another trunk


def test_another_trunk_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    path = tmp_path / "other.safetensors"
    missing = image_network()
    del missing["layer2.0.conv1.weight"]
    save_file(missing, path)
    with pytest.raises(ValueError) as caught:
        load_weights(model, path)
    said = str(caught.value)
    assert said == f"{path} is not a trunk of smnet_resnet18: it lacks layer2.0.conv1.weight"
    assert_unchanged(model, before)


def test_deeper_trunk_has_more(tmp_path: Path) -> None:
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"it has besides layer1\.2\..* and \d+ more"):
        load_weights(model, image_network("resnet34"))
    assert_unchanged(model, before)


def test_wider_trunk_does_not_fit() -> None:
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"conv1\.weight: \(16, 3, 7, 7\) for \(8, 3, 7, 7\)"):
        load_weights(model, image_network(width=16))
    assert_unchanged(model, before)


def test_temporal_part_of_other_options_does_not_fit() -> None:
    other = create_model("smnet_resnet18", 5, width=8, groups=2).state_dict()
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"does not fit .*temporal"):
        load_weights(model, other)
    assert_unchanged(model, before)


def test_nothing_of_ours() -> None:
    with pytest.raises(
        ValueError, match=r"the given tensors is not a trunk .* lacks conv1\.weight"
    ):
        load_weights(network(), {"encoder.weight": torch.zeros(1)})


def test_counters_of_batches_may_be_absent() -> None:
    # Weights older than torch 0.4.1, and most conversions, have none.
    state = {k: v for k, v in image_network().items() if not k.endswith("num_batches_tracked")}
    model = network()
    load_weights(model, state)
    assert torch.equal(model.state_dict()["bn1.running_mean"], state["bn1.running_mean"])


def test_classifier_of_the_same_size_is_not_taken() -> None:
    state = image_network(classes=5)
    model = network()
    load_weights(model, state)
    assert not torch.equal(model.fc.weight, state["fc.weight"])


def test_half_precision_tensors_are_widened() -> None:
    state = {k: v.half() if v.dim() == 4 else v for k, v in image_network().items()}
    model = network()
    load_weights(model, state)
    own = model.state_dict()["conv1.weight"]
    assert own.dtype == torch.float32
    assert torch.equal(own, state["conv1.weight"].float())


def test_nothing_is_fetched_for_a_file(cache: Path, tmp_path: Path) -> None:
    save_file(image_network(), tmp_path / "weights.safetensors")
    load_weights(network(), tmp_path / "weights.safetensors")
    assert not cache.exists()
    assert imagenet.PUBLISHED is PUBLISHED
