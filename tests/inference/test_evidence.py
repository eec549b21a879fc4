"""The evidence of frames and places: its sum is the logit, for every family, head and engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smnet.data.loading.transforms import normalise
from smnet.errors import UserError
from smnet.inference.backends import open_backend
from smnet.inference.classifier import Classifier, decompose, features_metadata, read_features
from smnet.inference.evidence import evidence_of
from smnet.inference.exported import onnx_metadata
from smnet.inference.recognizer import Recognizer
from smnet.inference.torch_backend import TorchBackend
from smnet.inference.vectors import vectors_of
from smnet.models import VideoModel, create_model
from smnet.models.base import over_phases, over_time
from tests.families import ONE_OF_EACH

pytestmark = pytest.mark.usefixtures("short_network")


def small(name: str, **options: object) -> VideoModel:
    """A model of 4 classes and 3 segments of 64x64 pixels, away from its start."""
    width = {} if name.endswith("mobilenetv2") else {"width": 8}
    torch.manual_seed(0)
    model = create_model(name, 4, 3, **width, **options)
    model.spec = replace(model.spec, input_size=64, short_side=64)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    nn.init.normal_(model.fc.weight, 0, 0.2)
    nn.init.normal_(model.fc.bias)
    return model.eval()


def view(model: VideoModel) -> NDArray[np.uint8]:
    frames = model.spec.frames_per_clip
    return np.random.default_rng(1).integers(0, 256, (1, frames, 3, 64, 64), dtype=np.uint8)


def logits_of(model: VideoModel, views: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        clips = normalise(torch.from_numpy(views), model.spec.mean, model.spec.std)
        scores: NDArray[np.float32] = model(clips)[0].numpy()
    return scores


@pytest.mark.parametrize("head", ["mean", "motion", "phases"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_sum_is_the_logit_of_every_class(name: str, head: str) -> None:
    model = small(name, head=head)
    views = view(model)
    found = evidence_of(TorchBackend(model, "cpu"), views)
    expected = logits_of(model, views)
    assert found.exact
    assert found.maps.shape[0] == 4
    assert found.maps.shape[2:] == (2, 2)
    sums = found.maps.sum((1, 2, 3), dtype=np.float64) + found.constant
    assert np.allclose(sums, expected, atol=2e-4 * max(np.abs(expected).max(), 1))
    assert np.allclose(found.logits, sums)
    against = found.curve("1", "2").sum() + found.constant[1] - found.constant[2]
    assert against == pytest.approx(found.logits[1] - found.logits[2], abs=1e-4)
    assert found.frames.shape == (3, 64, 64, 3)


def test_a_causal_model_and_several_labels() -> None:
    model = small("smnet_resnet18", causal=True)
    model.spec = replace(model.spec, several=True)
    found = evidence_of(TorchBackend(model, "cpu"), view(model))
    assert np.allclose(1 / (1 + np.exp(-found.logits)), found.scores, atol=1e-5)


@pytest.mark.parametrize(("seen", "count"), [(over_time, 3), (over_phases, 9)])
def test_the_moments_of_the_heads_are_sums_over_places(
    seen: Callable[[Tensor], Tensor], count: int
) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 6, 2, 3)).astype(np.float32)
    weight = rng.normal(size=(4, 6 * count)).astype(np.float32)
    maps, constant = decompose(features, Classifier(weight, np.zeros(4, np.float32)))
    moments = seen(torch.from_numpy(features)[None])[0].numpy()
    assert np.allclose(maps.sum((1, 2, 3)) + constant, weight @ moments, atol=1e-5)


def test_a_channel_that_moves_in_one_place_has_its_motion_there() -> None:
    still = np.zeros((3, 1, 1, 2), np.float32)
    still[1, 0, 0, 1] = 2
    motion = Classifier(np.array([[0, 0, 1]], np.float32), np.zeros(1, np.float32))
    maps, _ = decompose(still, motion)
    # |2 - 0| and |0 - 2| at the right place, over 2 pairs and 2 places: 1 in all.
    assert np.allclose(maps[0, :, 0], [[0, 0.25], [0, 0.5], [0, 0.25]])


class Square(nn.Module):
    """A head that is not linear: the squares of the first channels."""

    def forward(self, features: Tensor) -> Tensor:
        return features[..., :4] ** 2


def test_another_head_is_explained_by_its_gradient() -> None:
    model = small("tsn_resnet18")
    model.fc = Square()
    views = view(model)
    backend = TorchBackend(model, "cpu")
    found = evidence_of(backend, views)
    assert not found.exact
    assert "Its sum is not the logit" in found.meaning
    maps = backend.features(views[None], pool=lambda maps: maps)[0, 0]
    pooled = maps.mean((2, 3))
    for k in range(4):  # d/df of mean_t p_t^2 is 2 p_t / (T h w)
        naive = 2 * pooled[:, k, None, None] * maps[:, k] / (3 * 2 * 2)
        assert np.allclose(found.maps[k], naive, atol=1e-5)


def test_a_head_that_pools_in_its_own_way_is_explained_by_its_gradient() -> None:
    model = small("tsn_resnet18")
    own = {"forward_head": lambda self, maps: self.fc(maps.amax((1, 3, 4)))}
    model.__class__ = type("Largest", (type(model),), own)
    found = evidence_of(TorchBackend(model, "cpu"), view(model))
    assert not found.exact
    assert np.allclose(found.logits, logits_of(model, view(model)), atol=1e-4)
    # A maximum is linear where it is taken: here the sum is the logit without its bias.
    bias = model.fc.bias.detach().numpy()
    assert np.allclose(found.constant, bias, atol=1e-4)


def test_names_of_classes() -> None:
    model = small("tsn_resnet18")
    model.spec = replace(model.spec, class_names=("falling", "resting", "rising", "none"))
    found = evidence_of(TorchBackend(model, "cpu"), view(model))
    assert found.map_of("rising").shape == (3, 2, 2)
    assert np.array_equal(found.map_of(), found.map_of(found.label))
    with pytest.raises(UserError, match="no class 'risin'; did you mean 'rising'"):
        found.map_of("risin")


def test_a_recogniser_explains_a_video(
    run: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the run has a whole network
    recognizer = Recognizer.load(run, "cpu")
    video = clips / "val" / "rising" / "0.mp4"
    found, prediction = recognizer.explain(video), recognizer.predict(video)
    assert found.label == prediction.label
    assert found.scores.max() == pytest.approx(prediction.score)
    assert found.path == str(video)
    assert Recognizer.load(run, "cpu", (2, 3)).explain(video).scores.max() == found.scores.max()
    assert recognizer.explain(video, start=0, end=0.1).path.startswith(f"{video} ")


def test_features_in_the_metadata_of_a_file() -> None:
    layer = Classifier(np.eye(2, 3, dtype=np.float32), np.array([1, 2], np.float32))
    metadata = features_metadata((4, 3, 7, 7), layer)
    shape, again = read_features(metadata, 2)
    assert shape == [4, 3, 7, 7]
    assert again is not None
    assert np.array_equal(again.weight, layer.weight)
    assert np.array_equal(again.bias, layer.bias)
    assert read_features({}, 2) == ([], None)
    for damage in ({"features": "[4, 3]"}, {"classifier": "AAAA"}, {"features": "{"}):
        with pytest.raises(ValueError):
            read_features(metadata | damage, 2)


@pytest.mark.usefixtures("torchlib", "few_blocks")
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_exported_file_explains_as_its_checkpoint(to: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", *([to] if to == "openvino" else [])):
        pytest.importorskip(package, reason="an extra is not installed")
    from smnet.export.writers import ENGINES, quiet_exporter

    model = small("smnet_resnet18", stages=(5,))
    backend = TorchBackend(model, "cpu")
    views = view(model)
    ours = evidence_of(backend, views)
    assert backend.classifier is not None
    layer = features_metadata((*ours.maps.shape[1:2], 64, *ours.maps.shape[2:]), backend.classifier)
    path = tmp_path / f"net{ENGINES[to].suffix}"
    with quiet_exporter():
        ENGINES[to].write(model, path, onnx_metadata(model.spec) | layer, False, None)
    exported = open_backend(path, "cpu")
    theirs = evidence_of(exported, views)
    assert theirs.exact
    assert np.allclose(theirs.maps, ours.maps, atol=1e-3)
    assert np.allclose(exported.features(views[None]), backend.features(views[None]), atol=1e-3)
    frames = np.random.default_rng(1).integers(0, 256, (12, 40, 52, 3), np.uint8)
    vector = Recognizer(exported).embed(torch.from_numpy(frames))
    # The two scale frames with other libraries, which differ by a grey level.
    assert vector == pytest.approx(Recognizer(backend).embed(frames), abs=0.05)
    assert vectors_of(exported, views[None]) == pytest.approx(
        vectors_of(backend, views[None]), abs=1e-3
    )
