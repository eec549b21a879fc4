"""STM: both modules and both blocks against the equations, sizes, starts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import create_model, list_models, multiply_adds, parameter_count
from smnet.models.resnet import BasicBlock, Bottleneck, ResidualBlock
from smnet.models.stm import ChannelwiseMotion, SpatioTemporalMotion

from .reference import (
    assert_all_parameters_learn,
    assert_clips_stay_apart,
    assert_order_counts,
    assert_same,
    naive_conv_over_time,
    naive_norm,
    noise,
    scramble,
    small,
)


def naive_motion(x: Tensor, m: ChannelwiseMotion, segments: int, stride: int) -> Tensor:
    """Frame by frame at full resolution; of that, the pixels that a strided 3x3 is centred on."""
    f = torch.einsum("oi,nihw->nohw", m.squeeze.weight[:, :, 0, 0], x)
    moved = F.conv2d(f, m.transform.weight, padding=1, groups=f.shape[1])
    d = torch.stack(
        [
            torch.zeros_like(f[n]) if n % segments == segments - 1 else moved[n + 1] - f[n]
            for n in range(x.shape[0])
        ]
    )
    y = torch.einsum("oi,nihw->nohw", m.expand.weight[:, :, 0, 0], d)
    return y[:, :, ::stride, ::stride]


def naive_block(x: Tensor, m: ResidualBlock, segments: int, stride: int) -> Tensor:
    bottleneck = isinstance(m, Bottleneck)
    part = m.temporal
    assert isinstance(part, SpatioTemporalMotion)
    one, two = (1, stride) if bottleneck else (stride, 1)
    y = F.conv2d(x, m.conv1.weight, stride=one, padding=0 if bottleneck else 1)
    y = torch.relu(naive_norm(y, m.bn1))
    mixed = naive_conv_over_time(y, part.over_time.weight, segments)
    spatial = F.conv2d(mixed, m.conv2.weight, stride=two, padding=1)
    y = naive_norm(spatial + naive_motion(y, part.motion, segments, two), m.bn2)
    if bottleneck:
        y = naive_norm(F.conv2d(torch.relu(y), m.conv3.weight), m.bn3)
    if m.downsample is not None:
        assert isinstance(m.downsample, nn.Sequential)
        x = naive_norm(F.conv2d(x, m.downsample[0].weight, stride=stride), m.downsample[1])
    return torch.relu(y + x)


def block(kind: type[BasicBlock] | type[Bottleneck], stride: int) -> ResidualBlock:
    into, out = 16 * kind.expansion, 16 * kind.expansion
    shortcut = None
    if stride > 1:
        into = 12
        shortcut = nn.Sequential(nn.Conv2d(12, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    part = SpatioTemporalMotion(16, reduction=4)
    made = kind(into, 16, stride, shortcut, part, "after_conv1").double()
    scramble(made)
    return made


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_block_is_its_equations(
    segments: int, kind: type[Bottleneck], stride: int, training: bool
) -> None:
    module = block(kind, stride).train(training)
    x = noise(2 * segments, 12 if stride > 1 else 16 * kind.expansion, 5, 4)
    assert_same(module, lambda a: naive_block(a, module, segments, stride), x, segments)


def test_single_precision() -> None:
    module = block(Bottleneck, 2).float().eval()
    x = noise(16, 12, 7, 7).float()
    y = naive_block(x, module, 8, 2)
    torch.testing.assert_close(module(x, 8), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
def test_motion_follows_the_stride(stride_in: str) -> None:
    model = small("stm_resnet50", 4, stride_in=stride_in)
    assert_clips_stay_apart(model, 4)


def test_a_still_film_has_no_motion_where_the_transform_does_nothing() -> None:
    motion = ChannelwiseMotion(16, 4).double()
    with torch.no_grad():
        motion.transform.weight.zero_()
        motion.transform.weight[:, :, 1, 1] = 1.0
        frame = noise(1, 16, 5, 5)
        assert not motion(frame.expand(4, -1, -1, -1), 4).any()
        assert motion(noise(4, 16, 5, 5), 4)[:3].any()


def test_starts_as_the_article_says() -> None:
    model = create_model("stm_resnet50", 5)
    part = model.get_submodule("layer3.1.temporal")
    assert isinstance(part, SpatioTemporalMotion)
    taps = part.over_time.weight[:, 0]
    previous, own, following = torch.eye(3)
    assert torch.equal(taps[:64], previous.expand(64, 3))
    assert torch.equal(taps[64:192], own.expand(128, 3))
    assert torch.equal(taps[192:], following.expand(64, 3))
    assert all(p.any() for p in part.motion.parameters())


def test_size_is_the_published_one() -> None:
    with torch.device("meta"):
        model = create_model("stm_resnet50", 174)
        trunk = create_model("tsn_resnet50", 174)
    planes = [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3
    added = sum(3 * c + 2 * c * c // 16 + 9 * c // 16 for c in planes)
    assert parameter_count(model) == parameter_count(trunk) + added == 24_035_194  # 24.0 M
    assert multiply_adds(model, 8) == pytest.approx(33.3e9, rel=0.01)


def test_on_resnets() -> None:
    assert list_models("stm_*") == [f"stm_resnet{depth}" for depth in (101, 18, 34, 50)]
    with pytest.raises(ValueError, match="stm_resnet18 has no option 'place'"):
        create_model("stm_resnet18", 5, place="before_conv1")
    with pytest.raises(ValueError, match="did you mean 'reduction'"):
        create_model("stm_resnet18", 5, reductoin=4)


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_any_number_of_segments(segments: int) -> None:
    assert_clips_stay_apart(small("stm_resnet18", 8), segments)


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50"])
def test_order_counts(trunk: str) -> None:
    assert_order_counts(small(f"stm_{trunk}", 8), 8)


def test_all_parameters_learn() -> None:
    assert_all_parameters_learn(small("stm_resnet18", 4, training=True), 4)
