"""Loads ``kernels.c``: sums over features of float32 on CPUs, channels innermost.

A temporal module spends its time on reading and writing its features. PyTorch needs one pass for
every operator. These kernels compute several sums in one. Installing the package compiles them
where there is a C compiler with OpenMP. Elsewhere, and for other features, PyTorch computes the
same.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
SOURCE = "kernels.c"
LIBRARY = "libkernels.so"
CHUNKS = 8
"""As in ``kernels.c``: partial sums per clip."""


class _Size(ctypes.Structure):
    _fields_ = (
        ("clips", ctypes.c_long),
        ("frames", ctypes.c_long),
        ("height", ctypes.c_long),
        ("width", ctypes.c_long),
        ("channels", ctypes.c_long),
        ("threads", ctypes.c_int),
    )


def run(name: str, x: Tensor, num_segments: int, *arguments: Tensor) -> int:
    """Call ``smnet_<name>`` and return its result.

    Args:
        name: of a function of ``kernels.c``.
        x: features (B*T, C, H, W), which give the sizes.
        num_segments: T.
        arguments: float32 tensors on the CPU, feature maps channels-last and others contiguous.

    Raises:
        TypeError: a tensor of another type or device.
    """
    frames, channels, height, width = x.shape
    threads = torch.get_num_threads()
    size = _Size(frames // num_segments, num_segments, height, width, channels, threads)
    for tensor in arguments:
        if not _is_readable(tensor):
            raise TypeError(
                f"the kernels need float32 on the CPU, not {tensor.dtype} on {tensor.device}"
            )
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in arguments]
    return int(getattr(library(), f"smnet_{name}")(*pointers, ctypes.byref(size)))


def support(x: Tensor) -> bool:
    """Whether the kernels are compiled and take features ``x`` (B*T, C, H, W)."""
    return (
        _is_readable(x)
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and is_compiled()
    )


def _is_readable(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu"


@torch.compiler.assume_constant_result
def is_compiled() -> bool:
    """Whether the compiled kernels are there, of the version that ``kernels.c`` has now."""
    return library() is not None


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there are none, or those of another version."""
    if platform.machine() == "x86_64" and not _has_avx2():  # hatch_build.py compiles for AVX2
        return None
    try:
        loaded = ctypes.CDLL(str(FOLDER / LIBRARY))
        compiled_from = ctypes.c_char_p.in_dll(loaded, "smnet_source").value
        source = hashlib.sha256((FOLDER / SOURCE).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
    return loaded if compiled_from == source.encode() else None


def _has_avx2() -> bool:
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
