"""Kernels of SMNet's module as operators of PyTorch, each one pass over the features.

With A = 1 + M_s and B = 1 + M_m (:mod:`smnet.models.smnet`):

    Z = K_t * X     P = [mean_c Z, max_c Z]     Y = Z A + X B

:func:`pool` gives P, :func:`excite` gives Y, and two more operators give their derivatives. Z is
computed again in each of them. :func:`edge_means` gives what motion excitation needs of a map.

An operator runs the compiled kernel where :func:`smnet.models.fast.kernels.support` allows it, the
Triton kernel where :func:`on_gpu` does, else PyTorch: the functions ``*_in_pytorch``, which are
differentiable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import kernels

TRITON = os.environ.get("SMNET_TRITON") == "1"
"""Whether the kernels of :mod:`smnet.models.fast.gpu` may run."""


def operator(function: Callable[..., Any]) -> Any:
    """Register ``smnet::<name of the function>``; it computes in the type of its first argument."""

    @wraps(function)
    def run(*args: Any) -> Any:
        features = args[1] if function.__name__.endswith("_gradients") else args[0]
        with torch.autocast(features.device.type, enabled=False):
            return (_triton(function.__name__, features) or function)(*args)

    return torch.library.custom_op(f"smnet::{function.__name__}", run, mutates_args=())


def on_gpu(x: Tensor) -> bool:
    """Whether Triton kernels run on features ``x``: on a GPU, if they are switched on."""
    return _triton("pool", x) is not None


def _triton(name: str, x: Tensor) -> Callable[..., Any] | None:
    """The Triton kernel of an operator for features ``x``, if there is one and it may run."""
    if not TRITON or not x.is_cuda:
        return None
    from . import gpu

    return getattr(gpu, name, None) if gpu.support(x) else None


@operator
def pool(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    """P, (B*T, 2, H, W), of X (B*T, C, H, W) and K_t (C, 3)."""
    if not kernels.support(x):
        z = convolve_time(x, taps, num_segments)
        return torch.cat([z.mean(1, keepdim=True), z.amax(1, keepdim=True)], dim=1).contiguous()
    pooled = x.new_empty(x.shape[0], 2, *x.shape[2:])
    kernels.run("pool", x, num_segments, *_inputs(x, taps), pooled)
    return pooled


@pool.register_fake
def _(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    return x.new_empty(x.shape[0], 2, x.shape[2], x.shape[3])


@operator
def excite(x: Tensor, taps: Tensor, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    """Y, of the shape of X, of X, K_t (C, 3), A (B*T, 1, H, W) and B (B*T, C, 1, 1)."""
    if not kernels.support(x):
        return excite_in_pytorch(x, taps, a, b, num_segments)
    y = torch.empty_like(x)
    kernels.run("excite", x, num_segments, *_inputs(x, taps), *_small(x, a, b), y)
    return y


@excite.register_fake
def _(x: Tensor, taps: Tensor, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    return torch.empty_like(x)


def excite_in_pytorch(x: Tensor, taps: Tensor, a: Tensor, b: Tensor, num_segments: int) -> Tensor:
    z = convolve_time(x, taps, num_segments)
    return torch.addcmul(z * a.to(x.dtype), x, b.to(x.dtype))


@operator
def excite_gradients(
    grad_y: Tensor, x: Tensor, taps: Tensor, pooled: Tensor, num_segments: int
) -> tuple[Tensor, Tensor, Tensor]:
    """dA, dB, and the number of channels where Z is the maximum, (B*T, 1, H, W), from dY."""
    if not kernels.support(x):
        return excite_gradients_in_pytorch(grad_y, x, taps, pooled, num_segments)
    frames, channels = x.shape[:2]
    of_a, ties = (x.new_empty(frames, 1, *x.shape[2:]) for _ in range(2))
    parts = x.new_empty(frames // num_segments, kernels.CHUNKS, num_segments, channels)
    inputs = (_channels_last(grad_y), *_inputs(x, taps), *_small(x, pooled))
    kernels.run("excite_gradients", x, num_segments, *inputs, of_a, parts, ties)
    return of_a, parts.sum(1).view(frames, channels, 1, 1), ties


@excite_gradients.register_fake
def _(
    grad_y: Tensor, x: Tensor, taps: Tensor, pooled: Tensor, num_segments: int
) -> tuple[Tensor, Tensor, Tensor]:
    frames, channels, height, width = x.shape
    of_a, ties = (x.new_empty(frames, 1, height, width) for _ in range(2))
    return of_a, x.new_empty(frames, channels, 1, 1), ties


def excite_gradients_in_pytorch(
    grad_y: Tensor, x: Tensor, taps: Tensor, pooled: Tensor, num_segments: int
) -> tuple[Tensor, Tensor, Tensor]:
    z = convolve_time(x, taps, num_segments)
    ties = (z == pooled[:, 1:]).to(x.dtype).sum(1, keepdim=True)
    of_a = (grad_y * z).sum(1, keepdim=True).contiguous()
    return of_a, (grad_y * x).sum((2, 3), keepdim=True).contiguous(), ties.contiguous()


@operator
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
    """dX and dK_t (C, 3) from dY.

    ``everywhere`` is the derivative with respect to Z by the mean, at every channel,
    (B*T, 1, H, W); ``at_top`` the same by the maximum, at the channels that have it.
    """
    if not kernels.support(x):
        return input_gradients_in_pytorch(
            grad_y, x, taps, a, b, pooled, everywhere, at_top, num_segments
        )
    grad_x = torch.empty_like(x)
    parts = x.new_empty(x.shape[0] // num_segments * kernels.CHUNKS, 3, x.shape[1])
    small = _small(x, a, b, pooled, everywhere, at_top)
    inputs = (_channels_last(grad_y), *_inputs(x, taps), *small)
    if kernels.run("input_gradients", x, num_segments, *inputs, grad_x, parts):
        raise MemoryError("no memory for the gradient of SMNet's module")
    return grad_x, parts.sum(0).t().to(taps.dtype).contiguous()


@input_gradients.register_fake
def _(grad_y: Tensor, x: Tensor, taps: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), taps.new_empty(taps.shape)


def input_gradients_in_pytorch(
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
    is_top = (convolve_time(x, taps, num_segments) == pooled[:, 1:]).to(x.dtype)
    grad_z = torch.addcmul(torch.addcmul(everywhere, grad_y, a), is_top, at_top)
    grad_rows, rows = (time_as_rows(y, num_segments) for y in (grad_z, x))
    kernel = taps[:, None, :, None].to(x.dtype)
    geometry = ((1, 1), (1, 0), (1, 1), False, [0, 0], x.shape[1])  # as in convolve_time
    rows, grad_taps, _ = torch.ops.aten.convolution_backward(
        grad_rows, rows, kernel, None, *geometry, [True, True, False]
    )
    grad_x = torch.addcmul(rows_as_time(rows, x), grad_y, b)
    return grad_x, grad_taps[:, 0, :, 0].to(taps.dtype).contiguous()


# ------------------------------------------------------------------ motion excitation


@operator
def edge_means(x: Tensor) -> Tensor:
    """Means of x (N, C, H, W) over the parts that a 3x3 kernel can lose at the border.

    Returns:
        (N, C, 3, 3). In the middle the mean over the frame; above and below it those over the last
        and the first row, left and right of it those over the last and the first column, and in the
        corners the pixel that such a row and column share.
    """
    if not kernels.support(x):
        return edge_means_in_pytorch(x).contiguous()
    return edge_means_by_kernel(x).contiguous()


@edge_means.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], 3, 3)


def edge_means_by_kernel(x: Tensor) -> Tensor:
    """:func:`edge_means` without the dispatcher, which costs more than the means of a small map.
    The result is channels-last."""
    means = x.new_empty(x.shape[0], 3, 3, x.shape[1])
    kernels.run("edge_means", x, 1, x, means)
    return means.permute(0, 3, 1, 2)


def edge_means_by_product(x: Tensor) -> Tensor:
    """:func:`edge_means` as one matrix product, for exported steps. Engines pay for every operator
    on one frame, and this takes the place of fourteen."""
    ends = [[[0.0] * (n - 1) + [1.0], [1 / n] * n, [1.0] + [0.0] * (n - 1)] for n in x.shape[2:]]
    shares = [[r[i] * c[j] for r in ends[0] for c in ends[1]] for i, j in np.ndindex(*x.shape[2:])]
    return (x.flatten(2) @ x.new_tensor(shares)).unflatten(2, (3, 3))


def edge_means_in_pytorch(x: Tensor) -> Tensor:
    """:func:`edge_means` in PyTorch's operators, for compilers and exporters.

    Slices and means alone, all of one shape: engines run these on 8-bit features. ``x`` may have
    more dimensions before the last two.
    """
    last, first, right, left = x[..., -1:, :], x[..., :1, :], x[..., -1:], x[..., :1]
    whole, *edges = (part.mean((-2, -1), keepdim=True) for part in (x, last, first, right, left))
    below, above, after, before = edges
    nine = [last[..., -1:], below, last[..., :1]]
    nine += [after, whole, before]
    nine += [first[..., -1:], above, first[..., :1]]
    return torch.cat(nine, dim=-2).unflatten(-2, (3, 3)).squeeze(-1)


def _edge_means_backward(ctx: Any, grad: Tensor) -> Tensor:
    """One map, where autograd would make one for each of the nine means."""
    height, width = ctx.size
    share = (grad[:, :, 1:2, 1:2] / (height * width)).expand(-1, -1, height, width)
    out = share.clone(memory_format=torch.channels_last)
    for i, row in ((0, -1), (2, 0)):
        out[:, :, row] += grad[:, :, i, 1:2] / width
        for j, column in ((0, -1), (2, 0)):
            out[:, :, row, column] += grad[:, :, i, j]
    for j, column in ((0, -1), (2, 0)):
        out[:, :, :, column] += grad[:, :, 1, j, None] / height
    return out


def _save_size(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.size = inputs[0].shape[-2:]  # saving the map for its shape would keep it in memory


edge_means.register_autograd(_edge_means_backward, setup_context=_save_size)


# ------------------------------------------------------------------ layouts


def convolve_time(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    """Z = K_t * X of X (B*T, C, H, W), channels-last, and K_t (C, 3), as one convolution."""
    kernel = taps.to(x.dtype)[:, None, :, None]
    rows = F.conv2d(time_as_rows(x, num_segments), kernel, padding=(1, 0), groups=x.shape[1])
    return rows_as_time(rows, x)


def time_as_rows(x: Tensor, num_segments: int) -> Tensor:
    """Frames (B*T, C, H, W), channels-last -> (B, C, T, H*W), channels-last, the same memory.

    A depthwise 3x1 convolution of this image convolves over time and reads the features once.
    """
    _, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, num_segments, height * width, channels)
    return rows.permute(0, 3, 1, 2)


def rows_as_time(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`time_as_rows`, to the shape of ``like``."""
    return frames(rows.permute(0, 2, 3, 1), like)


def pixels(x: Tensor) -> Tensor:
    """(N, C, H, W), channels-last -> (N*H*W, C), the same memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def frames(pixels: Tensor, like: Tensor) -> Tensor:
    """(..., K) with N*H*W pixels in order -> (N, K, H, W), channels-last, the same memory."""
    height, width = like.shape[2:]
    return pixels.reshape(-1, height, width, pixels.shape[-1]).permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _inputs(x: Tensor, taps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X, the taps as the kernels read them, and a pixel of zeros for frames outside the clip."""
    return x, taps.to(x.dtype).t().contiguous(), x.new_zeros(x.shape[1])


def _small(x: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [tensor.to(x.dtype).contiguous() for tensor in tensors]
