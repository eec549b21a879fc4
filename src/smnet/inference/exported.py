"""What engines that run exported files share: the file's metadata and its interface.

Nothing here imports PyTorch.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.metadata import dump_specification, read_specification
from smnet.data.annotations.source import split_of
from smnet.data.loading.views import Damage, ViewPlan, read_test_views
from smnet.errors import UserError
from smnet.models.spec import ModelSpec

ONNX_FORMAT = "smnet-onnx/1"
"""Of the metadata and the interface, in an ONNX file and in an OpenVINO one."""
INPUT, OUTPUT = "frames", "scores"
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where PyTorch's exporter writes the modules that a node comes from."""
CLIPS_AT_ONCE = 4
"""Clips that go through an engine together, at the most: more make it no faster, only larger."""


class ExportedBackend(ABC):
    """What engines that run an exported file share: pre-processing and softmax are inside it.

    Attributes:
        spec: the model, as the file's metadata describe it.
        recipe: the part of the training recipe that says how the data set was split, empty where
            the file does not say.
    """

    spec: ModelSpec
    recipe: Mapping[str, Any]

    def _take_metadata(self, path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
        """Set the attributes from a file's metadata.

        Raises:
            UserError: a file of another origin or version, or damaged.
        """
        self.spec = _specification(path, metadata)
        self.recipe = _split(metadata.get("division", ""))

    @property
    def side(self) -> int | None:
        return self.spec.input_size

    def read(self, path: str, plan: ViewPlan, damage: Damage | None = None) -> NDArray[np.uint8]:
        return read_test_views(path, plan, damage)

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch, count = views.shape[:2]
        flat = views.reshape(-1, *views.shape[2:])
        parts = [
            self.run(flat[first : first + CLIPS_AT_ONCE])
            for first in range(0, len(flat), CLIPS_AT_ONCE)
        ]
        scores: NDArray[np.float32] = np.concatenate(parts).reshape(batch, count, -1).mean(1)
        return scores

    @abstractmethod
    def run(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (B, K) of clips (B, T*L, 3, h, w)."""


def onnx_metadata(
    spec: ModelSpec, recipe: Mapping[str, Any] | None = None, **more: str
) -> dict[str, str]:
    """What an exported file says of itself: ``spec`` is all of the specification, ``division`` the
    split that ``recipe`` trained on; the rest is there for programs that know nothing of these."""
    if split := split_of(recipe or {}):
        more["division"] = json.dumps(split)
    return {
        "format": ONNX_FORMAT,
        "spec": dump_specification(spec),
        "classes": "\n".join(spec.class_names or map(str, range(spec.num_classes))),
        "sampling": spec.sampling,
        "segments": str(spec.num_segments),
        "frames_per_segment": str(spec.frames_per_segment),
        "input_size": str(spec.input_size),
        "short_side": str(spec.short_side),
        "input": "uint8 RGB (batch, frames, 3, height, width); normalisation is inside",
        "output": "softmax scores (batch, classes)",
        **more,
    }


def _split(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return (split_of(values) if isinstance(values, dict) else None) or {}


def bounded(file: Path, most: int) -> Path:
    """``file``, if it is there and has no more bytes than it may.

    Raises:
        UserError: it has not.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    size = file.stat().st_size
    if size > most:
        raise UserError(f"{file}: {size / 2**20:.0f} MiB; no such file of ours is that large")
    return file


def _specification(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> ModelSpec:
    written = metadata.get("format", "")
    if written.partition("/")[0] != ONNX_FORMAT.partition("/")[0]:
        raise UserError(f"{path}: a network, but not one that smnet export wrote")
    if written != ONNX_FORMAT:
        raise UserError(f"{path}: written in the form {written}, this version reads {ONNX_FORMAT}")
    try:
        return read_specification(metadata["spec"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: its metadata are damaged ({error})") from None
