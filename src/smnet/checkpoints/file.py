"""A trained model as one file: tensors, specification, class names, recipe and metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from smnet.checkpoints.header import open_checkpoint
from smnet.checkpoints.save import Checkpoint, save_checkpoint
from smnet.errors import UserError
from smnet.models import VideoModel

__all__ = ["Checkpoint", "load", "open_model", "read_checkpoint", "save_checkpoint"]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint with its weights.

    Args:
        path: see :func:`smnet.checkpoints.header.checkpoint_file`.

    Raises:
        UserError: no such file, a truncated one, or one of another kind.
    """
    with open_checkpoint(path, "pt") as (file, header):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Checkpoint(header.spec, tensors, header.recipe, header.metrics)


def open_model(path: str | os.PathLike[str]) -> tuple[VideoModel, Mapping[str, Any]]:
    """The trained model of a checkpoint in evaluation mode, and the recipe it was trained by.

    Raises:
        UserError: as ``read_checkpoint``; a model that cannot be built from the file.
    """
    checkpoint = read_checkpoint(path)
    try:
        return checkpoint.build(), checkpoint.recipe
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def load(path: str | os.PathLike[str]) -> VideoModel:
    """The trained model of a checkpoint in evaluation mode; see ``open_model``."""
    return open_model(path)[0]
