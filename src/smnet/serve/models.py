"""The models of a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.corpus.run import settings_of
from smnet.data.loading.views import Scaler
from smnet.errors import UserError
from smnet.inference.backends import Backend, is_exported, score_each
from smnet.inference.classifier import Classifier
from smnet.inference.evidence import Evidence, evidence_of
from smnet.inference.recognizer import Recognizer
from smnet.inference.vectors import vectors_of
from smnet.models.spec import ModelSpec
from smnet.timeline.run import Settings, settings

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]
Rows = tuple[Values, dict[int, str]]
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
    def has_features(self) -> bool:
        """Whether it gives vectors and explanations; a file may be exported without."""
        try:
            return bool(self.backend.classifier) or not is_exported(self.path)
        except UserError:
            return False

    def scores(self, views: Pixels) -> Rows:
        """Scores (B, K) of views (B, V, T*L, 3, h, w)."""
        judged = score_each(self.backend, views)
        return judged.scores, judged.problems

    def judged(self, views: Pixels) -> Rows:
        """Scores of views (B, V, T*L, 3, h, w), and last the distance to the best class (B, K+1),
        see ``smnet.inference.backends.Judged``."""
        judged = score_each(self.backend, views)
        return np.column_stack([judged.scores, judged.distances]), judged.problems

    def evidence(self, views: Pixels, name: str) -> Evidence:
        """Why a video (1, T*L, 3, h, w) gets its scores."""
        return evidence_of(self.backend, views, name, self.recognizer.classes)

    def vectors(self, views: Pixels) -> Rows:
        """Vectors (B, 3C) of views (B, V, T*L, 3, h, w)."""
        return vectors_of(self.backend, views), {}


def _mean(maps: Any) -> Any:
    return maps.mean((3, 4))


class Delegate:
    """A backend of which a subclass replaces a part."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def spec(self) -> ModelSpec:
        return self.backend.spec

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.backend.recipe

    @property
    def side(self) -> int | None:
        return self.backend.side

    @property
    def scaler(self) -> Scaler:
        return self.backend.scaler

    @property
    def classifier(self) -> Classifier | None:
        return self.backend.classifier

    def features(self, views: Pixels, pool: Callable[[Any], Any] = _mean) -> Values:
        return self.backend.features(views, pool)

    def read(self, path: str | Pixels, *words: Any, **named: Any) -> Pixels:
        return self.backend.read(path, *words, **named)

    def score(self, views: Pixels) -> Values:
        return self.backend.score(views)

    def judge(self, views: Pixels) -> tuple[Values, Values | None]:
        return self.score(views), None  # windows are judged by their scores


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
