"""The header of a checkpoint: everything but the weights, read without them and without PyTorch.

:func:`checkpoint_file` finds the file of a checkpoint that is given by name, address or path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from smnet.checkpoints.format import Header, is_checkpoint, parse_header
from smnet.checkpoints.hub import is_address, pull
from smnet.checkpoints.published import checkpoint_of, did_you_mean, is_name
from smnet.errors import UserError

__all__ = [
    "Header",
    "checkpoint_file",
    "is_checkpoint",
    "is_path",
    "open_checkpoint",
    "read_header",
]


def is_path(source: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is given by its path, not by a name or an address."""
    return not (is_address(source) or is_name(source))


def checkpoint_file(source: str | os.PathLike[str]) -> Path:
    """The file of a checkpoint, for every verb that takes one.

    Args:
        source: ``motion``, which ships; the name of a published network (``smnet weights``), which
            is fetched and converted once; ``hf://owner/name`` on the hub; a run's folder, for its
            best checkpoint; or a file. Names come before paths: ``./motion`` is a path.

    Raises:
        UserError: there is none.
    """
    if is_name(source):
        return checkpoint_of(str(source))
    path = pull(str(source)) if is_address(source) else Path(source)
    if path.is_dir():
        path = path / "best.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint{did_you_mean(str(source))}")
    return path


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the header of a checkpoint.

    Args:
        path: see :func:`checkpoint_file`.

    Raises:
        UserError: no such file, a truncated one, or one of another kind.
    """
    with open_checkpoint(path, "np") as (_, header):
        return header


@contextmanager
def open_checkpoint(path: str | os.PathLike[str], framework: str) -> Iterator[tuple[Any, Header]]:
    """The open safetensors file of a checkpoint, and its header; see :func:`read_header`."""
    path = checkpoint_file(path)
    try:
        with safe_open(path, framework=framework) as file:
            yield file, parse_header(path, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint, or truncated ({error})") from None
