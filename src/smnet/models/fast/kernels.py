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
        *((name, ctypes.c_long) for name in ("clips", "frames", "height", "width", "channels")),
        ("threads", ctypes.c_int),
    )


def run(name: str, x: Tensor, num_segments: int, *arguments: Tensor) -> int:
    """Call ``smnet_<name>`` of ``kernels.c`` on float32 tensors on the CPU.

    Feature maps are channels-last, other arguments contiguous. ``x`` gives the sizes.

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
        and COMPILED
    )


def _is_readable(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu"


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there are none, or those of another version."""
    capability = torch.backends.cpu.get_cpu_capability()
    if platform.machine() == "x86_64" and capability not in ("AVX2", "AVX512"):
        return None  # hatch_build.py compiles for AVX2
    try:
        loaded = ctypes.CDLL(str(FOLDER / LIBRARY))
        compiled_from = ctypes.c_char_p.in_dll(loaded, "smnet_source").value
        source = hashlib.sha256((FOLDER / SOURCE).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
    return loaded if compiled_from == source.encode() else None


COMPILED = library() is not None
"""Whether the compiled kernels are there; a constant, because compilers cannot trace a library."""
