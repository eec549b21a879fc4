"""The machine: its description, the cores that may be used, how memory is kept."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from smnet import __version__


def describe_machine() -> dict[str, str]:
    """Processor, cores, GPU and versions, as stated under every table of measurements."""
    import torch

    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "smnet": __version__,
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
    """Let the C library reuse freed memory instead of returning it to the kernel (glibc only).

    By default the kernel zeroes the pages of every large tensor on first use, which takes about a
    third of a training step on a CPU and up to half of a prediction. The process then keeps its
    peak memory.
    """
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)
    except (OSError, AttributeError, TypeError):
        return  # another C library


def cache_folder(kind: str) -> Path:
    """Folder of what can be fetched again: ``$SMNET_CACHE/kind``, by default
    ``$XDG_CACHE_HOME/smnet/kind`` or ``~/.cache/smnet/kind``."""
    if given := os.environ.get("SMNET_CACHE"):
        return Path(given).expanduser() / kind
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "smnet" / kind


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def engine_threads() -> int:
    """Threads of a network in an exported file: ``OMP_NUM_THREADS`` as in PyTorch, else the cores.

    Ray sets it to the cores of a worker, and batch systems to those of a task.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(given) if given.isdecimal() and int(given) else available_cores()


def available_memory() -> int:
    """Bytes that programs can still take without swapping; 1 GiB where that is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        words = next(line.split() for line in lines if line.startswith("MemAvailable:"))
        return int(words[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return 1 << 30
