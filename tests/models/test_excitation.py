"""Excitation against the maps of the equations and the operators that it stands for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from smnet.models.excitation import MotionGate, edge_means, to_one_channel
from smnet.models.layers import frame_difference


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def check_equations(gate: MotionGate, x: Tensor) -> None:
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
def test_motion_gate_in_evaluation_equals_the_maps_of_the_equations(size, memory_format):
    gate = MotionGate(32, reduction=4).eval()
    nn.init.normal_(gate.norm.running_mean)
    nn.init.uniform_(gate.norm.running_var, 0.5, 2)
    nn.init.normal_(gate.norm.bias)
    check_equations(gate, torch.randn(6, 32, *size).contiguous(memory_format=memory_format))


@pytest.mark.parametrize("kind", ["in training", "without running statistics", "of groups"])
def test_motion_gate_in_evaluation_with_a_normalisation_by_the_features(kind: str) -> None:
    """As where statistics alone are learned anew for other clips."""
    gate = MotionGate(32, reduction=4).eval()
    gate.norm = {
        "in training": lambda: nn.BatchNorm2d(8),
        "without running statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False).eval(),
        "of groups": lambda: nn.GroupNorm(2, 8),
    }[kind]()
    check_equations(gate, torch.randn(6, 32, 5, 7))


@pytest.mark.parametrize("kind", ["without weights", "not learning statistics any more"])
def test_motion_gate_in_training_with_other_normalisations(kind: str) -> None:
    gate = MotionGate(32, reduction=4)
    if kind == "without weights":
        gate.norm = nn.BatchNorm2d(8, affine=False)
    else:
        gate.norm.track_running_stats = False
    check_equations(gate, torch.randn(6, 32, 5, 7))


def test_edge_means_are_those_of_the_lines_and_pixels_at_the_border() -> None:
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    rows = [x[:, :, -1:], x, x[:, :, :1]]
    expected = [[part.mean((2, 3)) for part in (row[..., -1:], row, row[..., :1])] for row in rows]
    found = edge_means(x)
    for i, line in enumerate(expected):
        for j, mean in enumerate(line):
            torch.testing.assert_close(found[:, :, i, j], mean)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 3), (2, 2, 3, 1), (1, 1, 1, 1)])
def test_gradient_of_edge_means(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(edge_means, (x,))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("planes", [1, 2])
def test_a_convolution_to_one_channel(planes: int, segments: int, bias: bool) -> None:
    conv = nn.Conv2d(planes, 1, 7, padding=3, bias=bias).double()
    x = torch.randn(2 * segments, planes, 6, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2 * segments, 1, 6, 5, dtype=torch.float64)
    learned = [x, *conv.parameters()]
    found, expected = to_one_channel(conv, x, segments), conv(x)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), learned),
        torch.autograd.grad((expected * weights).sum(), learned),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_who_watches_a_small_convolution_sees_it_called() -> None:
    gate = MotionGate(16, reduction=4).eval()
    called = []
    for conv in (gate.squeeze, gate.expand):
        conv.register_forward_hook(lambda *_: called.append(1))
    gate.gates(torch.randn(4, 16, 5, 5), 4)
    mask = nn.Conv2d(2, 1, 3, padding=1)
    mask.register_forward_hook(lambda *_: called.append(1))
    to_one_channel(mask, torch.randn(4, 2, 5, 5), 4)
    assert len(called) == 3
