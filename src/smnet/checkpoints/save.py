"""Write a trained model as one file.

The file is safetensors with the rest as JSON in its header. Any safetensors reader sees all of it,
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
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from smnet.checkpoints.format import FORMAT
from smnet.checkpoints.metadata import dump_specification
from smnet.console import finite
from smnet.errors import UserError
from smnet.files import atomic_path
from smnet.models import ModelSpec, VideoModel, build_model


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with its weights, ``tensors``; ``smnet.checkpoints.format.Header`` has the
    rest."""

    spec: ModelSpec
    tensors: Mapping[str, Tensor]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> VideoModel:
        """The model, in evaluation mode, on the CPU.

        Raises:
            ValueError: tensors of another model, or with values that are not finite.
        """
        with torch.device("meta"):
            model = build_model(self.spec)
        own = {name: (tuple(t.shape), t.dtype) for name, t in model.state_dict().items()}
        given = {name: (tuple(t.shape), t.dtype) for name, t in self.tensors.items()}
        if own != given:
            differ = sorted(name for name, _ in set(own.items()) ^ set(given.items()))
            shown = ", ".join(list(dict.fromkeys(differ))[:6])
            raise UserError(f"the tensors are not those of {self.spec.name}: see {shown}")
        wrong = [name for name, t in self.tensors.items() if not bool(torch.isfinite(t).all())]
        if wrong:
            more = f" and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
            raise ValueError(
                f"weights that are not finite numbers in {wrong[0]}{more}; the training diverged or"
                " the file is damaged"
            )
        model.load_state_dict(dict(self.tensors), assign=True)
        return model.eval()


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically. Equal checkpoints give equal files.

    Raises:
        UserError: it cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
    entries = {
        "format": FORMAT,
        "spec": dump_specification(checkpoint.spec),
        "recipe": json.dumps(finite(checkpoint.recipe), ensure_ascii=False),
        "metrics": json.dumps(finite(checkpoint.metrics), ensure_ascii=False),
    }
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, entries)
        except SafetensorError as error:  # how the library reports a full disk
            raise OSError(None, str(error)) from error
        _sort_header(temporary)


def _sort_header(file: Path) -> None:
    """Sort the entries of the header, which safetensors (0.8) writes in random order."""
    with file.open("r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # longer only where a character has several escapes
            opened.seek(8)
            opened.write(text.ljust(size))
