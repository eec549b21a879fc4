"""The operators: their compiled kernels against PyTorch, and what PyTorch asks of operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smnet.models.fast import kernels, operators, recompute
from smnet.models.layers import TemporalSum

from .test_kernels import compiled, features


@contextmanager
def without_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "support", lambda x: False)
        yield


def results(x: Tensor, segments: int) -> dict[str, Tensor]:
    """What all operators compute from features, with the same random other inputs."""
    generator = torch.Generator().manual_seed(1)
    frames, channels, height, width = x.shape

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    taps, a, b = (
        random(channels, 3),
        random(frames, 1, height, width),
        random(frames, channels, 1, 1),
    )
    grad = random(frames, channels, height, width).contiguous(memory_format=torch.channels_last)
    everywhere, at_top = random(frames, 1, height, width), random(frames, 1, height, width)
    pooled = operators.pool(x, taps, segments)
    grad_a, grad_b, ties = operators.excite_gradients(grad, x, taps, pooled, segments)
    grad_x, grad_taps = operators.input_gradients(
        grad, x, taps, a, b, pooled, everywhere, at_top, segments
    )
    return {
        "pooled": pooled,
        "y": operators.excite(x, taps, a, b, segments),
        "grad_a": grad_a,
        "grad_b": grad_b,
        "ties": ties,
        "grad_x": grad_x,
        "grad_taps": grad_taps,
        "edge means": operators.edge_means(x),
    }


@compiled
@settings(deadline=None, max_examples=60)
@given(
    clips=st.integers(1, 3),
    segments=st.integers(1, 9),
    channels=st.integers(1, 70),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_compiled_equals_pytorch(
    clips: int, segments: int, channels: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = features(clips, segments, channels, height, width)
    assert kernels.support(x)
    found = results(x, segments)
    with without_kernels():
        expected = results(x, segments)
    for name, value in found.items():
        assert value.shape == expected[name].shape, name
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4, msg=name)


@compiled
def test_large_maps_are_computed_in_pieces() -> None:
    torch.manual_seed(0)
    x = features(2, 3, 160, 33, 31)
    found = results(x, 3)
    with without_kernels():
        expected = results(x, 3)
    for name, value in found.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5 * scale, msg=name)


@compiled
def test_channels_that_share_the_maximum_are_counted() -> None:
    x = torch.zeros(2, 5, 3, 3).contiguous(memory_format=torch.channels_last)
    x[:, 1:3, 0] = 1
    taps = torch.tensor([[0.0, 1.0, 0.0]]).repeat(5, 1)
    pooled = operators.pool(x, taps, 2)
    ties = operators.excite_gradients(torch.ones_like(x), x, taps, pooled, 2)[2]
    assert ties[:, 0, 0].unique().tolist() == [2]
    assert ties[:, 0, 1:].unique().tolist() == [5]


@compiled
def test_the_number_of_threads_changes_no_bit() -> None:
    torch.manual_seed(0)
    x = features(3, 4, 24, 9, 11)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results(x, 4)
        torch.set_num_threads(3)
        together = results(x, 4)
    finally:
        torch.set_num_threads(threads)
    for name, value in alone.items():
        assert torch.equal(value, together[name]), name


@compiled
def test_gradients_may_come_in_another_layout() -> None:
    x, taps, grad = features(1, 4, 8, 5, 5), torch.randn(8, 3), torch.randn(4, 8, 5, 5)
    pooled = operators.pool(x, taps, 4)
    other = grad.contiguous(memory_format=torch.channels_last)
    for a, b in zip(
        operators.excite_gradients(grad, x, taps, pooled, 4),
        operators.excite_gradients(other, x, taps, pooled, 4),
        strict=True,
    ):
        assert torch.equal(a, b)


@compiled
def test_a_tensor_that_is_negated_lazily_is_read_as_its_values() -> None:
    x = features(1, 4, 8, 5, 5)
    torch.testing.assert_close(operators.edge_means(torch._neg_view(x)), -operators.edge_means(x))


def test_the_convolution_over_time_is_the_temporal_sum() -> None:
    x, taps = features(2, 4, 8, 3, 5).double(), torch.randn(8, 3).double()
    torch.testing.assert_close(operators.convolve_time(x, taps, 4), TemporalSum()(x, taps, 4))


def test_edge_means_are_those_of_the_lines_and_pixels_at_the_border() -> None:
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    rows = [x[:, :, -1:], x, x[:, :, :1]]
    expected = [[part.mean((2, 3)) for part in (row[..., -1:], row, row[..., :1])] for row in rows]
    for means in (operators.edge_means, operators.edge_means_by_product):
        found = means(x)
        for i, line in enumerate(expected):
            for j, mean in enumerate(line):
                torch.testing.assert_close(found[:, :, i, j], mean)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 3), (2, 2, 3, 1), (1, 1, 1, 1)])
def test_gradient_of_edge_means(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operators.edge_means, (x,))
    assert torch.autograd.gradgradcheck(operators.edge_means, (x,))


def test_edge_means_do_not_keep_the_map() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        operators.edge_means(torch.randn(2, 3, 4, 5, requires_grad=True))
    assert not kept


@pytest.mark.parametrize(("segments", "dtype"), [(1, torch.float64), (3, torch.float32)])
def test_operators_are_as_pytorch_wants_them(segments: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = features(2, segments, 5, 3, 4).to(dtype)
    frames = len(x)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=x.dtype)

    taps, squeeze, weight = random(5, 3), random(2, 5, 1, 1), random(6, 5, 3, 3)
    a, b = random(frames, 1, 3, 4), random(frames, 5, 1, 1)
    grad = random(*x.shape).contiguous(memory_format=torch.channels_last)
    pooled = operators.pool(x, taps, segments)
    relays = [t.clone() for t in recompute.observe(x, taps, squeeze, segments)[2:]]
    conv = ([2, 2], [1, 1], [1, 1], 1)
    check = torch.library.opcheck
    ops = torch.ops.smnet
    check(ops.pool.default, (x, taps, segments))
    check(ops.excite.default, (x, taps, a, b, segments))
    check(ops.excite_gradients.default, (grad, x, taps, pooled, segments))
    inputs = (grad, x, taps, a, b, pooled, a, a, segments)
    check(ops.input_gradients.default, inputs)
    leaf = x.clone().requires_grad_()
    check(ops.edge_means.default, (leaf,))
    check(ops.observe.default, (leaf, taps.requires_grad_(), squeeze.requires_grad_(), segments))
    small = (pooled, a.requires_grad_(), b.requires_grad_(), segments)
    args = (*relays, leaf, taps, *small, weight.requires_grad_(), random(6), *conv)
    check(ops.excite_and_convolve.default, args)
