"""Compiles the C of ``src/smnet/models`` when the package is built or installed.

It is an accelerator: where there is no C compiler with OpenMP, the package is installed without it
and PyTorch does the same work. The compiled file is plain C that Python opens by ctypes, so one
wheel serves all versions of Python on a platform.
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

FOLDER = "src/smnet/models"
LIBRARY = "libnative.so"
FLAGS = ("-O3", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno")
# What native.py asks of the processor before it opens the file.
OF_MACHINE = {"x86_64": ("-march=x86-64-v3",)}


class Compile(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        root = Path(self.root)
        if self.target_name != "wheel" or not compile_native(root / FOLDER):
            return
        build_data["artifacts"].append(f"{FOLDER}/{LIBRARY}")
        build_data["pure_python"] = False
        platform_tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform_tag}"


def compile_native(folder: Path) -> bool:
    """Whether it could be compiled."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    library = folder / LIBRARY
    library.unlink(missing_ok=True)
    if sys.platform != "linux" or compiler is None:
        return False
    sources = sorted(folder.glob("*.[ch]"))  # as in native.py
    made_of = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    flags = (*FLAGS, *OF_MACHINE.get(platform.machine(), ()), f'-DSOURCE="{made_of}"')
    partial = library.with_suffix(".part")
    units = [str(source) for source in sources if source.suffix == ".c"]
    done = subprocess.run(
        [compiler, *flags, *units, "-o", str(partial), "-lm"], capture_output=True, check=False
    )
    if done.returncode == 0:
        partial.replace(library)
    return done.returncode == 0
