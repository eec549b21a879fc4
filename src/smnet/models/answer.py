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
    of other kinds or sizes, weights in other memory, a normalisation by the features at hand.

    Raises:
        MemoryError: no memory for the mask and the gates.
    """
    if not native.knows(x) or x.shape[0] % num_segments:
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
    c, r, k = x.shape[1], squeeze.shape[0], kernel.shape[-1]
    layers = (
        _layer(kernel, (1, 2, k, k), convs[0], attention["norm"]),
        _layer(squeeze, (r, c, 1, 1), convs[1], me["norm"]),
        _layer(transform, (r, 1, 3, 3), convs[2], None),
        _layer(expand, (c, r, 1, 1), convs[3], me["expand_norm"]),
    )
    if None in layers or not _is_readable(taps, (c, 1, 3)):
        return None
    form = _Module(taps.data_ptr(), *layers, k, r, motion.residual, motion.both)
    y = torch.empty_like(x)
    if native.run("answer", x, num_segments, x, y, form):
        raise MemoryError("no memory for the mask and the gates of SMNet's module")
    return y


def _layer(weight: Tensor, shape: tuple[int, ...], conv: nn.Conv2d, norm: Any) -> _Layer | None:
    """None for what ``answer.c`` does not know."""
    outputs, side = shape[0], shape[-1]
    if not _is_readable(weight, shape):
        return None
    if conv.stride != (1, 1) or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        return None
    if conv.padding != (side // 2, side // 2):
        return None
    tensors: list[Any] = [conv._parameters["bias"], None, None, None, None]
    epsilon = 0.0
    if type(norm) is nn.BatchNorm2d:
        if norm.training or not norm.affine or not norm.track_running_stats:
            return None
        tensors[1:3] = norm._buffers["running_mean"], norm._buffers["running_var"]
        tensors[3:5] = norm._parameters["weight"], norm._parameters["bias"]
        epsilon = norm.eps
    elif norm is not None and type(norm) is not nn.Identity:
        return None
    if not all(tensor is None or _is_readable(tensor, (outputs,)) for tensor in tensors):
        return None
    addresses = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    return _Layer(weight.data_ptr(), *addresses, epsilon)


def _is_readable(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    return tensor.shape == shape and native.reads(tensor) and tensor.is_contiguous()
