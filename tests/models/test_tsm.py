"""TSM: the shift frame by frame, which blocks carry it, and that it costs nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smnet.models import create_model, load_weights, multiply_adds, parameter_count
from smnet.models.resnet import BasicBlock, Bottleneck, ResNet
from smnet.models.tsm import TemporalShift

from .reference import (
    assert_clips_stay_apart,
    assert_order_counts,
    assert_same,
    naive_norm,
    noise,
    scramble,
    small,
)


def naive_shift(x: Tensor, segments: int, div: int = 8) -> Tensor:
    fold = x.shape[1] // div
    frames = []
    for n in range(x.shape[0]):
        t = n % segments
        after = torch.zeros_like(x[n]) if t == segments - 1 else x[n + 1]
        before = torch.zeros_like(x[n]) if t == 0 else x[n - 1]
        frames.append(torch.cat([after[:fold], before[fold : 2 * fold], x[n, 2 * fold :]]))
    return torch.stack(frames)


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
@pytest.mark.parametrize("channels", [16, 19, 6])
def test_shift_is_its_equations(channels: int, segments: int) -> None:
    x = noise(2 * segments, channels, 3, 2)
    assert_same(TemporalShift(), lambda a: naive_shift(a, segments), x, segments)


@pytest.mark.parametrize("div", [2, 4])
def test_another_part_of_the_channels(div: int) -> None:
    x = noise(8, 12, 2, 2)
    assert_same(TemporalShift(div), lambda a: naive_shift(a, 4, div), x, 4)


def test_impossible_part_is_refused() -> None:
    with pytest.raises(ValueError, match="shift_div must be a whole number of at least 2, not 1"):
        create_model("tsm_resnet18", 5, shift_div=1)


def test_single_precision() -> None:
    x = noise(16, 32, 7, 7).float()
    assert torch.equal(TemporalShift()(x, 8), naive_shift(x, 8))


@pytest.mark.parametrize("segments", [2, 8])
def test_shift_stands_in_the_residual_branch_before_conv1(segments: int) -> None:
    block = BasicBlock(16, 16, temporal=TemporalShift()).double().eval()
    scramble(block)

    def naive(x: Tensor) -> Tensor:
        y = F.conv2d(naive_shift(x, segments), block.conv1.weight, padding=1)
        y = torch.relu(naive_norm(y, block.bn1))
        return torch.relu(naive_norm(F.conv2d(y, block.conv2.weight, padding=1), block.bn2) + x)

    assert_same(block, naive, noise(2 * segments, 16, 4, 4), segments)


def test_bottleneck_shifts_its_input_channels() -> None:
    block = Bottleneck(32, 8, temporal=TemporalShift()).double().eval()
    scramble(block)

    def naive(x: Tensor) -> Tensor:
        y = torch.relu(naive_norm(F.conv2d(naive_shift(x, 4), block.conv1.weight), block.bn1))
        y = torch.relu(naive_norm(F.conv2d(y, block.conv2.weight, padding=1), block.bn2))
        return torch.relu(naive_norm(F.conv2d(y, block.conv3.weight), block.bn3) + x)

    assert_same(block, naive, noise(8, 32, 4, 4), 4)


@pytest.mark.parametrize(
    ("trunk", "expected"),
    [
        ("resnet18", [[0, 1]] * 4),
        ("resnet50", [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [0, 1, 2]]),
        ("resnet101", [[0, 2], [0, 2], list(range(0, 23, 2)), [0, 2]]),
    ],
)
def test_blocks_that_carry_the_shift(trunk: str, expected: list[list[int]]) -> None:
    model = create_model(f"tsm_{trunk}", 5, width=8)
    assert isinstance(model, ResNet)
    stages = (model.layer1, model.layer2, model.layer3, model.layer4)
    found = [[i for i, b in enumerate(s) if b.temporal is not None] for s in stages]
    assert found == expected


def test_ten_blocks_of_mobilenetv2_carry_it() -> None:
    model = create_model("tsm_mobilenetv2", 5)
    assert sum(isinstance(m, TemporalShift) for m in model.modules()) == 10


def test_costs_what_the_image_network_costs() -> None:
    model = create_model("tsm_resnet50", 174)
    assert parameter_count(model) == 23_508_032 + 2049 * 174 == 23_864_558
    assert len(model.state_dict()) == 320
    assert multiply_adds(model, 8) == multiply_adds(create_model("tsn_resnet50", 174), 8)
    assert multiply_adds(model, 8) == pytest.approx(32.7e9, rel=0.005)


def test_starts_from_the_image_network() -> None:
    donor = create_model("tsn_resnet18", 7, width=8)
    scramble(donor)
    model = create_model("tsm_resnet18", 5, width=8)
    load_weights(model, donor.state_dict())
    for name, tensor in donor.state_dict().items():
        assert name.startswith("fc.") or torch.equal(model.state_dict()[name], tensor)


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_any_number_of_segments(segments: int) -> None:
    assert_clips_stay_apart(small("tsm_resnet18", 8), segments)


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50", "mobilenetv2"])
def test_order_counts(trunk: str) -> None:
    assert_order_counts(small(f"tsm_{trunk}", 8), 8)
