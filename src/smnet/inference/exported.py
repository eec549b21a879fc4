"""What the engines of exported files share: metadata, interface and scoring.

Pre-processing and softmax are inside an exported network. Does not import PyTorch.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.metadata import dump_specification, read_specification
from smnet.data.annotations.source import split_of
from smnet.data.clips import Part
from smnet.data.loading.views import Damage, Scaler, ViewPlan, read_views
from smnet.errors import UserError
from smnet.inference.classifier import Classifier, read_features
from smnet.models.spec import ModelSpec

ONNX_FORMAT = "smnet-onnx/1"
"""Version of the metadata and the interface, in ONNX and OpenVINO files alike."""
INPUT, OUTPUT, DISTANCES, FEATURES = "frames", "scores", "distances", "features"
SCOPES = "pkg.torch.onnx.name_scopes"
"""Key under which PyTorch's exporter writes the modules that a node comes from."""
CLIPS_AT_ONCE = 4
"""Clips per run of an engine. More do not make it faster and need more memory."""


class ExportedBackend(ABC):
    """An exported file under some engine.

    A copy that is pickled for another process opens the file again there. A forked child has none
    of the engine's threads, so its scores are an error.

    Attributes:
        spec: the model, from the file's metadata.
        recipe: the part of the training recipe that says how the data set was split; empty where
            the file does not say.
    """

    spec: ModelSpec
    recipe: Mapping[str, Any]
    scaler: ClassVar[Scaler] = "pillow"
    steps: ClassVar[bool] = False
    """Whether the file takes one frame of a stream at a time, see :mod:`.streams`."""

    def __init__(
        self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None
    ) -> None:
        """Open a file that ``smnet export`` wrote.

        Args:
            path: the ``.onnx`` or ``.xml`` file.
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
            threads: threads per run; None is ``OMP_NUM_THREADS``, else one per core.

        Raises:
            UserError: another kind of file, or no such device.
        """
        self.path, self.device, self.threads = os.fspath(path), device, threads
        self._process = os.getpid()
        metadata = self._open()
        if "state" in metadata and not self.steps:
            raise UserError(
                f"{self.path}: takes single frames of a stream; use it with smnet live, or export"
                " the checkpoint without --stream"
            )
        self.spec = _specification(self.path, metadata)
        self.recipe = _split(metadata.get("division", ""))
        try:
            self._maps, self._classifier = read_features(metadata, self.spec.num_classes)
        except ValueError as error:
            raise UserError(f"{self.path}: its metadata are damaged ({error})") from None
        ports, expected = self._interface()
        if ports != expected:
            raise UserError(f"{self.path}: its inputs and outputs do not match its metadata")

    @abstractmethod
    def _open(self) -> dict[str, str]:
        """Start the engine on the file and return the file's metadata."""

    @abstractmethod
    def _interface(self) -> tuple[list[Any], list[Any]]:
        """The network's ports as the engine describes them, and as the metadata imply them."""

    @abstractmethod
    def run(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (B, K) of clips (B, T*L, 3, h, w)."""

    @abstractmethod
    def run_judge(
        self, clips: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (B, K) and distances (B,) of clips, of a file that has them."""

    @abstractmethod
    def run_features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Feature maps (B, T', C, h, w) of clips (B, T*L, 3, h, w), of a file that has them."""

    @property
    def shapes(self) -> tuple[list[int], list[int]]:
        """Shapes of the input and the scores, without the batch."""
        spec = self.spec
        frames = [spec.frames_per_clip, 3, spec.input_size, spec.input_size]
        return frames, [spec.num_classes]

    @property
    def outputs(self) -> dict[str, list[int]]:
        """Shapes of the outputs, without the batch."""
        scores: dict[str, list[int]] = {OUTPUT: self.shapes[1]}
        if self.spec.decision.discriminants:
            scores[DISTANCES] = []
        return scores | ({FEATURES: self._maps} if self._maps else {})

    @property
    def side(self) -> int | None:
        return self.spec.input_size

    def read(
        self,
        path: str | NDArray[np.uint8],
        plan: ViewPlan,
        damage: Damage | None = None,
        part: Part | None = None,
    ) -> NDArray[np.uint8]:
        return read_views(path, plan, part=part, damage=damage)

    @property
    def classifier(self) -> Classifier:
        if self._classifier is None:
            raise UserError(
                f"{self.path}: was exported without features; export it with --features, or give"
                " the checkpoint"
            )
        return self._classifier

    def features(
        self,
        views: NDArray[np.uint8],
        pool: Callable[[Any], Any] = lambda maps: maps.mean((3, 4)),
    ) -> NDArray[np.float32]:
        _ = self.classifier
        pooled = self._each(lambda clips: pool(self.run_features(clips)), views)
        return pooled.reshape(*views.shape[:2], *pooled.shape[1:]).astype(np.float32)

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._each(self.run, views).reshape(*views.shape[:2], -1).mean(1)

    def judge(
        self, views: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        if not self.spec.decision.discriminants:
            return self.score(views), None
        both = self._each(lambda clips: np.column_stack(self.run_judge(clips)), views)
        mean = both.reshape(*views.shape[:2], -1).mean(1)
        return mean[:, :-1], mean[:, -1]

    def _each(
        self,
        run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        views: NDArray[np.uint8],
    ) -> NDArray[np.float32]:
        """The results (B*V, ...) of all views, a few clips at a time."""
        if os.getpid() != self._process:
            raise UserError(
                f"{self.path}: opened before this process was forked, and its engine does not work"
                " in a forked child; open it in the child, or start the child by spawn"
            )
        clips = views.reshape(-1, *views.shape[2:])
        starts = range(0, len(clips), CLIPS_AT_ONCE)
        return np.concatenate([run(clips[first : first + CLIPS_AT_ONCE]) for first in starts])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.device, self.threads)


def onnx_metadata(
    spec: ModelSpec, recipe: Mapping[str, Any] | None = None, **more: str
) -> dict[str, str]:
    """The metadata of an exported file.

    The specification is written whole, and in parts for programs that read single values. Of the
    recipe, the split of the data set is kept, as ``division``.
    """
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


def bounded(file: Path, limit: int) -> Path:
    """``file``, after a check that it exists and has at most ``limit`` bytes."""
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    size = file.stat().st_size
    if size > limit:
        raise UserError(
            f"{file}: {size / 2**20:.0f} MiB, over the limit of {limit / 2**20:.0f} MiB for an"
            " exported file"
        )
    return file


def _specification(path: str, metadata: Mapping[str, str]) -> ModelSpec:
    written = metadata.get("format", "")
    if written.partition("/")[0] != ONNX_FORMAT.partition("/")[0]:
        raise UserError(f"{path}: a network that smnet export did not write")
    if written != ONNX_FORMAT:
        raise UserError(f"{path}: format {written}; this version reads {ONNX_FORMAT}")
    try:
        return read_specification(metadata["spec"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: its metadata are damaged ({error})") from None
