"""SMNet's module and the convolution after it as operators that keep one feature map.

Written in PyTorch, the module and the convolution after it keep X, Z and Y for the backward pass.
These operators keep X alone and compute the others again. With the letters of
:mod:`smnet.models.fast.operators` and K the convolution after the module:

    P, K_r * X = observe(X)     A = a(P)     B = b(K_r * X)     H = K * (Z A + X B)

:func:`observe` gives P and K_r * X, small modules make A and B of these, and
:func:`excite_and_convolve` gives H. The derivative with respect to X has parts from both operators,
and one pass over the features computes all of them if it has dY, A and B. So ``observe`` returns
three more tensors, the relays, which have a shape and no values. ``excite_and_convolve`` takes
them, and its backward pass returns dY, A and B in the place of their gradients.

Second derivatives are those of the backward pass in PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import (
    excite,
    excite_gradients,
    excite_gradients_in_pytorch,
    excite_in_pytorch,
    frames,
    input_gradients,
    input_gradients_in_pytorch,
    operator,
    pixels,
    pool,
)


@operator
def observe(
    x: Tensor, taps: Tensor, squeeze: Tensor, num_segments: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """P and K_r * X of X (B*T, C, H, W), channels-last, and the relays to ``excite_and_convolve``.

    Returns:
        P (B*T, 2, H, W), K_r * X (B*T, C/r, H, W), and relays of the shapes of Y, of A with a
        second channel for the number of channels that share the maximum, and of B.
    """
    pooled = pool(x, taps, num_segments)
    squeezed = torch.mm(pixels(x), squeeze.flatten(1).t().to(x.dtype))
    return pooled, frames(squeezed, x), *_relays(x)


@observe.register_fake
def _(
    x: Tensor, taps: Tensor, squeeze: Tensor, num_segments: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    frames, _, height, width = x.shape
    squeezed = x.new_empty(frames, height, width, squeeze.shape[0]).permute(0, 3, 1, 2)
    return x.new_empty(frames, 2, height, width), squeezed, *_relays(x)


def _relays(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count, channels, height, width = x.shape
    of_y, of_a, of_b = (x.new_zeros(()) for _ in range(3))  # results may not share memory
    of_y, of_a = of_y.expand(count, channels, height, width), of_a.expand(count, 2, height, width)
    return of_y, of_a, of_b.expand(count, channels, 1, 1)


def _save_observed(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, taps, squeeze, ctx.num_segments = inputs
    ctx.save_for_backward(x, taps, squeeze, output[0])


def _observe_backward(
    ctx: Any, grad_pooled: Tensor, grad_squeezed: Tensor, grad_y: Tensor, a_ties: Tensor, b: Tensor
) -> tuple[Tensor | None, ...]:
    x, taps, squeeze, pooled = ctx.saved_tensors
    again = torch.is_grad_enabled()  # create_graph=True
    with torch.autocast(x.device.type, enabled=False):
        a, ties = a_ties[:, :1], a_ties[:, 1:]
        everywhere = grad_pooled[:, :1] / x.shape[1]
        at_top = grad_pooled[:, 1:] / ties.clamp(min=1)  # the channels share it, as in amax
        grad_x, grad_taps = (input_gradients_in_pytorch if again else input_gradients)(
            grad_y, x, taps, a, b, pooled, everywhere, at_top, ctx.num_segments
        )
        rows, kernel = pixels(grad_squeezed.to(x.dtype)), squeeze.flatten(1).to(x.dtype)
        if again:
            grad_x = grad_x + frames(torch.mm(rows, kernel), x)
        else:
            pixels(grad_x).addmm_(rows, kernel)
        grad_squeeze = torch.mm(rows.t(), pixels(x)).view_as(squeeze).to(squeeze.dtype)
    return grad_x, grad_taps, grad_squeeze, None


observe.register_autograd(_observe_backward, setup_context=_save_observed)


@operator
def excite_and_convolve(
    of_y: Tensor,
    of_a: Tensor,
    of_b: Tensor,
    x: Tensor,
    taps: Tensor,
    pooled: Tensor,
    a: Tensor,
    b: Tensor,
    num_segments: int,
    weight: Tensor | None,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """H = K * Y; Y itself if ``weight`` is None.

    ``of_y``, ``of_a`` and ``of_b`` are the relays of :func:`observe`; ``pooled`` is P, ``a`` is A,
    (B*T, 1, H, W), ``b`` is B, (B*T, C, 1, 1).
    """
    y: Tensor = excite(x, taps, a, b, num_segments)
    if weight is None:
        return y
    bias = None if bias is None else bias.to(y.dtype)
    return F.conv2d(y, weight.to(y.dtype), bias, stride, padding, dilation, groups)


@excite_and_convolve.register_fake
def _(*inputs: Any) -> Tensor:
    x, weight, convolution = inputs[3], inputs[9], inputs[11:]
    return (
        torch.empty_like(x)
        if weight is None
        else F.conv2d(x, weight.to(x.dtype), None, *convolution)
    )


def _save_excited(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, taps, pooled, a, b, ctx.num_segments, weight, bias, *ctx.convolution = inputs[3:]
    ctx.save_for_backward(x, taps, pooled, a, b, weight)
    ctx.bias_sizes = None if bias is None else list(bias.shape)


def _excite_and_convolve_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, taps, pooled, a, b, weight = ctx.saved_tensors
    again = torch.is_grad_enabled()  # create_graph=True
    grad_weight = grad_bias = None
    with torch.autocast(x.device.type, enabled=False):
        if weight is not None:
            *sizes, groups = ctx.convolution
            geometry = (*sizes, False, [0, 0], groups)
            wanted = [True, True, ctx.bias_sizes is not None]
            y = (excite_in_pytorch if again else excite)(x, taps, a, b, ctx.num_segments)
            grad, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad, y, weight.to(y.dtype), ctx.bias_sizes, *geometry, wanted
            )
            del y
            grad_weight = grad_weight.to(weight.dtype)
            grad_bias = None if grad_bias is None else grad_bias.to(weight.dtype)
        grad_a, grad_b, ties = (excite_gradients_in_pytorch if again else excite_gradients)(
            grad, x, taps, pooled, ctx.num_segments
        )
        relays = (grad, torch.cat([a.to(x.dtype), ties], dim=1), b.to(x.dtype))
    features = (None, None, None, grad_a.to(a.dtype), grad_b.to(b.dtype), None)
    return *relays, *features, grad_weight, grad_bias, None, None, None, None


excite_and_convolve.register_autograd(_excite_and_convolve_backward, setup_context=_save_excited)
