"""Compiles ``src/smnet/models/fast/kernels.c`` when the package is built or installed.

Where there is no C compiler with OpenMP, the package is installed without the compiled kernels and
PyTorch does the same work. Python opens the library by ctypes, so one wheel serves all versions of
Python on a platform.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# As in fast/kernels.py, which checks the processor before it opens the library.
FOLDER = "src/smnet/models/fast"
SOURCE = "kernels.c"
LIBRARY = "libkernels.so"
FLAGS = ("-O3", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno")
MACHINE_FLAGS = {"x86_64": ("-march=x86-64-v3",)}


class Compile(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        if self.target_name != "wheel" or not compile_kernels(Path(self.root) / FOLDER):
            return
        build_data["artifacts"].append(f"{FOLDER}/{LIBRARY}")
        build_data["pure_python"] = False
        platform_tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform_tag}"


def compile_kernels(folder: Path) -> bool:
    """Compile the kernels in ``folder``; return whether that was possible."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    library = folder / LIBRARY
    library.unlink(missing_ok=True)
    if sys.platform != "linux" or compiler is None:
        return False
    source = folder / SOURCE
    version = hashlib.sha256(source.read_bytes()).hexdigest()
    flags = (*FLAGS, *MACHINE_FLAGS.get(platform.machine(), ()), f'-DSOURCE="{version}"')
    partial = library.with_suffix(".part")
    command = [compiler, *flags, str(source), "-o", str(partial), "-lm"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        partial.replace(library)
    return done.returncode == 0
