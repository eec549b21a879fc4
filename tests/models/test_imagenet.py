"""Image weights: where they are looked for, what is refused, and that no file runs code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from smnet.models import VideoModel, create_model, imagenet, load_weights
from smnet.models.imagenet import PUBLISHED, imagenet_file


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


def test_the_file_is_downloaded_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_cache_that_cannot_be_created(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file where a folder must be")
    with pytest.raises(ValueError, match="put the file at"):
        imagenet_file("resnet18")


def test_trunk_without_published_weights(cache: Path) -> None:
    with pytest.raises(ValueError, match="no ImageNet weights are published for resnet19"):
        imagenet_file("resnet19")


# ---------------------------------------------------------------- another trunk


def test_missing_tensors_are_named(tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match=r"it also has layer1\.2\..* and \d+ more"):
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
    with pytest.raises(ValueError, match=r"the shape differs in .*temporal"):
        load_weights(model, other)
    assert_unchanged(model, before)


def test_a_mapping_of_unknown_names() -> None:
    with pytest.raises(
        ValueError, match=r"the mapping of tensors is not a trunk .* lacks conv1\.weight"
    ):
        load_weights(network(), {"encoder.weight": torch.zeros(1)})


def test_counters_of_batches_may_be_absent() -> None:
    # Weights older than torch 0.4.1, and most conversions, have none.
    state = {k: v for k, v in image_network().items() if not k.endswith("num_batches_tracked")}
    model = network()
    load_weights(model, state)
    assert torch.equal(model.state_dict()["bn1.running_mean"], state["bn1.running_mean"])


def test_the_classifier_is_not_loaded() -> None:
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


def test_a_file_needs_no_download(cache: Path, tmp_path: Path) -> None:
    save_file(image_network(), tmp_path / "weights.safetensors")
    load_weights(network(), tmp_path / "weights.safetensors")
    assert not cache.exists()
    assert imagenet.PUBLISHED is PUBLISHED
