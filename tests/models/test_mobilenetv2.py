from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import create_model, list_models, load_weights, multiply_adds, parameter_count
from smnet.models.base import ModelSpec, VideoModel
from smnet.models.imagenet import PUBLISHED
from smnet.models.mobilenetv2 import InvertedResidual, MobileNetOptions, MobileNetV2
from smnet.models.resnet import BlockSite

# expansion, channels, blocks, stride: table 2 of the article
TABLE = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def scramble(model: VideoModel) -> VideoModel:
    """Gains and statistics as after training, so that no mistake hides behind ones, nor behind
    features that fade: channel-wise convolutions start small."""
    generator = torch.Generator().manual_seed(1)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.8, 1.2, generator=generator)
        norm.bias.data.uniform_(-0.1, 0.1, generator=generator)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 2, 3, 48, 48, generator=generator))
    return model.eval()


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network as the article draws it, from tensors in torchvision's names."""

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, gain, bias = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gain + bias

    x = norm(conv(x, "features.0.0", 2), "features.0.1").clamp(0, 6)
    number = 1
    for expand, channels, blocks, stride in TABLE:
        for block in range(blocks):
            name = f"features.{number}.conv"
            y, layer = x, 0
            if expand > 1:
                y, layer = norm(conv(y, f"{name}.0.0"), f"{name}.0.1").clamp(0, 6), 1
            step = stride if block == 0 else 1
            y = conv(y, f"{name}.{layer}.0", step, groups=y.shape[1])
            y = norm(y, f"{name}.{layer}.1").clamp(0, 6)
            y = norm(conv(y, f"{name}.{layer + 1}"), f"{name}.{layer + 2}")
            assert y.shape[1] == channels
            x = y + x if step == 1 and x.shape == y.shape else y
            number += 1
    return norm(conv(x, "features.18.0"), "features.18.1").clamp(0, 6)


def test_size_is_the_published_one() -> None:
    with torch.device("meta"):
        model = create_model("tsn_mobilenetv2", num_classes=1000)
    assert parameter_count(model) == 3_504_872
    assert multiply_adds(model, num_segments=1) == pytest.approx(0.3008e9, rel=0.005)


def test_names_and_features_are_torchvisions() -> None:
    torch.manual_seed(0)
    model = scramble(create_model("tsn_mobilenetv2", num_classes=5)).double()
    state = model.state_dict()
    # 52 convolutions with BatchNorm (6 tensors each) and the classifier
    assert len(state) == 52 * 6 + 2
    clips = torch.randn(2, 3, 3, 48, 40, dtype=torch.float64)
    with torch.no_grad():
        features = model.forward_features(clips)
        torch.testing.assert_close(
            features.flatten(0, 1), reference(state, clips.flatten(0, 1)), rtol=1e-6, atol=1e-8
        )
        assert features.shape == (2, 3, 1280, 2, 2)
        assert model(clips).shape == (2, 5)


def record_sites(width: int = 32) -> list[BlockSite]:
    seen: list[BlockSite] = []

    def temporal(site: BlockSite) -> nn.Module | None:
        seen.append(site)
        return None

    MobileNetV2(ModelSpec("x", 2), MobileNetOptions(width=width), temporal)
    return seen


def test_sites_are_the_ten_blocks_with_expansion_and_shortcut() -> None:
    assert [
        (s.stage, s.index, s.blocks, s.in_channels, s.mid_channels) for s in record_sites()
    ] == [
        (2, 0, 1, 24, 144),
        (3, 0, 2, 32, 192),
        (3, 1, 2, 32, 192),
        (4, 0, 5, 64, 384),
        (4, 1, 5, 64, 384),
        (4, 2, 5, 64, 384),
        (4, 3, 5, 96, 576),
        (4, 4, 5, 96, 576),
        (5, 0, 2, 160, 960),
        (5, 1, 2, 160, 960),
    ]


def test_temporal_parts_stand_in_those_blocks_at_their_resolution() -> None:
    shapes: list[tuple[int, ...]] = []

    class Recorder(nn.Module):
        def __init__(self, site: BlockSite) -> None:
            super().__init__()
            self.site = site

        def forward(self, x: Tensor, num_segments: int) -> Tensor:
            assert num_segments == 2
            assert x.shape[1] == self.site.in_channels
            assert x.shape[2] == 64 // 2**self.site.stage
            shapes.append(tuple(x.shape))
            return x

    model = MobileNetV2(ModelSpec("x", 2), MobileNetOptions(), Recorder).eval()
    model(torch.randn(1, 2, 3, 64, 64))
    assert len(shapes) == 10
    carrying = [i for i, f in enumerate(model.features) if getattr(f, "temporal", None) is not None]
    assert carrying == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]


class Double(nn.Module):
    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
def test_place_in_a_block(place: str) -> None:
    torch.manual_seed(0)
    block = InvertedResidual(8, 8, 1, 6, Double(), place).eval()  # type: ignore[arg-type]
    x = torch.randn(2, 8, 5, 5)
    expansion, depthwise, project, norm = block.conv
    if place == "before_conv1":
        y = expansion(2 * x)
    else:
        y = 2 * expansion(x)
    torch.testing.assert_close(block(x, 1), x + norm(project(depthwise(y))))


def test_place_is_checked() -> None:
    with pytest.raises(ValueError, match="place must be"):
        InvertedResidual(8, 8, 1, 6, None, "conv2")  # type: ignore[arg-type]


def test_width_scales_every_layer_but_the_last() -> None:
    small = MobileNetV2(ModelSpec("x", 2), MobileNetOptions(width=16))
    assert small.features[0][0].out_channels == 16
    assert small.num_features == 1280
    assert [s.in_channels for s in record_sites(16)][:4] == [16, 16, 16, 32]
    # as torchvision's width_mult=0.5 with 1000 classes
    assert parameter_count(create_model("tsn_mobilenetv2", 1000, width=16)) == 1_968_680
    with pytest.raises(ValueError, match="multiple of 8"):
        create_model("tsn_mobilenetv2", 2, width=20)


def test_families_on_mobilenetv2() -> None:
    assert {"smnet_mobilenetv2", "tsn_mobilenetv2"} <= set(list_models("*_mobilenetv2"))
    assert PUBLISHED["mobilenetv2"] == "mobilenet_v2-b0353104.pth"
    with pytest.raises(ValueError, match="no option 'stride_in'"):
        create_model("tsn_mobilenetv2", 2, stride_in="conv1")


def test_torchvision_weights_start_the_trunk_and_nothing_else() -> None:
    source = scramble(create_model("tsn_mobilenetv2", num_classes=1000))
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("fc.")}
    state |= {"classifier.1.weight": torch.ones(1000, 1280), "classifier.1.bias": torch.ones(1000)}
    model = create_model("smnet_mobilenetv2", num_classes=4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_weights(model, state)
    for key, value in model.state_dict().items():
        expected = before[key] if key.startswith("fc.") or ".temporal." in key else state[key]
        assert torch.equal(value, expected), key
    del state["features.14.conv.1.0.weight"]
    with pytest.raises(ValueError, match=r"lacks features\.14\.conv\.1\.0\.weight"):
        load_weights(model, state)


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
@pytest.mark.parametrize("segments", [1, 2, 8])
def test_smnet_on_it_keeps_clips_apart_and_trains(place: str, segments: int) -> None:
    torch.manual_seed(0)
    model = create_model("smnet_mobilenetv2", 3, segments, width=8, place=place)
    scramble(model)
    clips = torch.randn(2, segments, 3, 32, 32)
    with torch.no_grad():
        together, alone = model(clips), model(clips[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-6)
    model.train()
    F.cross_entropy(model(clips), torch.tensor([0, 2])).backward()
    silent = [k for k, p in model.named_parameters() if p.grad is None]
    assert not silent


def test_time_reversal_is_seen_with_temporal_parts_only() -> None:
    clips = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for family, seen in (("tsn", False), ("smnet", True)):
        torch.manual_seed(0)
        model = scramble(create_model(f"{family}_mobilenetv2", 3, 4, width=8))
        nn.init.normal_(model.fc.weight)
        with torch.no_grad():
            same = torch.allclose(model(clips), model(clips.flip(1)), rtol=1e-4, atol=1e-5)
        assert same is not seen
