"""The format of a checkpoint's header, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from smnet.checkpoints.metadata import first_problem, read_specification
from smnet.errors import UserError
from smnet.models.spec import ModelSpec

FORMAT = "smnet-video/1"
"""Name and version of the format, in every checkpoint's header."""

_TABLE = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Header:
    """What a checkpoint says about itself.

    Attributes:
        spec: the model, its input description and its class names.
        recipe: the recipe it was trained by, as plain values; empty if unknown.
        metrics: what was measured on it (``top1`` and the like, with the protocol).
    """

    spec: ModelSpec
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def parse_header(path: Path, entries: Mapping[str, str]) -> Header:
    """The header of the file ``path`` from its safetensors metadata.

    Raises:
        UserError: metadata of another program or version, or damaged.
    """
    written = entries.get("format", "")
    if not _is_ours(written):
        raise UserError(f"{path}: a safetensors file, but not a checkpoint of smnet")
    if written != FORMAT:
        raise UserError(f"{path}: format {written}; this version reads {FORMAT}")
    try:
        spec = read_specification(entries["spec"])
        recipe, metrics = (_TABLE.validate_json(entries[key]) for key in ("recipe", "metrics"))
    except ValidationError as error:
        raise UserError(f"{path}: its header is damaged ({first_problem(error)})") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: its header is damaged ({error})") from None
    return Header(spec, recipe, metrics)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a checkpoint of smnet, of this version or another."""
    try:
        with safe_open(path, framework="np") as file:
            return _is_ours((file.metadata() or {}).get("format", ""))
    except (SafetensorError, OSError):
        return False


def _is_ours(written: str) -> bool:
    return written.partition("/")[0] == FORMAT.partition("/")[0]
