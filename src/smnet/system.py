"""The machine: its description, the cores that may be used, how memory is kept."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
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


INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "VNNI",
    "avx512_vnni": "VNNI",
    "amx_int8": "AMX",
}
"""Flags of Linux for what decides the speed of networks on x86; VNNI and AMX that of 8 bits."""


def _processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the processor, and the instructions that it has of :data:`INSTRUCTIONS`."""
    try:
        lines = [line.partition(":") for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    flags = facts.get("flags", "").split()
    found = dict.fromkeys(name for flag, name in INSTRUCTIONS.items() if flag in flags)
    name = facts.get("model name", platform.machine())
    return f"{name} ({', '.join(found)})" if found else name


def keep_freed_memory() -> None:
    """Let the C library reuse freed memory instead of returning it to the kernel (glibc only).

    By default the kernel zeroes the pages of every large tensor on first use, which takes about a
    third of a training step on a CPU and up to half of a prediction. The process then keeps its
    peak memory. :func:`restart_with_merged_memory` makes that peak smaller.
    """
    m_trim_threshold, m_mmap_max, m_mxfast = -1, -4, 1  # malloc.h
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)
        libc.mallopt(m_mxfast, 0)
    except (OSError, AttributeError, TypeError):
        return  # another C library


MERGED_MEMORY = "glibc.malloc.tcache_count=0"
"""Part of the variable GLIBC_TUNABLES, see :func:`restart_with_merged_memory`."""


def restart_with_merged_memory() -> None:
    """Start the command line of this process again with the thread caches of malloc off (glibc).

    glibc cuts a small block off each end of a tensor to align it. A cached block is not merged with
    the hole of the freed tensor, and the hole is too small for the next tensor of its size. Without
    the caches a training step needs less memory in the same time: 6 to 11 % for TSN on ResNet-50,
    18 to 20 % for SMNet. glibc reads the setting when a process starts.

    Does nothing in a process that has the setting, whatever its value, and nothing in another
    program, which may have done something before.
    """
    others = os.environ.get("GLIBC_TUNABLES", "")
    given = MERGED_MEMORY.partition("=")[0] in others
    program = Path(sys.argv[0])
    own = program.name == "smnet" or program == Path(__file__).with_name("__main__.py")
    words = sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :]
    if platform.libc_ver()[0] != "glibc" or given or not own or words != sys.argv[1:]:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [others, MERGED_MEMORY]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


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
