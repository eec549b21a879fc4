"""The result of an evaluation: scores, the numbers that follow, and tables of predictions."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Clip, Part
from smnet.errors import missing_extra
from smnet.evaluation.calibration import auroc, calibration_error
from smnet.evaluation.metrics import (
    ClassResult,
    Share,
    average_precision,
    confusion_matrix,
    mean_average_precision,
    mean_class_accuracy,
    most_confused,
    per_class,
    top_k,
    wilson,
)
from smnet.files import WRITTEN_BY, atomic_path, check_suffix, in_utf8
from smnet.inference.decision import BACKGROUND, is_unknown
from smnet.models.spec import Decision


def _far(distances: NDArray[np.float32] | None, count: int) -> NDArray[np.float32]:
    """Distances (N,), NaN where there are none."""
    return np.full(count, np.nan, dtype=np.float32) if distances is None else distances


@dataclass(frozen=True)
class Evaluation:
    """The scores of a list of clips, with their labels.

    Attributes:
        scores: (N, K); a row of NaN is a clip that could not be read.
        labels: (N,), each in [0, K).
        classes: K names.
        paths: N paths; in a packed set, the paths of the original clips.
        views: the protocol, clips x crops.
        problems: a message per clip that could not be read.
        sampling: the rule or the rate that chose the frames.
        damaged: a message per clip that lost frames; other frames replaced them.
        truth: (N, K) all labels of each clip, where a clip may have several; None otherwise.
        decision: how the network's scores become an answer, in the order of ``classes``.
        parts: the part of its recording that each clip is, None = all of it; () = all are whole.
        unknown: (M, K) scores of clips of classes that the network does not know.
        distances, unknown_distances: (N,) and (M,) distances to the best class, NaN where there is
            none; None for all NaN.
        clips: the clips themselves; () where they are not at hand.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    views: str
    problems: tuple[str, ...] = ()
    sampling: str = "uniform"
    damaged: tuple[str, ...] = ()
    truth: NDArray[np.bool_] | None = None
    decision: Decision = field(default_factory=Decision)
    unknown: NDArray[np.float32] | None = None
    parts: tuple[Part | None, ...] = ()
    clips: tuple[Clip, ...] = ()
    distances: NDArray[np.float32] | None = None
    unknown_distances: NDArray[np.float32] | None = None

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N, K) the labels of each clip."""
        if self.truth is not None:
            return self.truth
        return np.eye(len(self.classes), dtype=bool)[self.labels]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(N, K) the classes that are answered for each clip; background counts as a class here."""
        limits = self.decision
        with np.errstate(invalid="ignore"):
            if self.truth is not None:
                return self.scores >= np.array(limits.thresholds or (0.5,) * len(self.classes))
            said = self.predictions >= 0
            best = np.nan_to_num(self.scores.max(1))
            said &= ~is_unknown(limits, best, _far(self.distances, len(best)))
        result = np.zeros(self.scores.shape, bool)
        result[said, self.predictions[said]] = True
        return result

    @property
    def happens(self) -> NDArray[np.bool_]:
        """(K,) which classes are actions: all but ``none``, the background."""
        return np.array([name != BACKGROUND for name in self.classes])

    @property
    def mean_precision(self) -> Share:
        """Mean average precision over the classes; background is left out."""
        kept = self.happens
        return mean_average_precision(self.scores[:, kept], self.labelled[:, kept])

    @property
    def precisions(self) -> list[float]:
        """Average precision of each class; NaN for a class without clips."""
        columns = zip(self.scores.T, self.labelled.T, strict=True)
        return [average_precision(scores, truth) for scores, truth in columns]

    @property
    def unknown_auroc(self) -> float:
        """AUROC of what says "unknown", the distance or else the best score: clips of known classes
        against those of unknown ones."""
        if self.unknown is None:
            return math.nan
        sides = (self.scores, self.distances), (self.unknown, self.unknown_distances)
        known, unknown = (
            scores.max(1) if far is None or not self.decision.unknown_beyond else -far
            for scores, far in sides
        )
        return auroc(known[np.isfinite(known)], unknown[np.isfinite(unknown)])

    @property
    def unknown_said(self) -> int:
        """How many clips of unknown classes are answered with "unknown"."""
        if self.unknown is None or not len(self.unknown):
            return 0
        far = _far(self.unknown_distances, len(self.unknown))
        return int(is_unknown(self.decision, self.unknown.max(1), far).sum())

    @property
    def headline(self) -> tuple[str, Share]:
        """The number that a run is judged by, and its name."""
        if self.truth is not None:
            return "mAP", self.mean_precision
        return "top-1", self.top(1)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the clips with finite scores."""
        readable = self.predictions >= 0
        scores, truth = self.scores[readable], self.labelled[readable]
        if self.truth is not None:
            return calibration_error(scores.ravel(), truth.ravel())
        right = truth[np.arange(len(truth)), self.predictions[readable]]
        return calibration_error(scores.max(1, initial=0.0), right)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) best class of each clip, -1 for a clip without finite scores."""
        readable = np.isfinite(self.scores).all(axis=1)
        best = np.nan_to_num(self.scores, nan=-1.0).argmax(axis=1)
        return np.where(readable, best, -1)

    @property
    def not_finite(self) -> int:
        """Clips that were read but have scores that are not finite; they count as wrong."""
        return int((~np.isfinite(self.scores).all(axis=1)).sum()) - len(self.problems)

    def top(self, k: int) -> Share:
        """Top-k accuracy over the full list; with several labels, of the best of them."""
        labels = self.labels
        if self.truth is not None:
            own = np.where(self.truth, np.nan_to_num(self.scores, nan=-1.0), -2.0)
            labels = own.argmax(1)
        return wilson(int(top_k(self.scores, labels, k).sum()), len(labels))

    @property
    def named(self) -> NDArray[np.int64]:
        """The predictions, with -1 also for ties, which :func:`top_k` counts as wrong."""
        best = self.predictions
        return np.where(top_k(self.scores, best, 1), best, -1)

    @property
    def by_class(self) -> list[ClassResult]:
        """The counts of each class; with several labels, at the thresholds."""
        if self.truth is None:
            return per_class(self.labels, self.named, self.classes)
        said, truth = self.answered, self.truth
        return [
            ClassResult(name, int(t.sum()), int((t & s).sum()), int(s.sum()))
            for name, t, s in zip(self.classes, truth.T, said.T, strict=True)
        ]

    @property
    def mean_class(self) -> Share:
        return mean_class_accuracy(self.by_class)

    @property
    def confusion(self) -> NDArray[np.int64]:
        return confusion_matrix(self.labels, self.named, len(self.classes))

    def confused(self, count: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent confusions; none where a clip may have several labels."""
        if self.truth is not None:
            return []
        return most_confused(self.confusion, self.classes, count)

    def mistakes(self) -> NDArray[np.int64]:
        """Rows of the wrong predictions, the highest score first.

        Clips that were not read and scores that are not finite are left out. Empty where a clip may
        have several labels.
        """
        if self.truth is not None:
            return np.zeros(0, np.int64)
        best = self.scores.max(1, initial=0.0)
        wrong = (self.predictions >= 0) & (self.predictions != self.labels) & np.isfinite(best)
        rows = np.flatnonzero(wrong)
        return rows[np.argsort(-best[rows], kind="stable")]

    def summary(self) -> dict[str, Any]:
        """Everything as plain values; shares are [value, low, high] with 95 % intervals."""
        shares = {"mean_average_precision": self.mean_precision}
        if self.truth is None:
            shares = {
                "top1": self.top(1),
                "top5": self.top(min(5, len(self.classes))),
                "mean_class": self.mean_class,
            }
        return {
            "views": self.views,
            "sampling": self.sampling,
            "clips": len(self.labels),
            "unreadable": len(self.problems),
            "not_finite": self.not_finite,
            **{k: [round(x, 6) for x in (s.value, s.low, s.high)] for k, s in shares.items()},
            "calibration_error": round(self.calibration_error, 6),
            **({} if self.unknown is None else {"unknown_auroc": round(self.unknown_auroc, 6)}),
            "answered": round(float(self.answered.any(1).mean()), 6),
            "classes": [
                {
                    "name": r.name,
                    "clips": r.clips,
                    "recall": None if r.clips == 0 else round(r.recall, 6),
                    "precision": None if r.predicted == 0 else round(r.precision, 6),
                    **({} if self.truth is None or r.clips == 0 else {"ap": round(ap, 6)}),
                }
                for r, ap in zip(self.by_class, self.precisions, strict=True)
            ],
            "confused": [{"true": t, "predicted": p, "clips": n} for t, p, n in self.confused()],
            "problems": list(self.problems),
            "damaged": list(self.damaged),
        }


def check_predictions(path: str | os.PathLike[str]) -> None:
    """Refuse a file that :func:`write_predictions` would not write, before any work is done."""
    check_suffix(path, (".csv", ".parquet"), "a table of predictions")


def part_columns(parts: Sequence[Part | None]) -> dict[str, list[Any]]:
    """The columns start and end of a table of clips; none if all are whole."""
    if not any(parts):
        return {}
    units = {part.unit for part in parts if part is not None}
    names = {"s": ("start", "end"), "frames": ("start_frame", "end_frame")}
    return {
        name: [getattr(p, side) if p is not None and p.unit == unit else None for p in parts]
        for unit in sorted(units, reverse=True)
        for name, side in zip(names[unit], ("start", "end"), strict=True)
    }


def truth_of(clips: Sequence[Clip], classes: int) -> NDArray[np.bool_]:
    """(N, K) the labels of each clip."""
    truth = np.zeros((len(clips), classes), bool)
    for row, clip in zip(truth, clips, strict=True):
        row[list(clip.labels)] = True
    return truth


def write_predictions(path: str | os.PathLike[str], result: Evaluation) -> None:
    """Write each clip's label, prediction and scores to a ``.csv`` or ``.parquet`` file.

    Raises:
        UserError: another suffix, pyarrow missing for parquet, or the file cannot be written.
    """
    check_predictions(path)
    predictions = result.predictions
    labels = [result.classes[i] for i in result.labels]
    predicted = [result.classes[i] if i >= 0 else "" for i in predictions]
    if result.truth is not None:
        labels, predicted = (
            ["|".join(np.array(result.classes)[row].tolist()) for row in rows]
            for rows in (result.truth, result.answered)
        )
    columns: dict[str, list[Any]] = {
        "path": [in_utf8(path) for path in result.paths],
        **part_columns(result.parts),
        "label": labels,
        "predicted": predicted,
    }
    for k, name in enumerate(result.classes):
        columns[f"score:{name}"] = [round(float(s), 6) for s in result.scores[:, k]]
    if Path(path).suffix == ".csv":
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    else:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise missing_extra("pyarrow", "shards") from None
        with atomic_path(path) as temporary:
            table = pyarrow.table(columns).replace_schema_metadata({"comment": WRITTEN_BY})
            pyarrow.parquet.write_table(table, temporary)
