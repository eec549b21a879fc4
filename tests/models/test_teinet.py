"""TEINet: its module against the equations, sizes, starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smnet.models import create_model, multiply_adds, parameter_count
from smnet.models.layers import TemporalConv
from smnet.models.teinet import EnhancementAndInteraction

from .reference import (
    assert_all_parameters_learn,
    assert_clips_stay_apart,
    assert_order_counts,
    assert_same,
    naive_conv_over_time,
    noise,
    scramble,
    small,
)


def naive(x: Tensor, m: EnhancementAndInteraction, segments: int) -> Tensor:
    z = x.mean((2, 3))
    frames = []
    for n in range(x.shape[0]):
        if n % segments == segments - 1:
            frames.append(x[n])
            continue
        one = m.squeeze.weight[:, :, 0, 0] @ z[n] + m.squeeze.bias
        two = m.squeeze_next.weight[:, :, 0, 0] @ z[n + 1] + m.squeeze_next.bias
        score = m.expand.weight[:, :, 0, 0] @ (one - two) + m.expand.bias
        frames.append(x[n] / (1 + torch.exp(-score))[:, None, None])
    return naive_conv_over_time(torch.stack(frames), m.interaction.weight, segments)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_module_is_its_equations(segments: int, training: bool, channels_last: bool) -> None:
    module = EnhancementAndInteraction(16, reduction=4).double().train(training)
    scramble(module)
    x = noise(2 * segments, 16, 5, 4)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    assert_same(module, lambda a: naive(a, module, segments), x, segments)


def test_single_precision() -> None:
    module = EnhancementAndInteraction(16).eval()
    scramble(module)
    x = noise(16, 16, 7, 7).float()
    torch.testing.assert_close(module(x, 8), naive(x, module, 8), rtol=1e-5, atol=1e-5)


def test_the_last_frame_is_not_gated() -> None:
    module = EnhancementAndInteraction(16).double()
    scramble(module)
    gates = module.gates(noise(8, 16, 3, 3), 4)
    assert (gates[[3, 7]] == 1).all()
    assert ((gates[[0, 1, 2, 4, 5, 6]] > 0) & (gates[[0, 1, 2, 4, 5, 6]] < 1)).all()


def test_starts_as_a_shift() -> None:
    part = create_model("teinet_resnet18", 5).get_submodule("layer2.0.temporal")
    assert isinstance(part, EnhancementAndInteraction)
    assert torch.equal(part.interaction.weight, TemporalConv(64).weight)


def test_size_is_the_published_one() -> None:
    with torch.device("meta"):
        model = create_model("teinet_resnet50", 400)
        trunk = create_model("tsn_resnet50", 400)
    into = [64, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 2]
    added = sum(3 * c * c // 8 + 2 * c // 8 + c + 3 * c for c in into)
    assert parameter_count(model) == parameter_count(trunk) + added == 30_356_896  # 30.4 M
    assert multiply_adds(model, 8) == pytest.approx(33e9, rel=0.005)


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_any_number_of_segments(segments: int) -> None:
    assert_clips_stay_apart(small("teinet_resnet18", 8), segments)


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50", "res2net50", "mobilenetv2"])
def test_order_counts(trunk: str) -> None:
    assert_order_counts(small(f"teinet_{trunk}", 8), 8)


def test_all_parameters_learn() -> None:
    assert_all_parameters_learn(small("teinet_resnet18", 4, training=True), 4)


def test_options() -> None:
    model = create_model("teinet_resnet18", 5, width=8, place="after_conv1", reduction=4)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes["layer2.0.temporal.squeeze.weight"] == (4, 16, 1, 1)
