"""The models of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnet.corpus.run import settings_of
from smnet.errors import UserError
from smnet.inference.backends import Backend, is_exported, score_each
from smnet.inference.recognizer import Recognizer
from smnet.inference.vectors import features_of, pooled
from smnet.timeline.run import Settings, settings

Rows = tuple[NDArray[np.float32], dict[int, str]]
"""A row of values per video, and why there are none, by row."""


@dataclass(frozen=True)
class Model:
    """A network that is served.

    Attributes:
        name: in requests and answers.
        version: the first digits of the hash of its file.
        path: as given.
        recognizer: scores clips.
        recording: how recordings become timelines.
    """

    name: str
    version: str
    path: str
    recognizer: Recognizer
    recording: Settings

    @property
    def backend(self) -> Backend:
        return self.recognizer.backend

    @property
    def steps(self) -> bool:
        """Whether it can follow a camera frame by frame."""
        return self.backend.spec.causal and not is_exported(self.path)

    @property
    def embeds(self) -> bool:
        """Whether it has features."""
        return hasattr(self.backend, "features")

    def scores(self, views: NDArray[np.uint8]) -> Rows:
        """Scores (B, K) of views (B, V, T*L, 3, h, w)."""
        return score_each(self.backend, views)

    def vectors(self, views: NDArray[np.uint8]) -> Rows:
        """Vectors (B, 3C) of views (B, V, T*L, 3, h, w)."""
        return pooled(features_of(self.backend)(views)).mean(1), {}


def open_models(
    paths: Sequence[str],
    device: str = "auto",
    views: tuple[int, int] = (1, 1),
    backend: str | None = None,
) -> list[Model]:
    """Open networks.

    Args:
        paths: of checkpoints or exported files.
        device, views, backend: see :meth:`smnet.inference.recognizer.Recognizer.load`.

    Raises:
        UserError: one cannot be opened, or is given twice.
    """
    models: list[Model] = []
    for path in paths:
        if path in [model.path for model in models]:
            raise UserError(f"{path}: given twice")
        recognizer = Recognizer.load(path, device, views, backend)
        version = settings_of("serve", path, recognizer.plan)["sha256"][:12]
        taken = [model.name for model in models]
        name = model_name(path, taken)
        recording = settings(recognizer.backend, views=views)
        models.append(Model(name, version, path, recognizer, recording))
    return models


def model_name(path: str, taken: Sequence[str]) -> str:
    """The name of the run for its best checkpoint, else of the file; with a number if taken."""
    file = Path(path)
    stem = file.stem if file.suffix in (".safetensors", ".onnx", ".xml") else file.name
    plain = file.absolute().parent.name if stem in ("best", "last") else stem or path
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    return name
