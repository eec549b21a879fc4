"""The interface of a backend, and which backend opens which file.

A backend is a trained network under one engine: PyTorch for a checkpoint, ONNX Runtime or OpenVINO
for an exported file. PyTorch is imported only when a checkpoint is opened, so a machine without it
can predict from exported files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.header import is_path
from smnet.checkpoints.metadata import view_plan
from smnet.data.clips import Part
from smnet.data.loading.views import Damage, Scaler, ViewPlan
from smnet.errors import UserError, is_out_of_memory
from smnet.inference.classifier import Classifier
from smnet.models.spec import ModelSpec

SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}
"""Engines of exported files, and the suffix of the files they run."""
BACKENDS = ("torch", "compile", *SUFFIXES)


class Backend(Protocol):
    """A trained network under one engine.

    Attributes:
        recipe: what is known of its training, as plain values; an exported file keeps only what
            divides the data set into train and val.
        side: side of the crops it takes, pixels; None if it takes any.
        scaler: what scales its frames, see ``smnet.data.loading.views.ViewPlan``.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def recipe(self) -> Mapping[str, Any]: ...

    @property
    def side(self) -> int | None: ...

    @property
    def scaler(self) -> Scaler: ...

    def read(
        self,
        path: str | NDArray[np.uint8],
        plan: ViewPlan,
        damage: Damage | None = None,
        part: Part | None = None,
    ) -> NDArray[np.uint8]:
        """The views (V, T*L, 3, h, w) uint8 of a video file, a folder of frames, or frames
        (T, H, W, 3) uint8; of a part of it if one is given. ``damage`` counts what was lost
        while decoding.

        Raises:
            UserError: the video cannot be read.
        """

    @property
    def classifier(self) -> Classifier | None:
        """The linear layer of the head; None for another kind of head.

        Raises:
            UserError: as :meth:`features`.
        """

    def features(
        self, views: NDArray[np.uint8], pool: Callable[[Any], Any] = ...
    ) -> NDArray[np.float32]:
        """What the network sees before its classifier.

        Args:
            views: (B, V, T*L, 3, h, w) uint8.
            pool: of feature maps (N, T', C, h, w), arrays or tensors of the engine. The mean over
                space by default.

        Returns:
            (B, V, ...) float32; (B, V, T', C) by default.

        Raises:
            UserError: the file was exported without features.
        """

    def judge(
        self, views: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The scores of :meth:`score`, and distances (B,) to the best class, averaged over the
        views; None where the network has none (:class:`smnet.models.discriminants.Discriminants`).
        """

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (B, K) float32 of views (B, V, T*L, 3, h, w) uint8: softmax of each view, averaged
        over the views. Reporting a row that is not finite is left to the caller."""


class Judged(NamedTuple):
    """Videos that were scored.

    Attributes:
        scores: (B, K), NaN for a video that does not fit into memory alone.
        distances: (B,) to the best class; NaN where there is none.
        problems: why a video has no scores, by its row.
    """

    scores: NDArray[np.float32]
    distances: NDArray[np.float32]
    problems: dict[int, str]


def score_each(backend: Backend, views: NDArray[np.uint8]) -> Judged:
    """Score a batch of videos. If memory runs out, each video is scored alone.

    Args:
        backend: scores them.
        views: (B, V, T*L, 3, h, w) uint8.
    """
    try:
        return Judged(*_judge(backend, views), {})
    except Exception as error:  # engines have exceptions of their own
        if not is_out_of_memory(error):
            raise
    scores = np.full((len(views), backend.spec.num_classes), np.nan, dtype=np.float32)
    distances = np.full(len(views), np.nan, dtype=np.float32)
    problems: dict[int, str] = {}
    for row in range(len(views)):
        try:
            one, distance = _judge(backend, views[row : row + 1])
            scores[row], distances[row] = one[0], distance[0]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problems[row] = "not enough memory to score it; use fewer views"
    return Judged(scores, distances, problems)


def _judge(
    backend: Backend, views: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if backend.spec.decision.discriminants:
        scores, distances = backend.judge(views)
        if distances is not None:
            return scores, distances
    else:
        scores = backend.score(views)
    return scores, np.full(len(views), np.nan, dtype=np.float32)


def open_backend(
    path: str | os.PathLike[str], device: str = "auto", backend: str | None = None
) -> Backend:
    """Open a checkpoint or an exported file.

    Args:
        path: an exported ``.onnx`` or ``.xml`` file; or a checkpoint, see
            ``smnet.checkpoints.file.read_checkpoint``. In a run's folder
            ``backend="onnxruntime"`` opens ``best.onnx``, ``"openvino"`` opens ``best.xml``, any
            other the best checkpoint.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: one of ``BACKENDS``; None chooses by the file.

    Raises:
        UserError: no such file or device, a backend that cannot run this file, or an engine that
            is not installed.
    """
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"backend={backend}: unknown; use {', '.join(BACKENDS)}")
    engine = backend if backend in SUFFIXES else None
    if is_path(path):
        file = Path(path)
        if engine and (best := file / f"best{SUFFIXES[engine]}").is_file():
            file = best
        for name, suffix in SUFFIXES.items():
            if file.suffix == suffix:
                if backend not in (None, name):
                    raise UserError(
                        f"{file}: backend={backend} cannot run a {suffix} file; use backend={name},"
                        " or give the checkpoint"
                    )
                if name == "openvino":
                    from smnet.inference.openvino_backend import OpenVinoBackend

                    return OpenVinoBackend(file, device)
                from smnet.inference.onnx_backend import OnnxBackend

                return OnnxBackend(file, device)
        refuse_program(file)
    if engine:
        raise UserError(
            f"{path}: backend={engine} runs {SUFFIXES[engine]} files; make one with: smnet export"
            f"{' --to openvino' if engine == 'openvino' else ''}"
        )
    try:
        from smnet.inference.torch_backend import TorchBackend
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(
            f"{path}: a checkpoint needs PyTorch, which is not installed here; install torch, or"
            " predict from an exported file (smnet export)"
        ) from None
    return TorchBackend.load(path, device, compiled=backend == "compile")


def refuse_program(path: str | os.PathLike[str]) -> None:
    """Refuse a ``torch.export`` program (``.pt2``), which has no description of its input."""
    if Path(path).suffix == ".pt2":
        raise UserError(
            f"{path}: a torch.export program; load it with torch.export.load, or give the"
            " checkpoint that it was exported from"
        )


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an exported file, by its suffix."""
    return is_path(path) and Path(path).suffix in SUFFIXES.values()


def plan_views(
    backend: Backend, clips: int = 1, crops: int = 1, sampling: str | None = None
) -> ViewPlan:
    """The test views of a backend: ``clips`` x ``crops``, by ``sampling`` or the model's own rule.

    Raises:
        UserError: the sampling rule does not define such a test, or the crops are of another size
            than an exported file takes.
    """
    spec = backend.spec
    if sampling:
        spec = replace(spec, sampling=sampling, rate=None)
    plan = view_plan(spec, clips, crops)
    if backend.side not in (None, plan.side):
        raise UserError(
            f"views {clips}x{crops} have crops of {plan.side} pixels, and the exported file takes"
            f" {backend.side}; use {clips}x1, or the checkpoint"
        )
    return replace(plan, scaler=backend.scaler)
