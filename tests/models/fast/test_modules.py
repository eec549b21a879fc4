"""The twins against the plain modules and the equations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from smnet.models.fast.engines import MaskedSum, PlanarRowsSum, RowsSum, ShiftedSum
from smnet.models.fast.modules import (
    FastCausalSum,
    FastMotionExcitation,
    FastSpatialAttention,
    FastTemporalShift,
    FastTemporalSum,
    PooledMotionExcitation,
)
from smnet.models.fast.packed import PACKS, PackedConv2d
from smnet.models.fast.switch import set_fast
from smnet.models.layers import CausalSum, TemporalSum, frame_difference
from smnet.models.smnet import MotionExcitation, SpatialAttention
from smnet.models.smnet_options import SMNetOptions
from smnet.models.tsm import TemporalShift

from ..reference import assert_same, noise


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def fast_gate(channels: int) -> MotionExcitation:
    gate = MotionExcitation(channels, reduction=4)
    gate.__class__ = FastMotionExcitation
    return gate


def check_equations(gate: MotionExcitation, x: Tensor) -> None:
    """Gates, and what the normalisation learns, against the maps of M1 to M5; 3 frames a clip."""
    norm = copy.deepcopy(gate.norm)
    f = norm(gate.squeeze(x))
    d = frame_difference(gate.transform(f), f, 3).mean((2, 3), keepdim=True)
    torch.testing.assert_close(
        gate.gates(x, 3), torch.sigmoid(gate.expand(d)), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(gate.norm.state_dict(), norm.state_dict())


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (3, 2), (7, 7), (9, 14)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [FastMotionExcitation, PooledMotionExcitation])
def test_motion_gate_in_evaluation_equals_the_maps_of_the_equations(kind, size, memory_format):
    gate = fast_gate(32).eval()
    gate.__class__ = kind
    nn.init.normal_(gate.norm.running_mean)
    nn.init.uniform_(gate.norm.running_var, 0.5, 2)
    nn.init.normal_(gate.norm.bias)
    check_equations(gate, torch.randn(6, 32, *size).contiguous(memory_format=memory_format))


@pytest.mark.parametrize("kind", ["in training", "without running statistics", "of groups"])
def test_motion_gate_in_evaluation_with_a_normalisation_by_the_features(kind: str) -> None:
    """As where statistics alone are learned anew for other clips."""
    gate = fast_gate(32).eval()
    gate.norm = {
        "in training": lambda: nn.BatchNorm2d(8),
        "without running statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False).eval(),
        "of groups": lambda: nn.GroupNorm(2, 8),
    }[kind]()
    check_equations(gate, torch.randn(6, 32, 5, 7))


@pytest.mark.parametrize("kind", ["without weights", "not learning statistics any more"])
def test_motion_gate_in_training_with_other_normalisations(kind: str) -> None:
    gate = fast_gate(32)
    if kind == "without weights":
        gate.norm = nn.BatchNorm2d(8, affine=False)
    else:
        gate.norm.track_running_stats = False
    check_equations(gate, torch.randn(6, 32, 5, 7))


@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("pool", ["mean", "mean+max"])
def test_the_mask_is_that_of_the_plain_convolution(pool: str, segments: int) -> None:
    plain = SpatialAttention(SMNetOptions(attention=pool)).double()
    nn.init.normal_(plain.conv.weight)
    plain.conv.bias = nn.Parameter(torch.full((1,), 0.5).double())  # as folding leaves it
    twin = copy.copy(plain)  # with the same parameters
    twin.__class__ = FastSpatialAttention
    assert_same(twin, lambda x: plain(x, segments), noise(2 * segments, 6, 6, 5), segments)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("segments", [1, 2, 3])
def test_the_shift_is_the_plain_shift(segments: int, memory_format: torch.memory_format) -> None:
    x = noise(2 * segments, 16, 3, 2).contiguous(memory_format=memory_format)
    assert_same(FastTemporalShift(4), lambda x: TemporalShift(4)(x, segments), x, segments)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("segments", [1, 2, 3])
@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize(
    "kind", [FastTemporalSum, FastCausalSum, MaskedSum, RowsSum, PlanarRowsSum, ShiftedSum]
)
def test_the_sum_is_the_plain_sum(
    kind: type[TemporalSum], per_frame: bool, segments: int, memory_format: torch.memory_format
) -> None:
    x = noise(2 * segments, 5, 3, 2).contiguous(memory_format=memory_format).requires_grad_()
    taps = noise(*([2 * segments] if per_frame else []), 5, 3, seed=4).requires_grad_()
    plain = CausalSum() if kind is FastCausalSum else TemporalSum()
    found, expected = kind()(x, taps, segments), plain(x, taps, segments)
    torch.testing.assert_close(found, expected)
    weights = noise(*expected.shape, seed=5)
    for one, other in zip(
        torch.autograd.grad(found, (x, taps), weights),
        torch.autograd.grad(expected, (x, taps), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("per_frame", [False, True])
def test_the_gradient_of_the_plain_sum(per_frame: bool) -> None:
    x = noise(6, 5, 3, 2).requires_grad_()
    taps = noise(*([6] if per_frame else []), 5, 3, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, taps: TemporalSum()(x, taps, 3), (x, taps))


def test_packed_weights() -> None:
    """They follow the weights, and training is plain."""
    conv = nn.Conv2d(256, 256, 1, bias=True)
    conv.__class__ = PackedConv2d
    x = torch.randn(2, 256, 5, 3).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        expected = nn.functional.conv2d(x, conv.weight, conv.bias)
        with torch.inference_mode():
            assert conv._packs(x) == PACKS
            torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(conv(x[:1]), expected[:1], rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            conv.weight.mul_(2)
    assert copy.deepcopy(conv)(x).requires_grad


def test_packed_weights_can_be_switched_off() -> None:
    conv = nn.Conv2d(256, 256, 1)
    conv.__class__ = PackedConv2d
    x = torch.randn(2, 256, 5, 3).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        set_fast(False)
        try:
            assert not conv._packs(x)
        finally:
            set_fast(True)
        expected = torch.stack([nn.functional.conv2d(a[None], conv.weight, conv.bias) for a in x])
        found = torch.func.vmap(conv, randomness="error")(x[:, None])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_hooks_on_the_parts_are_called() -> None:
    gate = fast_gate(16)
    called = []
    for conv in (gate.squeeze, gate.transform, gate.expand):
        conv.register_forward_hook(lambda *_: called.append(1))
    gate.gates(torch.randn(4, 16, 5, 5), 4)
    mask = SpatialAttention()
    mask.__class__ = FastSpatialAttention
    mask.conv.register_forward_hook(lambda *_: called.append(1))
    mask(torch.randn(4, 8, 5, 5), 4)
    assert len(called) == 4
