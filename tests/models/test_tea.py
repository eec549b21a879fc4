"""TEA: the whole Res2Net block against its equations, sizes, names and start."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import create_model, load_weights, multiply_adds, parameter_count
from smnet.models.layers import TemporalConv
from smnet.models.smnet import MotionExcitation
from smnet.models.tea import TEABlock, TemporalAggregation

from .reference import (
    assert_all_parameters_learn,
    assert_clips_stay_apart,
    assert_order_counts,
    assert_same,
    naive_conv_over_time,
    naive_motion_gate,
    naive_norm,
    noise,
    scramble,
    small,
)

BLOCKS = (3, 4, 6, 3)
WIDTHS = (26, 52, 104, 208)  # of the four parts, by stage


def naive_block(x: Tensor, m: TEABlock, segments: int, stride: int, first: bool) -> Tensor:
    y = torch.relu(naive_norm(F.conv2d(x, m.conv1.weight), m.bn1))
    assert m.temporal is not None
    y = y + y * (naive_motion_gate(y, m.temporal.me, segments) - 0.5)
    width = y.shape[1] // 4
    outs: list[Tensor] = []
    for i in range(4):
        z = y[:, i * width : (i + 1) * width]
        if 0 < i < 3 and not first:
            z = z + outs[-1]
        z = naive_conv_over_time(z, m.temporal.shifts[i].weight, segments)
        if i < 3:
            z = F.conv2d(z, m.convs[i].weight, stride=stride, padding=1)
            z = torch.relu(naive_norm(z, m.bns[i]))
        elif first:
            z = F.avg_pool2d(z, 3, stride, padding=1)
        outs.append(z)
    y = naive_norm(F.conv2d(torch.cat(outs, 1), m.conv3.weight), m.bn3)
    if first:
        assert isinstance(m.downsample, nn.Sequential)
        x = naive_norm(F.conv2d(x, m.downsample[0].weight, stride=stride), m.downsample[1])
    return torch.relu(y + x)


def block(first: bool, stride: int = 1) -> TEABlock:
    channels = TEABlock.mid_channels(10)
    assert channels == 16
    shortcut = None
    if first:
        conv = nn.Conv2d(24, 40, 1, stride, bias=False)
        shortcut = nn.Sequential(conv, nn.BatchNorm2d(40))
    temporal = TemporalAggregation(channels, reduction=4)
    into = 24 if first else 40
    made = TEABlock(into, 10, stride, shortcut, temporal, "after_conv1").double()
    scramble(made)
    return made


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("first", "stride"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_block_is_its_equations(segments: int, first: bool, stride: int, training: bool) -> None:
    module = block(first, stride).train(training)
    x = noise(2 * segments, 24 if first else 40, 5, 4)
    assert_same(module, lambda a: naive_block(a, module, segments, stride, first), x, segments)


def test_single_precision() -> None:
    module = block(first=False).float().eval()
    x = noise(16, 40, 7, 7).float()
    y = naive_block(x, module, 8, 1, first=False)
    torch.testing.assert_close(module(x, 8), y, rtol=1e-5, atol=1e-5)


def test_the_gate_of_the_last_frame_is_the_bias_of_bn() -> None:
    me = MotionExcitation(16, reduction=4, centred=True).double().eval()
    scramble(me)
    x = noise(8, 16, 3, 3)
    norm = me.expand_norm
    assert isinstance(norm, nn.BatchNorm2d)
    still = naive_norm(torch.zeros(1, 16, 1, 1, dtype=torch.float64), norm)[0]
    y = me(x, 4)
    for last in (3, 7):
        torch.testing.assert_close(y[last], x[last] * (torch.sigmoid(still) + 0.5))
    assert not torch.allclose(y[3], x[3])


def test_starts_as_published() -> None:
    model = create_model("tea_res2net50", 5)
    part = model.get_submodule("layer4.1.temporal")
    assert isinstance(part, TemporalAggregation)
    for tau in part.shifts[:3]:
        assert torch.equal(tau.weight, TemporalConv(208, init="identity").weight)
    last = part.shifts[3].weight[:, 0]
    assert torch.equal(last[:104], torch.tensor([[0.0, 0.0, 1.0]]).expand(104, 3))  # t+1
    assert torch.equal(last[104:], torch.tensor([[1.0, 0.0, 0.0]]).expand(104, 3))  # t-1
    for name, fan_out in (("squeeze", 52), ("transform", 9 * 52), ("expand", 832)):
        std = part.get_parameter(f"me.{name}.weight").detach().std()
        assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)  # as all convolutions


def published() -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names in the published files of TEA: our name, and the shape."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}

    def put(name: str, ours: str, *shape: int) -> None:
        found[name] = (ours, shape)

    def norm(name: str, ours: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            put(f"{name}.{part}", f"{ours}.{part}", channels)
        put(f"{name}.num_batches_tracked", f"{ours}.num_batches_tracked")

    put("conv1.weight", "conv1.weight", 64, 3, 7, 7)
    norm("bn1", "bn1", 64)
    channels = 64
    for stage, (blocks, w) in enumerate(zip(BLOCKS, WIDTHS, strict=True), start=1):
        planes = 64 * 2 ** (stage - 1)
        for index in range(blocks):
            at, r = f"layer{stage}.{index}", 4 * w // 16
            put(f"{at}.conv1.weight", f"{at}.conv1.weight", 4 * w, channels, 1, 1)
            norm(f"{at}.bn1", f"{at}.bn1", 4 * w)
            for i in range(3):
                put(f"{at}.convs.{i}.weight", f"{at}.convs.{i}.weight", w, w, 3, 3)
                norm(f"{at}.bns.{i}", f"{at}.bns.{i}", w)
            put(f"{at}.conv3.weight", f"{at}.conv3.weight", 4 * planes, 4 * w, 1, 1)
            norm(f"{at}.bn3", f"{at}.bn3", 4 * planes)
            if index == 0:
                put(
                    f"{at}.downsample.0.weight",
                    f"{at}.downsample.0.weight",
                    4 * planes,
                    channels,
                    1,
                    1,
                )
                norm(f"{at}.downsample.1", f"{at}.downsample.1", 4 * planes)
            me = f"{at}.temporal.me"
            put(f"{at}.me.conv1.weight", f"{me}.squeeze.weight", r, 4 * w, 1, 1)
            norm(f"{at}.me.bn1", f"{me}.norm", r)
            put(f"{at}.me.conv2.weight", f"{me}.transform.weight", r, 1, 3, 3)
            put(f"{at}.me.conv3.weight", f"{me}.expand.weight", 4 * w, r, 1, 1)
            norm(f"{at}.me.bn3", f"{me}.expand_norm", 4 * w)
            for i in range(4):
                put(f"{at}.shifts.{i}.conv.weight", f"{at}.temporal.shifts.{i}.weight", w, 1, 3)
            channels = 4 * planes
    put("fc.weight", "fc.weight", 174, 2048)
    put("fc.bias", "fc.bias", 174)
    return found


def test_every_published_tensor_has_a_counterpart() -> None:
    state = create_model("tea_res2net50", 174).state_dict()
    homes = dict(published().values())
    assert len(state) == len(homes) == 784
    assert {k: tuple(v.shape) for k, v in state.items()} == homes


def test_size_is_the_published_one() -> None:
    model = create_model("tea_res2net50", 174)
    learned = [s for n, s in published().values() if "running" not in n and "num_batches" not in n]
    total = sum(torch.Size(shape).numel() for shape in learned)
    assert parameter_count(model) == total == 24_456_280  # 24.46 M
    assert multiply_adds(model, 8) == pytest.approx(34.5e9, rel=0.005)


def test_resnet_weights_are_refused() -> None:
    donor = create_model("tsn_resnet50", 5)
    with pytest.raises(ValueError, match="not a trunk of tea_res2net50: it lacks"):
        load_weights(create_model("tea_res2net50", 5), donor.state_dict())


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_any_number_of_segments(segments: int) -> None:
    assert_clips_stay_apart(small("tea_res2net50", 8), segments)


def test_order_counts() -> None:
    assert_order_counts(small("tea_res2net50", 8), 8)


def test_all_parameters_learn() -> None:
    assert_all_parameters_learn(small("tea_res2net50", 4, training=True), 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"place": "before_conv1"}, "tea_res2net50 has no option 'place'"),
        ({"stride_in": "conv1"}, "stride_in must be conv2, not 'conv1'"),
        ({"reductoin": 4}, "did you mean 'reduction'"),
    ],
)
def test_refuses(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        create_model("tea_res2net50", 5, width=8, **options)


def test_res2net50_is_the_only_trunk() -> None:
    with pytest.raises(ValueError, match="no model is called 'tea_resnet50'"):
        create_model("tea_resnet50", 5)
