"""The machine: cores, memory, and a description for the foot of every measurement."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from smnet import __version__


def describe_machine() -> dict[str, str]:
    """Processor, cores, GPU, versions and whether :mod:`smnet.models.native` is compiled, for the
    foot of every table of measurements."""
    import torch

    from smnet.models import native

    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "smnet": __version__,
        "native": "no" if native.library() is None else "yes",
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor of that size (glibc only).

    By default every large tensor is fresh memory from the kernel, zeroed page by page on first use:
    about a third of the time of a training step on a CPU, and up to half of that of prediction. The
    process holds its peak from then on.
    """
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)
    except (OSError, AttributeError, TypeError):
        return  # another C library: nothing to set


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
