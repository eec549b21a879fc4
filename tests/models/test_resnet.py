"""The trunk: torchvision's names, shapes and counts; strides; where a temporal part stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smnet.models import VideoModel, create_model, parameter_count
from smnet.models.resnet import BlockSite

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def published_shapes(depth: int, classes: int = 1000) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ``resnet{depth}``, by rule."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, into: int, side: int) -> None:
        shapes[f"{name}.weight"] = (out, into, side, side)

    def norm(name: str, channels: int) -> None:
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{key}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    expansion = 1 if depth < 50 else 4
    channels = 64
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        planes = 32 * 2**stage
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            if depth < 50:
                sizes = [(planes, channels, 3), (planes, planes, 3)]
            else:
                sizes = [(planes, channels, 1), (planes, planes, 3), (4 * planes, planes, 1)]
            for number, (out, into, side) in enumerate(sizes, start=1):
                conv(f"{at}.conv{number}", out, into, side)
                norm(f"{at}.bn{number}", out)
            if block == 0 and (stage > 1 or channels != planes * expansion):
                conv(f"{at}.downsample.0", planes * expansion, channels, 1)
                norm(f"{at}.downsample.1", planes * expansion)
            channels = planes * expansion
    shapes["fc.weight"], shapes["fc.bias"] = (classes, channels), (classes,)
    return shapes


def on_paper(name: str, classes: int = 1000, **options: Any) -> VideoModel:
    with torch.device("meta"):
        return create_model(name, classes, 8, **options)


@pytest.mark.parametrize(
    ("depth", "entries", "parameters"),
    [
        (18, 122, 11_689_512),
        (34, 218, 21_797_672),
        (50, 320, 25_557_032),
        (101, 626, 44_549_160),
    ],
)
def test_names_shapes_and_counts_are_torchvisions(
    depth: int, entries: int, parameters: int
) -> None:
    model = on_paper(f"tsn_resnet{depth}")
    own = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    expected = published_shapes(depth)
    assert own == expected
    assert len(own) == entries
    assert parameter_count(model) == parameters


@pytest.mark.parametrize("depth", BLOCKS)
def test_temporal_parts_only_add_names(depth: int) -> None:
    own = {k: tuple(v.shape) for k, v in on_paper(f"smnet_resnet{depth}").state_dict().items()}
    expected = published_shapes(depth)
    assert {k: v for k, v in own.items() if ".temporal." not in k} == expected


@pytest.mark.parametrize("width", [8, 16, 32, 128])
@pytest.mark.parametrize("depth", [18, 50])
def test_width_scales_every_layer(depth: int, width: int) -> None:
    own = {
        k: tuple(v.shape)
        for k, v in on_paper(f"tsn_resnet{depth}", width=width).state_dict().items()
    }
    for key, shape in published_shapes(depth).items():
        scaled = tuple(n * width // 64 if n not in (1, 3, 7, 1000) else n for n in shape)
        assert own[key] == scaled, key


def strides(model: VideoModel) -> dict[str, int]:
    """Convolutions with a stride, but for the stem and the projections."""
    return {
        name: m.stride[0]
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d)
        and m.stride != (1, 1)
        and name != "conv1"
        and "downsample" not in name
    }


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
def test_stride_of_the_first_bottleneck(stride_in: str) -> None:
    model = on_paper("tsn_resnet50", stride_in=stride_in)
    assert strides(model) == {f"layer{n}.0.{stride_in}": 2 for n in (2, 3, 4)}
    for n in (2, 3, 4):
        projection = model.get_submodule(f"layer{n}.0.downsample.0")
        assert isinstance(projection, nn.Conv2d)
        assert projection.stride == (2, 2)


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
def test_basic_blocks_ignore_stride_in(stride_in: str) -> None:
    model = on_paper("tsn_resnet18", stride_in=stride_in)
    assert strides(model) == {f"layer{n}.0.conv1": 2 for n in (2, 3, 4)}


def test_both_strides_have_the_same_tensors_and_different_scores() -> None:
    torch.manual_seed(0)
    one = create_model("tsn_resnet50", 5, 2, width=8).eval()
    two = create_model("tsn_resnet50", 5, 2, width=8, stride_in="conv1").eval()
    two.load_state_dict(one.state_dict())
    clips = torch.randn(1, 2, 3, 64, 64)
    with torch.no_grad():
        assert one.forward_features(clips).shape == two.forward_features(clips).shape
        assert not torch.allclose(one(clips), two(clips), rtol=1e-3, atol=0)


@pytest.mark.parametrize("depth", [18, 50])
def test_features_shrink_by_32(depth: int) -> None:
    model = create_model(f"tsn_resnet{depth}", 5, 2, width=8).eval()
    with torch.no_grad():
        features = model.forward_features(torch.zeros(1, 2, 3, 96, 64))
        assert features.shape == (1, 2, 64 if depth == 18 else 256, 3, 2)
        assert model.forward_features(torch.zeros(1, 2, 3, 65, 33)).shape[-2:] == (3, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, "width must be a multiple of 8 from 8 to 512"),
        ({"width": 20}, "width must be a multiple of 8 from 8 to 512"),
        ({"stride_in": "conv3"}, "stride_in must be conv1 or conv2, not 'conv3'"),
        ({"place": "conv2"}, "place must be before_conv1 or after_conv1, not 'conv2'"),
    ],
)
def test_impossible_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        create_model("tsm_resnet18", 5, **options)


def test_site_knows_its_channels() -> None:
    site = BlockSite(stage=3, index=0, blocks=4, in_channels=256, mid_channels=128)
    assert site.channels("before_conv1") == 256
    assert site.channels("after_conv1") == 128


def test_trunk_is_initialised_as_by_he() -> None:
    torch.manual_seed(0)
    model = create_model("tsn_resnet50", 5)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / out) ** 0.5, rel=0.1), name


# ---------------------------------------------------------------- real weights, where given


@pytest.fixture
def real_weights() -> Path:
    path = os.environ.get("SMNET_TEST_WEIGHTS")
    if not path:
        pytest.skip("SMNET_TEST_WEIGHTS names no ResNet-50 file (Caffe strides, .safetensors)")
    return Path(path)


def test_real_weights_load_and_are_alive(real_weights: Path) -> None:
    from safetensors.torch import load_file

    stored = load_file(real_weights)
    model = create_model(
        "smnet_resnet50", 5, 2, weights=str(real_weights), stride_in="conv1"
    ).eval()
    own = model.state_dict()
    for key, value in stored.items():
        if not key.startswith("fc."):
            assert torch.equal(own[key], value.to(own[key].dtype)), key

    # A trunk that fits its running statistics keeps features near unit size through 50 layers.
    image = create_model("tsn_resnet50", 1000, 1, weights=str(real_weights), stride_in="conv1")
    image.fc.load_state_dict({k[3:]: v for k, v in stored.items() if k.startswith("fc.")})
    image.eval()
    torch.manual_seed(0)
    coarse = torch.randn(1, 1, 3, 8, 8).flatten(0, 1)
    clips: Tensor = nn.functional.interpolate(coarse, (224, 224), mode="bicubic")[None]
    with torch.no_grad():
        features = image.forward_features(clips)
        scores = image(clips).softmax(-1)
    assert 0.1 < features.mean() < 2
    assert scores.max() > 0.02, "a trained classifier is far from chance, even on clouds"


@pytest.mark.parametrize("name", ["tsn_resnet18", "tdn_resnet18"])
def test_the_head_sees_the_last_two_stages(name: str) -> None:
    model = create_model(name, 3, 2, width=8, features="res4+res5").eval()
    seen: dict[str, Tensor] = {}
    for layer in ("layer3", "layer4"):
        model.get_submodule(layer)[-1].register_forward_hook(
            lambda module, args, out, layer=layer: seen.__setitem__(layer, out)
        )
    clips = torch.randn(1, model.spec.frames_per_clip, 3, 72, 72)  # maps of 5 x 5 and 3 x 3
    features = model.forward_features(clips)
    assert features.shape == (1, 2, model.num_features, 3, 3)
    below, above = features[0].split([32, 64], dim=1)
    assert torch.equal(above, seen["layer4"])
    assert torch.allclose(below[:, :, 0, 1], seen["layer3"][:, :, :2, 2:4].mean((2, 3)), atol=1e-6)
    assert torch.allclose(below[:, :, 2, 2], seen["layer3"][:, :, 4, 4], atol=1e-6)
    assert model(clips).shape == (1, 3)
