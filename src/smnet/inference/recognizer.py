"""Prediction: videos in, labelled scores out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Part, part_name
from smnet.data.loading.views import Damage
from smnet.data.workers.pool import TIME_LIMIT
from smnet.errors import UserError
from smnet.inference.backends import Backend, open_backend, plan_views, score_each
from smnet.inference.decision import BACKGROUND, decide
from smnet.inference.evidence import Evidence, evidence_of
from smnet.inference.pipeline import Rows, in_batches, read_in_threads, read_item
from smnet.inference.sources import Source, each_source
from smnet.inference.utilisation import Utilisation
from smnet.inference.vectors import vectors_of
from smnet.system import available_cores


@dataclass(frozen=True)
class Prediction:
    """The scores of one video.

    Attributes:
        path: the video.
        labels: class names, best first.
        scores: their probabilities, descending. Over all classes they sum to 1, except where a clip
            may have several labels.
        answer: the classes that happen in the video. None of them is ``none``, the background. It
            is empty for background, and where the scores are too low for any class the network
            knows (:attr:`unknown`).
        unknown: whether the best score is below the threshold that was calibrated in training.
        part: the part of the video that was scored; None is all of it.
        error: why there are no scores; empty if there are.
        damage: packets and frames that were lost while decoding; other frames replaced them.
    """

    path: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str = ""
    damage: int = 0
    answer: tuple[str, ...] = ()
    unknown: bool = False
    part: Part | None = None

    @property
    def name(self) -> str:
        """The path, and the part if it is one."""
        return part_name(self.path, self.part)

    @property
    def label(self) -> str:
        """The best class name; empty after an error."""
        return self.labels[0] if self.labels else ""

    @property
    def score(self) -> float:
        """The probability of ``label``; 0 after an error."""
        return self.scores[0] if self.scores else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        about: dict[str, Any] = {"path": self.path}
        if self.part is not None:
            about |= {"start": self.part.start, "end": self.part.end}
        if self.error:
            return {**about, "error": self.error}
        pairs = zip(self.labels, self.scores, strict=True)
        return {
            **about,
            "label": self.label,
            "score": round(self.score, 6),
            "answer": list(self.answer),
            **({"unknown": True} if self.unknown else {}),
            "top": [{"label": label, "score": round(score, 6)} for label, score in pairs],
            **({"damage": self.damage} if self.damage else {}),
        }


class Recognizer:
    """A trained model that names what happens in videos.

    Several threads may share one, and a spawned process gets a copy by pickling. A forked child may
    use it too, unless it runs an exported file, which the child must load itself.

    Example:
        >>> recognizer = Recognizer.load("runs/mine/best.safetensors")  # doctest: +SKIP
        >>> recognizer.predict("clip.mp4").label                        # doctest: +SKIP
        'Pushing something from left to right'
    """

    def __init__(self, backend: Backend, views: tuple[int, int] = (1, 1)):
        spec = backend.spec
        self.backend = backend
        self.classes = spec.class_names or tuple(str(i) for i in range(spec.num_classes))
        self.plan = plan_views(backend, *views)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str = "auto",
        views: tuple[int, int] = (1, 1),
        backend: str | None = None,
    ) -> Recognizer:
        """Load a checkpoint or an exported file.

        Args:
            path: a ``.safetensors`` checkpoint; a folder that ``smnet train`` wrote, for its best
                checkpoint; a name of ``smnet weights``; ``hf://owner/name`` on the hub; or an
                ``.onnx`` or ``.xml`` file of ``smnet export``.
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
            views: clips x crops that are averaged per video.
            backend: ``"torch"`` or ``"compile"`` for a checkpoint, ``"onnxruntime"`` or
                ``"openvino"`` for an exported file, which need no PyTorch. None chooses by the
                file.

        Raises:
            UserError: no such file, backend or device.
        """
        return cls(open_backend(path, device, backend), views)

    def predict(
        self, source: Any, top: int = 5, start: float | None = None, end: float | None = None
    ) -> Prediction:
        """Name what happens in one video, or in a part of it.

        Args:
            source: the path of a video file or a folder of frames; RGB frames (T, H, W, 3) or
                (T, 3, H, W), uint8 or floating point from 0 to 1, as an array or a tensor; the
                bytes of a video file; an open binary file; or an open container of PyAV.
            top: number of classes to report.
            start: the beginning of the part, in seconds from the first frame, see
                ``smnet.data.clips.Part``.
            end: its end.

        Raises:
            UserError: the video cannot be read, has no frame in the part, or its scores are not
                finite.
        """
        if start is not None or end is not None:
            source = replace(Source.of(source), part=Part(start, end))
        (prediction,) = self.predict_many([source], top, workers=1)
        if prediction.error:
            raise UserError(prediction.error)
        return prediction

    def embed(
        self, source: Any, *, start: float | None = None, end: float | None = None
    ) -> NDArray[np.float32]:
        """The vector (3C,) of one video, see ``smnet.inference.vectors``.

        Args:
            source: as in ``predict``.
            start: as in ``predict``.
            end: as in ``predict``.

        Raises:
            UserError: the video cannot be read, or the file was exported without features.
        """
        part = None if start is None and end is None else Part(start, end)
        opened = replace(Source.of(source), part=part)
        with opened.readable() as content:
            views = self.backend.read(content, self.plan, None, opened.part)
        vector: NDArray[np.float32] = vectors_of(self.backend, views[None])[0]
        return vector

    def explain(
        self, source: Any, *, start: float | None = None, end: float | None = None
    ) -> Evidence:
        """The evidence of frames and places for each class, see ``smnet.inference.evidence``.

        One view is explained: one clip and the centre crop, whatever ``views`` are averaged in
        ``predict``.

        Args:
            source: as in ``predict``.
            start: as in ``predict``.
            end: as in ``predict``.

        Raises:
            UserError: the video cannot be read, its scores are not finite, or the file was exported
                without features.

        Example:
            >>> found = recognizer.explain("clip.mp4")       # doctest: +SKIP
            >>> found.label, found.curve().round(2)          # doctest: +SKIP
            ('rising', array([0.02, 0.11, 0.94, 1.27]))
        """
        opened = Source.of(source)
        if start is not None or end is not None:
            opened = replace(opened, part=Part(start, end))
        with opened.readable() as content:
            views = self.backend.read(content, plan_views(self.backend), None, opened.part)
        name = part_name(opened.name, opened.part)
        found = evidence_of(self.backend, views, name, self.classes)
        if not np.isfinite(found.scores).all():
            raise UserError(f"{found.path}: the model's scores are not finite numbers")
        return found

    def predict_many(
        self,
        sources: Iterable[Any],
        top: int = 5,
        batch: int = 8,
        workers: int | None = None,
        used: Utilisation | None = None,
        timeout: float = TIME_LIMIT,
    ) -> Iterator[Prediction]:
        """Name what happens in many videos, in their order, without holding them all.

        Videos are decoded ahead in threads and scored in batches. A video that cannot be read gives
        a ``Prediction`` with its ``error``.

        Args:
            sources: videos, each as in ``predict``, or a ``Source`` for a part of one; may
                be endless. A single path is one video.
            top: number of classes to report.
            batch: videos per batch.
            workers: decoding threads; None is one per core, at most 8. 0 decodes in the caller's
                thread, without a time limit.
            used: is filled with where the time went.
            timeout: seconds per video, after which it counts as unreadable.

        Raises:
            UserError: ``top`` or ``batch`` below 1, ``workers`` below 0, or an object that is not a
                video.
        """
        threads = min(available_cores(), 8) if workers is None else workers
        for name, number, least in (("top", top, 1), ("batch", batch, 1), ("workers", threads, 0)):
            if number < least:
                raise UserError(f"{name} is {number}; it must be at least {least}")
        used = used if used is not None else Utilisation()
        used.threads = threads
        videos = read_in_threads(
            partial(read_item, self.backend, self.plan),
            map(Source.of, each_source(sources)),
            threads,
            2 * batch + threads,
            timeout,
        )

        def scored(views: NDArray[np.uint8]) -> Rows:
            judged = score_each(self.backend, views)
            both = zip(judged.scores, judged.distances, strict=True)
            return [{"scores": row, "distance": far} for row, far in both], judged.problems

        with closing(videos):
            for source, read, row in in_batches(videos, batch, scored, used):
                if read.stage:
                    name = f"{part_name(source.name, source.part)}: "
                    error = f"{name if read.stage == 'scoring' else ''}{read.reason}"
                    yield Prediction(source.name, error=error, part=source.part)
                else:
                    damage = Damage(read.damage)
                    yield self.prediction(source, row["scores"], top, damage, row["distance"])

    def prediction(
        self,
        source: Source,
        scores: NDArray[np.float32],
        top: int,
        damage: Damage,
        distance: float = np.nan,
    ) -> Prediction:
        """The answer for a video with these scores (K,) and distance to the best class."""
        name, part = source.name, source.part
        if not np.isfinite(scores).all():
            text = f"{part_name(name, part)}: the model's scores are not finite numbers"
            return Prediction(name, error=text, part=part)
        order = np.argsort(-scores, kind="stable")
        best = order[:top]
        labels = tuple(self.classes[i] for i in best)
        said, unknown = decide(self.backend.spec, scores, distance)
        answer = tuple(self.classes[i] for i in order if said[i] and self.classes[i] != BACKGROUND)
        values = tuple(scores[best].tolist())
        return Prediction(name, labels, values, "", damage.count, answer, unknown, part)
