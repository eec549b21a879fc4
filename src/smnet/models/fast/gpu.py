"""The operators as Triton kernels, for NVIDIA GPUs: channels innermost, each one pass.

The letters are those of :mod:`.operators`, the formulas those of ``kernels.c``. Arithmetic is in
float32. Z is rounded to the type of the features before it is compared, as PyTorch would store it,
and every kernel computes it by the same fused operations, so comparison with its maximum is exact.

``SMNET_TRITON=1`` switches them on. They are off by default, since no GPU has measured them; the
tests run them in Triton's interpreter.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 16
"""Pixels of a block."""
CHANNELS = 128
"""Most channels of a block."""

TYPES = (torch.float32, torch.bfloat16, torch.float16)


def support(x: Tensor) -> bool:
    """Whether the kernels take features ``x`` (B*T, C, H, W)."""
    return (
        x.dtype in TYPES
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")
    )


@triton.jit
def _frame(x, n, step, segments, pixel, channel, inside, count, channels):  # type: ignore[no-untyped-def]
    """X of frame n + step for a block of pixels and channels; zeros outside the clip."""
    t = n % segments + step + 0 * pixel  # a block, as a mask has to be
    known = inside & (t >= 0) & (t < segments)
    at = ((n + step) * count + pixel).to(tl.int64)
    return tl.load(x + at * channels + channel, mask=known, other=0.0).to(tl.float32)


@triton.jit
def _mixed(before, here, after, k0, k1, k2, x):  # type: ignore[no-untyped-def]
    """Z, rounded to the type of X."""
    z = tl.fma(k2, after, tl.fma(k1, here, k0 * before))
    return z.to(x.dtype.element_ty).to(tl.float32)


@triton.jit
def _pool(x, k, pooled, segments, count, channels, P: tl.constexpr, C: tl.constexpr):  # type: ignore[no-untyped-def]
    n = tl.program_id(0)
    pixel = tl.program_id(1) * P + tl.arange(0, P)[:, None]
    total = tl.zeros((P,), tl.float32)
    most = tl.full((P,), -float("inf"), tl.float32)
    for first in range(0, channels, C):
        channel = first + tl.arange(0, C)[None, :]
        inside = (pixel < count) & (channel < channels)
        k0 = tl.load(k + channel, mask=channel < channels, other=0.0)
        k1 = tl.load(k + channels + channel, mask=channel < channels, other=0.0)
        k2 = tl.load(k + 2 * channels + channel, mask=channel < channels, other=0.0)
        before = _frame(x, n, -1, segments, pixel, channel, inside, count, channels)
        here = _frame(x, n, 0, segments, pixel, channel, inside, count, channels)
        after = _frame(x, n, 1, segments, pixel, channel, inside, count, channels)
        z = _mixed(before, here, after, k0, k1, k2, x)
        total += tl.sum(tl.where(inside, z, 0.0), 1)
        most = tl.maximum(most, tl.max(tl.where(inside, z, -float("inf")), 1))
    row = tl.program_id(1) * P + tl.arange(0, P)
    out = pooled + 2 * n * count + row
    tl.store(out, total / channels, mask=row < count)
    tl.store(out + count, most, mask=row < count)


@triton.jit
def _excite(x, k, a, b, y, segments, count, channels, P: tl.constexpr, C: tl.constexpr):  # type: ignore[no-untyped-def]
    n = tl.program_id(0)
    pixel = tl.program_id(1) * P + tl.arange(0, P)[:, None]
    channel = tl.program_id(2) * C + tl.arange(0, C)[None, :]
    inside = (pixel < count) & (channel < channels)
    k0 = tl.load(k + channel, mask=channel < channels, other=0.0)
    k1 = tl.load(k + channels + channel, mask=channel < channels, other=0.0)
    k2 = tl.load(k + 2 * channels + channel, mask=channel < channels, other=0.0)
    before = _frame(x, n, -1, segments, pixel, channel, inside, count, channels)
    here = _frame(x, n, 0, segments, pixel, channel, inside, count, channels)
    after = _frame(x, n, 1, segments, pixel, channel, inside, count, channels)
    z = _mixed(before, here, after, k0, k1, k2, x)
    scale = tl.load(a + n * count + pixel, mask=pixel < count, other=0.0).to(tl.float32)
    gate = tl.load(b + n * channels + channel, mask=channel < channels, other=0.0).to(tl.float32)
    at = (n * count + pixel).to(tl.int64) * channels + channel
    tl.store(y + at, tl.fma(here, gate, z * scale), mask=inside)


@triton.jit
def _scale_gradient(  # type: ignore[no-untyped-def]
    g, x, k, pooled, of_a, ties, segments, count, channels, P: tl.constexpr, C: tl.constexpr
):
    """dA = sum_c g Z, and how many channels share the maximum."""
    n = tl.program_id(0)
    pixel = tl.program_id(1) * P + tl.arange(0, P)[:, None]
    top = tl.load(pooled + (2 * n + 1) * count + pixel, mask=pixel < count, other=0.0)
    top = top.to(tl.float32)
    total = tl.zeros((P,), tl.float32)
    equal = tl.zeros((P,), tl.float32)
    for first in range(0, channels, C):
        channel = first + tl.arange(0, C)[None, :]
        inside = (pixel < count) & (channel < channels)
        k0 = tl.load(k + channel, mask=channel < channels, other=0.0)
        k1 = tl.load(k + channels + channel, mask=channel < channels, other=0.0)
        k2 = tl.load(k + 2 * channels + channel, mask=channel < channels, other=0.0)
        before = _frame(x, n, -1, segments, pixel, channel, inside, count, channels)
        here = _frame(x, n, 0, segments, pixel, channel, inside, count, channels)
        after = _frame(x, n, 1, segments, pixel, channel, inside, count, channels)
        z = _mixed(before, here, after, k0, k1, k2, x)
        grad = _frame(g, n, 0, segments, pixel, channel, inside, count, channels)
        total += tl.sum(grad * z, 1)
        equal += tl.sum(tl.where(inside & (z == top), 1.0, 0.0), 1)
    row = tl.program_id(1) * P + tl.arange(0, P)
    tl.store(of_a + n * count + row, total, mask=row < count)
    tl.store(ties + n * count + row, equal, mask=row < count)


@triton.jit
def _gate_gradient(g, x, of_b, segments, count, channels, P: tl.constexpr, C: tl.constexpr):  # type: ignore[no-untyped-def]
    """dB = sum_p g X."""
    n = tl.program_id(0)
    channel = tl.program_id(1) * C + tl.arange(0, C)[None, :]
    total = tl.zeros((C,), tl.float32)
    for first in range(0, count, P):
        pixel = first + tl.arange(0, P)[:, None]
        inside = (pixel < count) & (channel < channels)
        grad = _frame(g, n, 0, segments, pixel, channel, inside, count, channels)
        here = _frame(x, n, 0, segments, pixel, channel, inside, count, channels)
        total += tl.sum(grad * here, 0)
    column = tl.program_id(1) * C + tl.arange(0, C)
    tl.store(of_b + n * channels + column, total, mask=column < channels)


@triton.jit
def _mixed_gradient(  # type: ignore[no-untyped-def]
    g, x, a, pooled, everywhere, at_top, before, here, after, k0, k1, k2,
    n, step, segments, pixel, channel, inside, count, channels,
):  # fmt: skip
    """dZ of frame n + step: g A + everywhere + at_top where Z is the maximum; zeros outside."""
    t = n % segments + step + 0 * pixel
    known = (pixel < count) & (t >= 0) & (t < segments)
    at = (n + step) * count + pixel
    scale = tl.load(a + at, mask=known, other=0.0).to(tl.float32)
    mean = tl.load(everywhere + at, mask=known, other=0.0).to(tl.float32)
    most = tl.load(at_top + at, mask=known, other=0.0).to(tl.float32)
    top = tl.load(pooled + (2 * (n + step) + 1) * count + pixel, mask=known, other=0.0)
    z = _mixed(before, here, after, k0, k1, k2, x)
    grad = _frame(g, n, step, segments, pixel, channel, inside, count, channels)
    dz = tl.fma(grad, scale, mean) + tl.where(z == top.to(tl.float32), most, 0.0)
    return tl.where(inside & (t >= 0) & (t < segments), dz, 0.0)


@triton.jit
def _input_gradients(  # type: ignore[no-untyped-def]
    g, x, k, a, b, pooled, everywhere, at_top, dx, dk, segments, count, channels,
    P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """dX, and dK as sums over one block of pixels of one frame: (N, blocks, 3, C)."""
    n = tl.program_id(0)
    pixel = tl.program_id(1) * P + tl.arange(0, P)[:, None]
    channel = tl.program_id(2) * C + tl.arange(0, C)[None, :]
    inside = (pixel < count) & (channel < channels)
    k0 = tl.load(k + channel, mask=channel < channels, other=0.0)
    k1 = tl.load(k + channels + channel, mask=channel < channels, other=0.0)
    k2 = tl.load(k + 2 * channels + channel, mask=channel < channels, other=0.0)
    x0 = _frame(x, n, -2, segments, pixel, channel, inside, count, channels)
    x1 = _frame(x, n, -1, segments, pixel, channel, inside, count, channels)
    x2 = _frame(x, n, 0, segments, pixel, channel, inside, count, channels)
    x3 = _frame(x, n, 1, segments, pixel, channel, inside, count, channels)
    x4 = _frame(x, n, 2, segments, pixel, channel, inside, count, channels)
    earlier = _mixed_gradient(
        g, x, a, pooled, everywhere, at_top, x0, x1, x2, k0, k1, k2,
        n, -1, segments, pixel, channel, inside, count, channels,
    )  # fmt: skip
    dz = _mixed_gradient(
        g, x, a, pooled, everywhere, at_top, x1, x2, x3, k0, k1, k2,
        n, 0, segments, pixel, channel, inside, count, channels,
    )  # fmt: skip
    later = _mixed_gradient(
        g, x, a, pooled, everywhere, at_top, x2, x3, x4, k0, k1, k2,
        n, 1, segments, pixel, channel, inside, count, channels,
    )  # fmt: skip
    gate = tl.load(b + n * channels + channel, mask=channel < channels, other=0.0).to(tl.float32)
    grad = _frame(g, n, 0, segments, pixel, channel, inside, count, channels)
    sum_of_taps = tl.fma(k2, earlier, tl.fma(k1, dz, k0 * later))
    at = (n * count + pixel).to(tl.int64) * channels + channel
    tl.store(dx + at, tl.fma(grad, gate, sum_of_taps), mask=inside)
    column = tl.program_id(2) * C + tl.arange(0, C)
    part = dk + (n * tl.num_programs(1) + tl.program_id(1)) * 3 * channels + column
    tl.store(part, tl.sum(dz * x1, 0), mask=column < channels)
    tl.store(part + channels, tl.sum(dz * x2, 0), mask=column < channels)
    tl.store(part + 2 * channels, tl.sum(dz * x3, 0), mask=column < channels)


# ------------------------------------------------------------------ the operators


def pool(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    """See :func:`smnet.models.fast.operators.pool`, as the functions below."""
    pooled = x.new_empty(x.shape[0], 2, *x.shape[2:])
    size, blocks, block = _launch(x, num_segments)
    _pool[blocks[:2]](x, _taps(x, taps), pooled, *size, P=PIXELS, C=block)
    return pooled


def excite(x: Tensor, taps: Tensor, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    y = torch.empty_like(x)
    size, blocks, block = _launch(x, num_segments)
    _excite[blocks](x, _taps(x, taps), *_dense(a, b), y, *size, P=PIXELS, C=block)
    return y


def excite_gradients(
    grad_y: Tensor, x: Tensor, taps: Tensor, pooled: Tensor, num_segments: int
) -> tuple[Tensor, Tensor, Tensor]:
    g = grad_y.contiguous(memory_format=torch.channels_last)
    of_a, ties = (x.new_empty(x.shape[0], 1, *x.shape[2:]) for _ in range(2))
    of_b = x.new_empty(*x.shape[:2], 1, 1)
    size, blocks, block = _launch(x, num_segments)
    inputs = (g, x, _taps(x, taps), *_dense(pooled))
    _scale_gradient[blocks[:2]](*inputs, of_a, ties, *size, P=PIXELS, C=block)
    _gate_gradient[blocks[::2]](g, x, of_b, *size, P=PIXELS, C=block)
    return of_a, of_b, ties


def input_gradients(
    grad_y: Tensor,
    x: Tensor,
    taps: Tensor,
    a: Tensor,
    b: Tensor,
    pooled: Tensor,
    everywhere: Tensor,
    at_top: Tensor,
    num_segments: int,
) -> tuple[Tensor, Tensor]:
    g = grad_y.contiguous(memory_format=torch.channels_last)
    grad_x = torch.empty_like(x)
    size, blocks, block = _launch(x, num_segments)
    parts = x.new_empty(blocks[0] * blocks[1], 3, x.shape[1], dtype=torch.float32)
    small = _dense(a, b, pooled, everywhere, at_top)
    inputs = (g, x, _taps(x, taps), *small)
    _input_gradients[blocks](*inputs, grad_x, parts, *size, P=PIXELS, C=block)
    return grad_x, parts.sum(0).t().to(taps.dtype).contiguous()


def _launch(x: Tensor, num_segments: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Sizes for the kernels, blocks by frames, pixels and channels, channels of a block."""
    frames, channels, height, width = x.shape
    block = min(CHANNELS, triton.next_power_of_2(channels))
    blocks = (frames, triton.cdiv(height * width, PIXELS), triton.cdiv(channels, block))
    return (num_segments, height * width, channels), blocks, block


def _taps(x: Tensor, taps: Tensor) -> Tensor:
    """(3, C) in float32, with the values that they have in the type of the features."""
    return taps.to(x.dtype).float().t().contiguous()


def _dense(*tensors: Tensor) -> list[Any]:
    return [tensor.contiguous() for tensor in tensors]
