"""ACTION-Net: the module against its three paths written out, sizes, names and start."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import create_model, load_weights, multiply_adds, parameter_count
from smnet.models.action import Action
from smnet.models.layers import TemporalConv

from .reference import (
    assert_all_parameters_learn,
    assert_clips_stay_apart,
    assert_order_counts,
    assert_same,
    naive_conv_over_time,
    naive_motion_gate,
    noise,
    scramble,
    small,
)

# Input channels of the 16 blocks of ResNet-50.
CHANNELS = [64, 256, 256] + [256] + [512] * 3 + [512] + [1024] * 5 + [1024] + [2048] * 2

PUBLISHED = {  # name in the published files, behind ``conv1.``: our name, and its shape for C, c
    "action_shift.weight": ("shift.weight", "C13"),
    "action_p1_conv1.weight": ("ste.weight", "11333"),
    "action_p2_squeeze.weight": ("ce.squeeze.weight", "cC11"),
    "action_p2_conv1.weight": ("ce.temporal_conv.weight", "cc3"),
    "action_p2_expand.weight": ("ce.expand.weight", "Cc11"),
    "action_p3_squeeze.weight": ("me.squeeze.weight", "cC11"),
    "action_p3_bn1.weight": ("me.norm.weight", "c"),
    "action_p3_bn1.bias": ("me.norm.bias", "c"),
    "action_p3_bn1.running_mean": ("me.norm.running_mean", "c"),
    "action_p3_bn1.running_var": ("me.norm.running_var", "c"),
    "action_p3_bn1.num_batches_tracked": ("me.norm.num_batches_tracked", ""),
    "action_p3_conv1.weight": ("me.transform.weight", "c133"),
    "action_p3_expand.weight": ("me.expand.weight", "Cc11"),
}


def naive_action(x: Tensor, m: Action, segments: int) -> Tensor:
    s = naive_conv_over_time(x, m.shift.weight, segments)

    clips = s.unflatten(0, (-1, segments)).transpose(1, 2)  # (B, C, T, H, W)
    mask = F.conv3d(clips.mean(1, keepdim=True), m.ste.weight, padding=1)
    p1 = s + s * torch.sigmoid(mask.transpose(1, 2).flatten(0, 1))

    z = F.conv2d(F.adaptive_avg_pool2d(s, 1), m.ce.squeeze.weight)
    z = torch.relu(naive_conv_over_time(z, m.ce.temporal_conv.weight, segments))
    p2 = s + s * torch.sigmoid(F.conv2d(z, m.ce.expand.weight))

    p3 = s + s * naive_motion_gate(s, m.me, segments)
    return p1 + p2 + p3


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("segments", [1, 2, 8, 16])
@pytest.mark.parametrize("channels", [8, 32])
def test_module_is_its_equations(channels: int, segments: int, training: bool) -> None:
    module = Action(channels).double().train(training)
    scramble(module)
    x = noise(2 * segments, channels, 5, 4)
    assert_same(module, lambda a: naive_action(a, module, segments), x, segments)


def test_single_precision() -> None:
    module = Action(64)
    scramble(module)
    x = noise(16, 64, 7, 7).float()
    y = naive_action(x, module.train(), 8)
    torch.testing.assert_close(module(x, 8), y, rtol=1e-5, atol=1e-5)


def test_starts_as_published() -> None:
    torch.manual_seed(0)
    module = Action(512)
    assert torch.equal(module.shift.weight, TemporalConv(512, init="shift").weight)
    for name, like in (
        ("ste", nn.Conv3d(1, 1, 3)),
        ("ce.squeeze", nn.Conv2d(512, 32, 1)),
        ("ce.temporal_conv", nn.Conv1d(32, 32, 3)),
        ("ce.expand", nn.Conv2d(32, 512, 1)),
        ("me.squeeze", nn.Conv2d(512, 32, 1)),
        ("me.transform", nn.Conv2d(32, 32, 3, groups=32)),
        ("me.expand", nn.Conv2d(32, 512, 1)),
    ):
        weight = module.get_parameter(f"{name}.weight").detach()
        bound = like.weight[0].numel() ** -0.5  # PyTorch's: uniform, +- 1 / sqrt(fan in)
        assert weight.shape == like.weight.shape
        assert weight.abs().max() <= bound * (1 + 1e-6)
        assert weight.abs().max() > 0.8 * bound
        if weight.numel() > 100:
            assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_size_is_the_published_one() -> None:
    model = create_model("action_resnet50", 174)
    added = 0
    for c in CHANNELS:
        r = c // 16
        shift, ste = 3 * c, 27
        ce = c * r + 3 * r * r + r * c
        me = c * r + 2 * r + 9 * r + r * c
        added += shift + ste + ce + me
    assert parameter_count(model) == 23_864_558 + added == 28_082_378  # 28.08 M
    assert multiply_adds(model, 8) == pytest.approx(34.4e9, rel=0.005)


def test_every_published_tensor_has_a_counterpart() -> None:
    state = create_model("action_resnet50", 174).state_dict()
    assert len(state) == 528
    homes = set()
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            channels = CHANNELS[sum((3, 4, 6, 3)[: stage - 1]) + block]
            for name, shape in PUBLISHED.values():
                home = f"layer{stage}.{block}.temporal.{name}"
                sizes = {"C": channels, "c": channels // 16}
                assert tuple(state[home].shape) == tuple(sizes.get(s) or int(s) for s in shape)
                homes.add(home)
    rest = state.keys() - homes
    assert rest == create_model("tsn_resnet50", 174).state_dict().keys()


def test_only_every_second_block_of_a_deep_trunk() -> None:
    model = create_model("action_resnet101", 5, width=8)
    assert sum(isinstance(m, Action) for m in model.modules()) == 2 + 2 + 12 + 2


def test_starts_from_the_image_network() -> None:
    donor = create_model("tsn_resnet18", 7, width=8)
    scramble(donor)
    model = create_model("action_resnet18", 5, width=8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_weights(model, donor.state_dict())
    for name, tensor in model.state_dict().items():
        own = name.startswith("fc.") or ".temporal." in name
        assert torch.equal(tensor, before[name] if own else donor.state_dict()[name]), name


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_any_number_of_segments(segments: int) -> None:
    assert_clips_stay_apart(small("action_resnet18", 8), segments)


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50", "mobilenetv2"])
def test_order_counts(trunk: str) -> None:
    assert_order_counts(small(f"action_{trunk}", 8), 8)


def test_all_parameters_learn() -> None:
    # Few squeezed channels may all be cut off by the ReLU of CE.
    assert_all_parameters_learn(small("action_resnet18", 4, training=True, reduction=2), 4)


def test_options() -> None:
    model = create_model("action_resnet18", 5, width=8, place="after_conv1", reduction=4)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes["layer2.0.temporal.me.squeeze.weight"] == (4, 16, 1, 1)
