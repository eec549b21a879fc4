from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from smnet.models import create_model, list_models, load_weights, multiply_adds, parameter_count
from smnet.models.base import VideoModel
from smnet.models.resnet3d import _inflated

NAMES = ["i3d_resnet18", "slow_resnet18", "i3d_resnet50", "slow_resnet50"]


def scramble(model: VideoModel) -> VideoModel:
    """Running statistics and gains as after training, so that no mistake hides behind ones."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor, low, high in (
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.1),
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.8, 1.2),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return model.eval()


def test_slow_is_the_published_size() -> None:
    with torch.device("meta"):
        model = create_model("slow_resnet50", 174)
        kinetics = create_model("slow_resnet50", 400)
    # 31.99 M and 41.7 GMAC: as measured on PyTorchVideo's
    assert parameter_count(model) == 31_991_022
    assert multiply_adds(model) == pytest.approx(41.7e9, rel=0.005)
    # 32.45 M with 400 classes, and 54.52 GMAC at 256 pixels: its published table
    assert parameter_count(kinetics) == 32_454_096
    assert multiply_adds(model, size=256) == pytest.approx(54.52e9, rel=0.001)


def test_i3d_is_the_published_size() -> None:
    with torch.device("meta"):
        model = create_model("i3d_resnet50", 400)
    assert parameter_count(model) == pytest.approx(28.04e6, abs=5e3)


def lengths(model: VideoModel) -> list[list[int]]:
    """Kernel lengths over time: the stem's, then of the first convolutions of each stage."""
    layers = [model.layer1, model.layer2, model.layer3, model.layer4]
    return [[model.conv1.kernel_size[0]]] + [
        [block.conv1.kernel_size[0] for block in layer] for layer in layers
    ]


def test_kernel_lengths() -> None:
    assert lengths(create_model("i3d_resnet50", 2, width=8)) == [
        [5],
        [3, 3, 3],
        [3, 1, 3, 1],
        [3, 1, 3, 1, 3, 1],
        [1, 3, 1],
    ]
    assert lengths(create_model("slow_resnet50", 2, width=8)) == [
        [1],
        [1] * 3,
        [1] * 4,
        [3] * 6,
        [3] * 3,
    ]
    assert lengths(create_model("i3d_resnet18", 2, width=8)) == [
        [5],
        [3, 3],
        [3, 1],
        [3, 1],
        [1, 3],
    ]
    for name in NAMES:
        model = create_model(name, 2, width=8)
        for key, module in model.named_modules():
            if isinstance(module, nn.Conv3d):
                assert module.stride[0] == 1, key
                assert module.padding[0] == module.kernel_size[0] // 2, key
                first = key == "conv1" or (key.endswith(".conv1") and key.startswith("layer"))
                assert first or module.kernel_size[0] == 1, key


def test_names_are_torchvisions() -> None:
    for depth in (18, 50):
        flat = create_model(f"tsn_resnet{depth}", 2, width=8).state_dict()
        for family in ("i3d", "slow"):
            assert list(create_model(f"{family}_resnet{depth}", 2, width=8).state_dict()) == list(
                flat
            )


def test_registry() -> None:
    assert set(NAMES) <= set(list_models())
    model = create_model("slow_resnet18", 3, 4, width=8)
    assert (model.spec.sampling, model.spec.frames_per_clip) == ("dense", 4)
    with pytest.raises(ValueError, match="multiple of 8"):
        create_model("slow_resnet18", 3, width=12)
    with pytest.raises(ValueError, match="no option 'place'"):
        create_model("i3d_resnet18", 3, place="before_conv1")
    with pytest.raises(ValueError, match="expected clips"):
        model(torch.zeros(2, 3, 4, 32, 32))


@pytest.mark.parametrize("segments", [1, 2, 5, 8, 16])
@pytest.mark.parametrize("name", NAMES)
def test_shapes_at_any_length(name: str, segments: int) -> None:
    torch.manual_seed(0)
    model = scramble(create_model(name, 3, segments, width=8))
    clips = torch.randn(2, segments, 3, 64, 32)
    with torch.no_grad():
        features = model.forward_features(clips)
        left = max(segments // 2, 1) if name.startswith("i3d") else segments
        assert features.shape == (2, left, model.num_features, 2, 1)
        assert model(clips).shape == (2, 3)


def test_i3d_pool_is_optional() -> None:
    model = create_model("i3d_resnet18", 3, width=8, halve_after_res2=False).eval()
    assert model.forward_features(torch.randn(1, 6, 3, 32, 32)).shape[1] == 6


@pytest.mark.parametrize("name", NAMES)
def test_clips_are_independent_and_order_counts(name: str) -> None:
    torch.manual_seed(0)
    model = scramble(create_model(name, 3, 8, width=8))
    nn.init.normal_(model.fc.weight)
    clips = torch.randn(2, 8, 3, 32, 32)
    with torch.no_grad():
        scores = model(clips)
        torch.testing.assert_close(scores[:1], model(clips[:1]), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(scores, model(clips.flip(1)), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "frames", "inner"),
    [
        # a frame is inner when no kernel on its way sees the padding at the clip's ends:
        # i3d-18: 2 + 1 + 1 frames, halved, then 1 + 1 + 1; slow-18: 4 frames; slow-50: 9 frames
        ("i3d_resnet18", 24, slice(5, 7)),
        ("slow_resnet18", 10, slice(4, 6)),
        ("slow_resnet50", 20, slice(9, 11)),
    ],
)
def test_inflated_network_equals_the_2d_network_on_a_static_clip(
    name: str, frames: int, inner: slice
) -> None:
    torch.manual_seed(0)
    flat = scramble(create_model(f"tsn_{name.partition('_')[2]}", 3, width=8))
    model = create_model(name, 3, width=8).eval()
    head = model.fc.weight.clone()
    load_weights(model, flat.state_dict())
    assert torch.equal(model.fc.weight, head)
    image = torch.randn(1, 1, 3, 64, 64)
    with torch.no_grad():
        expected = flat.forward_features(image)
        features = model.forward_features(image.expand(-1, frames, -1, -1, -1))
    inside = features[:, inner]
    assert inside.shape[1] == 2
    torch.testing.assert_close(inside, expected.expand_as(inside), rtol=1e-4, atol=1e-5)
    for just_outside in (inner.start - 1, inner.stop):
        assert not torch.allclose(features[:, just_outside], expected[:, 0], rtol=1e-4, atol=1e-5)


def test_inflation_keeps_the_sum_over_time() -> None:
    weight = torch.randn(4, 3, 7, 7)
    inflated = _inflated(weight, 5)
    assert inflated.shape == (4, 3, 5, 7, 7)
    torch.testing.assert_close(inflated.sum(2), weight)
    torch.testing.assert_close(inflated[:, :, 0], inflated[:, :, 4])


def test_weights_of_a_3d_network_are_not_inflated() -> None:
    source = create_model("slow_resnet18", 3, width=8)
    model = create_model("slow_resnet18", 5, width=8)
    load_weights(model, source.state_dict())
    for key, value in model.state_dict().items():
        assert key.startswith("fc.") or torch.equal(value, source.state_dict()[key]), key


def test_weights_of_another_trunk_are_refused() -> None:
    model = create_model("slow_resnet18", 3, width=8)
    wider = create_model("tsn_resnet18", 3, width=16).state_dict()
    with pytest.raises(ValueError, match="the shape differs in"):
        load_weights(model, wider)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_trained(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, 3, 4, width=8)
    F.cross_entropy(model(torch.randn(2, 4, 3, 32, 32)), torch.tensor([0, 2])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
