"""SMNet's module of a network that only answers, as one call of what is compiled.

Its mask and its gates are some forty operators on small tensors: in a network of few channels, or
on small frames, calling them is what the time goes to.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from . import native


class _Layer(ctypes.Structure):
    """A convolution and the normalisation behind it, as ``answer.c`` reads them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        *((name, ctypes.c_void_p) for name in ("mean", "variance", "gain", "offset")),
        ("epsilon", ctypes.c_float),
    )


class _Module(ctypes.Structure):
    _fields_ = (
        ("taps", ctypes.c_void_p),
        *((name, _Layer) for name in ("attention", "squeeze", "transform", "expand")),
        ("kernel", ctypes.c_long),
        ("squeezed", ctypes.c_long),
        ("residual", ctypes.c_float),
        ("both", ctypes.c_int),
    )


def answer(module: Any, x: Tensor, num_segments: int) -> Tensor | None:
    """What a fusable ``SMNetModule`` makes of features x (B*T, C, H, W), without gradients.

    None where ``answer.c`` is not for these features, or not for what the module is made of: layers
    of other kinds, weights in other memory, a normalisation by the features at hand.

    Raises:
        MemoryError: no memory for the mask and the gates.
    """
    if not native.knows(x):
        return None
    # From where nn.Module keeps them: to ask it for each would take as long as the call.
    se, me = (module._modules[path]._modules for path in ("se", "me"))
    attention, motion = se["attention"]._modules, module._modules["me"]
    convs = attention["conv"], me["squeeze"], me["transform"], me["expand"]
    if any(type(conv) is not nn.Conv2d for conv in convs):
        return None
    kernel, squeeze, transform, expand = (conv._parameters["weight"] for conv in convs)
    kernel = kernel.contiguous()  # the one that may lie with its channels innermost
    taps = se["temporal"]._parameters["weight"]
    layers = (
        _layer(kernel, convs[0], attention["norm"]),
        _layer(squeeze, convs[1], me["norm"]),
        _layer(transform, convs[2], None),
        _layer(expand, convs[3], me["expand_norm"]),
    )
    if None in layers or not _is_readable(taps):
        return None
    size = kernel.shape[-1], squeeze.shape[0]
    form = _Module(taps.data_ptr(), *layers, *size, motion.residual, motion.both)
    y = torch.empty_like(x)
    if native.run("answer", x, num_segments, x, y, form):
        raise MemoryError("no memory for the mask and the gates of SMNet's module")
    return y


def _layer(weight: Tensor, conv: nn.Conv2d, norm: Any) -> _Layer | None:
    """None for what ``answer.c`` does not know."""
    tensors: list[Any] = [weight, conv._parameters["bias"], None, None, None, None]
    epsilon = 0.0
    if type(norm) is nn.BatchNorm2d:
        if norm.training or not norm.affine or not norm.track_running_stats:
            return None
        tensors[2:4] = norm._buffers["running_mean"], norm._buffers["running_var"]
        tensors[4:6] = norm._parameters["weight"], norm._parameters["bias"]
        epsilon = norm.eps
    elif norm is not None and type(norm) is not nn.Identity:
        return None
    if not all(tensor is None or _is_readable(tensor) for tensor in tensors):
        return None
    return _Layer(*(None if tensor is None else tensor.data_ptr() for tensor in tensors), epsilon)


def _is_readable(tensor: Tensor) -> bool:
    return native.reads(tensor) and tensor.is_contiguous()
