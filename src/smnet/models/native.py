"""What is compiled: ``native.c`` and ``answer.c``, for features on CPUs, in float32, channels
innermost.

The features are by far the largest thing that a temporal module touches, so its time is the number
of times that they are read and written. PyTorch needs a pass for each operator; ``native.c`` makes
the sums of several in one. Installing the package compiles it where there is a C compiler with
OpenMP; elsewhere, and for any other features, PyTorch does the work, with the same results.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

FOLDER = Path(__file__).parent
LIBRARY = "libnative.so"
CHUNKS = 8
"""As in ``native.c``: partial sums of a clip."""

# Since PyTorch 2.7. Before, a strict export cannot be told from a compilation.
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


class _Size(ctypes.Structure):
    _fields_ = (
        ("clips", ctypes.c_long),
        ("frames", ctypes.c_long),
        ("height", ctypes.c_long),
        ("width", ctypes.c_long),
        ("channels", ctypes.c_long),
        ("threads", ctypes.c_int),
    )


def run(
    name: str, x: Tensor, num_segments: int, *arguments: Tensor | ctypes.Structure | None
) -> int:
    """Call ``smnet_<name>`` with tensors that lie as it wants them; its result.

    Args:
        name: of a function of these files.
        x: the features, (B*T, C, H, W), whose size is what is told of all.
        num_segments: T.
        arguments: tensors in float32, maps of features channels last and others contiguous; or
            what is made of the addresses of such tensors; or None for NULL.

    Raises:
        TypeError: a tensor of another type, or not in the memory of this process.
    """
    frames, channels, height, width = x.shape
    size = _Size(
        frames // num_segments, num_segments, height, width, channels, torch.get_num_threads()
    )
    given = [_pointer(argument) for argument in arguments]
    return int(getattr(library(), f"smnet_{name}")(*given, ctypes.byref(size)))


def _pointer(argument: Tensor | ctypes.Structure | None) -> Any:
    if argument is None:
        return None
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    if not reads(argument):
        kind = f"{type(argument).__name__} in {argument.dtype} on {argument.device}"
        raise TypeError(f"features in float32 on the CPU meet a tensor of another kind: {kind}")
    return ctypes.c_void_p(argument.data_ptr())


def reads(tensor: Tensor) -> bool:
    """Whether ``native.c`` can read a tensor, however it lies."""
    plain = type(tensor) is Tensor or type(tensor) is nn.Parameter  # others may have no memory
    return plain and tensor.dtype is torch.float32 and tensor.is_cpu and not tensor.is_neg()


def knows(x: Tensor) -> bool:
    """Whether ``native.c`` is there, and is for features of this kind."""
    return not _watched() and _is_for(x) and not x.is_neg() and library() is not None


def has_operators_for(x: Tensor) -> bool:
    """The same where PyTorch's compiler traces, which is to call what is compiled as operators.

    Not where a program is exported: it is to run without this package.
    """
    return (
        torch.compiler.is_dynamo_compiling()
        and not _is_exporting()
        and not torch.is_autocast_enabled("cpu")
        and _is_for(x)
        and _is_there()
    )


def _is_for(x: Tensor) -> bool:
    """Whether ``native.c`` is for features (B*T, C, H, W) of this kind."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and type(x) is Tensor
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


@torch.compiler.assume_constant_result
def _is_there() -> bool:
    """A question that the compiler asks once; it cannot trace the answer."""
    return library() is not None


def _watched() -> bool:
    """Whether somebody must see every operator: a tracer, vmap, forward-mode differentiation,
    autocast, a mode of dispatch."""
    return (
        torch.compiler.is_compiling()  # first: the compiler cannot trace the others
        or torch.is_autocast_enabled("cpu")
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled form of them; None where there is none, or one of another version."""
    if platform.machine() == "x86_64" and not _has_avx2():  # for which hatch_build.py compiles
        return None
    try:
        found = ctypes.CDLL(str(FOLDER / LIBRARY))
        made_of = ctypes.c_char_p.in_dll(found, "smnet_source").value
        sources = sorted(FOLDER.glob("*.[ch]"))  # as in hatch_build.py
        source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    except (OSError, ValueError):
        return None
    return found if made_of == source.encode() else None


def _has_avx2() -> bool:
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
