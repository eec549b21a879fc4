"""SMNet's module and the convolution behind it as one step of automatic differentiation.

The plain formulation (``SMNetModule.forward``, then the convolution) keeps three maps of the size
of X for the backward pass: X, Z and Y. This one keeps X alone; Z and Y are cheap to make again from
it, and the passes over them that automatic differentiation would make one by one are few here. With
A = 1 + M_s the mask and B = 1 + M_m the gate:

    Z = K_t * X     A = a(mean_c Z, max_c Z)     B = b(K_r * X)     Y = Z A + X B     H = K * Y

``a`` and ``b`` are the module's own code on small tensors, differentiated as always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import native
from .excitation import hooked
from .layers import is_traced
from .passes import passes_over


@dataclass(frozen=True)
class Excitation:
    """The module, as :func:`excite_and_convolve` calls it.

    Attributes:
        taps: K_t, (C, 1, 3).
        squeeze: K_r, (C/r, C, 1, 1).
        mask: (mean_c Z, max_c Z) as (B*T, 2, H, W) -> A, (B*T, 1, H, W).
        gate: K_r * X, (B*T, C/r, H, W) -> B, (B*T, C, 1, 1).
        parameters: what ``mask`` and ``gate`` learn.
    """

    taps: Tensor
    squeeze: Tensor
    mask: Callable[[Tensor], Tensor]
    gate: Callable[[Tensor], Tensor]
    parameters: tuple[nn.Parameter, ...]


def applies(module: nn.Module, conv: nn.Module, x: Tensor) -> bool:
    """Whether the step can stand for ``conv(module(x))`` here.

    Not where nothing is learned, where a compiler or an exporter wants to see the operators, where
    a hook or something that learns would be passed over, and in no other memory layout than
    channels-last.
    """
    if not torch.is_grad_enabled() or not module.training or x.is_meta or x.numel() == 0:
        return False
    if is_traced():
        return False
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros":
        return False
    if not x.is_contiguous(memory_format=torch.channels_last):
        return False
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) != x.dtype:
        return False
    return not _is_hooked(module, conv) and not _learns_elsewhere(module)


def _learns_elsewhere(module: nn.Module) -> bool:
    """Whether a tensor that learns stands where a parameter was, as a part of a longer one under
    FSDP: it is none of the parameters that the step gives gradients to."""
    values = (value for part in _parts(module) for value in vars(part).values())
    return any(isinstance(value, Tensor) and value.requires_grad for value in values)


def runs_in_passes(module: nn.Module, x: Tensor) -> bool:
    """Whether ``passes_over(x)`` can stand for the module's equations, with nothing learned.

    A compiler is given them where it knows them as operators; an exporter sees the equations.
    """
    if torch.is_grad_enabled() or _is_hooked(module):
        return False
    return not is_traced() or native.has_operators_for(x)


def _is_hooked(*modules: nn.Module) -> bool:
    """Whether somebody's hook on these modules or their parts would be passed over."""
    return any(map(hooked, _parts(*modules)))


def _parts(*modules: nn.Module) -> Iterator[nn.Module]:
    """These modules and all in them, as ``nn.Module.modules()`` has them, in a fraction of its
    time: steps ask at every block."""
    left = list(modules)
    while left:
        part = left.pop()
        yield part
        left.extend(inner for inner in part._modules.values() if inner is not None)


def excite_and_convolve(
    x: Tensor, excitation: Excitation, conv: nn.Module, num_segments: int
) -> Tensor:
    """``conv``, a plain convolution, of Y = Z A + X B; x (B*T, C, H, W), channels last."""
    assert isinstance(conv, nn.Conv2d)
    out: Tensor = _ExciteAndConvolve.apply(
        x,
        excitation,
        conv,
        num_segments,
        excitation.taps,
        excitation.squeeze,
        conv.weight,
        conv.bias,
        *excitation.parameters,
    )
    return out


class _ExciteAndConvolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        excitation: Excitation,
        conv: nn.Conv2d,
        num_segments: int,
        taps: Tensor,
        squeeze: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        passes = passes_over(x, taps[:, 0], num_segments)
        seen = passes.seen()
        squeezed = _as_map(torch.mm(_pixels(x), squeeze.flatten(1).t().to(x.dtype)), x)
        with torch.enable_grad():
            seen.requires_grad_()
            squeezed.requires_grad_()
            scale, gate = excitation.mask(seen), excitation.gate(squeezed)
        y = passes.excited(scale.detach(), gate.detach(), last=True)
        ctx.save_for_backward(x, taps, squeeze, weight, *parameters)
        ctx.small = (seen, squeezed, scale, gate)
        ctx.num_segments = num_segments
        ctx.conv = (conv.stride, conv.padding, conv.dilation, conv.groups)
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        return F.conv2d(y, weight, bias, *ctx.conv)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # once_differentiable would not tell torch.autograd.grad
            raise RuntimeError(
                "SMNet's module and the convolution behind it, as one step, have a first derivative"
                " only; for create_graph=True set fusable = False on every SMNetModule"
            )
        with torch.autocast(grad.device.type, enabled=False):  # all is in the types of forward
            return _ExciteAndConvolve._gradients(ctx, grad)

    @staticmethod
    def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps, squeeze, weight, *parameters = ctx.saved_tensors
        seen, squeezed, scale, gate = ctx.small
        a, b = scale.detach(), gate.detach()
        passes = passes_over(x, taps[:, 0], ctx.num_segments)
        y = passes.excited(a, b)
        grad_y, grad_weight, grad_bias = _convolution_backward(
            grad, y, weight, ctx.bias_sizes, *ctx.conv
        )
        del y
        grad_scale, grad_gate, ties = passes.excitation_gradient(grad_y, seen.detach())
        learned = [
            p for p, asked in zip(parameters, ctx.needs_input_grad[8:], strict=True) if asked
        ]
        grad_seen, grad_squeezed, *grads = torch.autograd.grad(
            [scale, gate],
            [seen, squeezed, *learned],
            [grad_scale.to(scale.dtype), grad_gate.to(gate.dtype)],
            retain_graph=True,
        )
        of_learned = iter(grads)
        everywhere = grad_seen[:, :1] / x.shape[1]
        at_top = grad_seen[:, 1:] / ties  # channels that share the maximum share its gradient
        grad_x, grad_taps = passes.input_gradient(grad_y, a, b, seen.detach(), everywhere, at_top)
        rows = _pixels(grad_squeezed.to(x.dtype))
        _pixels(grad_x).addmm_(rows, squeeze.flatten(1).to(x.dtype))
        grad_squeeze = torch.mm(rows.t(), _pixels(x)).view_as(squeeze)
        return (
            grad_x,
            None,
            None,
            None,
            grad_taps[:, None].to(taps.dtype),
            grad_squeeze.to(squeeze.dtype),
            grad_weight,
            grad_bias,
            *(next(of_learned) if asked else None for asked in ctx.needs_input_grad[8:]),
        )


def _pixels(x: Tensor) -> Tensor:
    """x (N, C, H, W), channels last -> (N*H*W, C), the same memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _as_map(pixels: Tensor, like: Tensor) -> Tensor:
    """(N*H*W, K) -> (N, K, H, W), channels last, the same memory."""
    frames, _, height, width = like.shape
    return pixels.view(frames, height, width, -1).permute(0, 3, 1, 2)


def _convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: list[int] | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients with respect to x, the weight and the bias, those of parameters in their type."""
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight.to(x.dtype),
        bias_sizes,
        stride,
        padding,
        dilation,
        False,
        [0, 0],
        groups,
        [True, True, bias_sizes is not None],
    )
    if grad_bias is not None:
        grad_bias = grad_bias.to(weight.dtype)
    return grad_x, grad_weight.to(weight.dtype), grad_bias
