"""A trained model as one file: tensors, specification, class names, recipe and metrics.

The file is safetensors with the rest as JSON in its header: any safetensors reader sees all of it,
and reading it never runs code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from smnet.checkpoints.hub import is_address, pull
from smnet.checkpoints.metadata import dump_specification, read_specification
from smnet.errors import UserError
from smnet.files import atomic_path
from smnet.models import ModelSpec, VideoModel, build_model

FORMAT = "smnet-video/1"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds besides code, of which it holds none.

    Attributes:
        spec: the model, its sampling, input and class names.
        tensors: its ``state_dict``.
        recipe: the recipe it was trained by, as plain values; empty if unknown.
        metrics: what was measured on it (``top1`` and the like, with the protocol).
    """

    spec: ModelSpec
    tensors: Mapping[str, Tensor]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> VideoModel:
        """The model, in evaluation mode, on the CPU."""
        with torch.device("meta"):
            model = build_model(self.spec)
        own = {name: (tuple(t.shape), t.dtype) for name, t in model.state_dict().items()}
        given = {name: (tuple(t.shape), t.dtype) for name, t in self.tensors.items()}
        if own != given:
            differ = sorted(name for name, _ in set(own.items()) ^ set(given.items()))
            shown = ", ".join(list(dict.fromkeys(differ))[:6])
            raise UserError(f"the tensors are not those of {self.spec.name}: see {shown}")
        model.load_state_dict(dict(self.tensors), assign=True)
        return model.eval()


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically. ``UserError`` if it cannot be written."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
    header = {
        "format": FORMAT,
        "spec": dump_specification(checkpoint.spec),
        "recipe": json.dumps(dict(checkpoint.recipe), ensure_ascii=False),
        "metrics": json.dumps(dict(checkpoint.metrics), ensure_ascii=False),
    }
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, header)
        except SafetensorError as error:  # how the library reports a full disk
            raise OSError(None, str(error)) from error
        _sort_header(temporary)


def _sort_header(file: Path) -> None:
    """Equal checkpoints are equal files; the library writes its metadata in any order."""
    with file.open("r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # as written, but for escapes of which there are several forms
            opened.seek(8)
            opened.write(text.ljust(size))


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a checkpoint of ours, of this version or another."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format", "").startswith(FORMAT.partition("/")[0])
    except (SafetensorError, OSError):
        return False


def checkpoint_file(path: str | os.PathLike[str]) -> Path:
    """The file that ``path`` stands for: itself, a run's best, or the copy of one on the hub.

    Raises:
        UserError: there is none.
    """
    path = pull(str(path)) if is_address(path) else Path(path)
    if path.is_dir():
        path = path / "best.safetensors"  # a run's folder stands for its best checkpoint
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    return path


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint: a file, a run's folder (its best), or ``hf://owner/name`` on the hub.

    Raises:
        UserError: there is no such file, it is cut short, or it is something else.
    """
    path = checkpoint_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format", "").partition("/")[0] != FORMAT.partition("/")[0]:
                raise UserError(f"{path}: a safetensors file, but not a checkpoint of smnet")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint, or cut short ({error})") from None
    if header["format"] != FORMAT:
        raise UserError(
            f"{path}: written in the form {header['format']}, this version reads {FORMAT}"
        )
    try:
        spec = read_specification(header["spec"])
        recipe, metrics = (_TABLE.validate_json(header[key]) for key in ("recipe", "metrics"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: its header is damaged ({where}: {first['msg']})") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: its header is damaged ({error})") from None
    return Checkpoint(spec, tensors, recipe, metrics)


_TABLE = TypeAdapter(dict[str, Any])


def load(path: str | os.PathLike[str]) -> VideoModel:
    """The trained model of a checkpoint, ready to evaluate; see :func:`read_checkpoint`."""
    checkpoint = read_checkpoint(path)
    try:
        return checkpoint.build()
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
