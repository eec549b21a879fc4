"""How well segments of recordings agree with their labels: mAP, F1, edit score, accuracy.

All intervals are percentiles over draws of whole recordings with replacement: segments of one
recording depend on each other. Segments of the background class are left out before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.evaluation.metrics import Share

Floats = NDArray[np.float64]

THUMOS = (0.3, 0.4, 0.5, 0.6, 0.7)
ACTIVITYNET = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Thresholds of the temporal IoU over which the two benchmarks average."""
OVERLAPS = (0.1, 0.25, 0.5)
"""Thresholds of segmental F1."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a recording with a label.

    Attributes:
        start, end: seconds from the first frame.
        label: name of the class.
        score: confidence of a detection, in [0, 1].
    """

    start: float
    end: float
    label: str
    score: float = 1.0


@dataclass(frozen=True)
class Recording:
    """What is known of one recording and what was detected in it.

    Attributes:
        path: its file.
        duration: seconds.
        truth: its labelled parts.
        detections: the segments to measure.
    """

    path: str
    duration: float
    truth: tuple[Segment, ...]
    detections: tuple[Segment, ...]


def temporal_iou(one: Segment, others: Sequence[Segment]) -> Floats:
    """Intersection over union in time of a segment with each of ``others``; labels don't matter."""
    start = np.array([other.start for other in others], float)
    end = np.array([other.end for other in others], float)
    shared = np.maximum(np.minimum(one.end, end) - np.maximum(one.start, start), 0)
    union = (one.end - one.start) + (end - start) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def true_positives(
    truth: Sequence[Segment], detections: Sequence[Segment], thresholds: Sequence[float]
) -> NDArray[np.bool_]:
    """Which detections of one class in one recording are true, by ActivityNet's rule.

    In descending order of the scores, each detection takes the free true segment with the largest
    temporal IoU, if that reaches the threshold. Detections of equal score are ordered by their
    largest IoU, then by time, so that their order in the input has no effect.

    Returns:
        (detections, thresholds), in the order of ``detections``.
    """
    ious = np.array([temporal_iou(d, truth) for d in detections])
    ious = ious.reshape(len(detections), len(truth))
    best = ious.max(axis=1, initial=0)
    order = sorted(
        range(len(detections)),
        key=lambda i: (-detections[i].score, -best[i], detections[i].start, detections[i].end),
    )
    hits = np.zeros((len(detections), len(thresholds)), bool)
    for column, threshold in enumerate(thresholds):
        free = np.ones(len(truth), bool)
        for i in order:
            candidates = np.where(free, ious[i], -1.0)
            if len(truth) and candidates.max() >= threshold:
                free[candidates.argmax()] = False
                hits[i, column] = True
    return hits


def average_precision(
    scores: Floats, hits: NDArray[np.bool_], weights: Floats, positives: Floats
) -> Floats:
    """Area under the interpolated precision-recall curve, as ActivityNet computes it.

    Detections of equal score are one point of the curve.

    Args:
        scores: (N,) of the detections.
        hits: (N,) which of them are true.
        weights: (R, N) how often each counts in each of R draws.
        positives: (R,) number of true segments in each draw.

    Returns:
        (R,); NaN without positives.
    """
    order = np.argsort(-scores, kind="stable")
    weights, hits, scores = weights[:, order], hits[order], scores[order]
    last = np.append(np.diff(scores) != 0, True)[: len(scores)]
    found = np.cumsum(weights * hits, axis=1)[:, last]
    count = np.cumsum(weights, axis=1)[:, last]
    precision = np.divide(found, count, out=np.zeros_like(found), where=count > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    gain = np.diff(found, axis=1, prepend=0)
    area = (gain * envelope).sum(axis=1)
    return np.divide(area, positives, out=np.full_like(area, np.nan), where=positives > 0)


def f1_counts(
    truth: Sequence[Segment], detections: Sequence[Segment], overlap: float
) -> tuple[int, int, int]:
    """True positives, false positives and misses of one class in one recording (Lea et al., 2017).

    In the order of time, a detection is true if the true segment with the largest IoU reaches
    ``overlap`` and no earlier detection took it.
    """
    taken = np.zeros(len(truth), bool)
    hits = 0
    for detection in sorted(detections, key=lambda d: (d.start, d.end)):
        ious = temporal_iou(detection, truth)
        best = int(ious.argmax()) if len(truth) else -1
        if best >= 0 and ious[best] >= overlap and not taken[best]:
            taken[best] = True
            hits += 1
    return hits, len(detections) - hits, len(truth) - hits


def edit_score(truth: Sequence[Segment], detections: Sequence[Segment]) -> float:
    """1 minus the Levenshtein distance of the two sequences of labels over the longer length.

    1 if both are empty. Borders have no effect.
    """
    one, other = ([s.label for s in sorted(side, key=_by_time)] for side in (truth, detections))
    row = list(range(len(other) + 1))
    for i, label in enumerate(one, 1):
        before, row = row, [i]
        for j, second in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (label != second)))
    return 1 - row[-1] / max(len(one), len(other), 1)


def right_seconds(recording: Recording, classes: Sequence[str]) -> Floats:
    """How long the detected labels equal the true ones.

    Frame accuracy at an infinite frame rate: a moment is right if its set of labels is, also if
    both are empty.

    Returns:
        (1 + K, 2): seconds right and seconds in all; first of the recording, then of the time
        that each class covers, which is right where the class is among the detected labels.
    """
    edges = {0.0, recording.duration}
    for segment in (*recording.truth, *recording.detections):
        edges |= {min(max(t, 0.0), recording.duration) for t in (segment.start, segment.end)}
    seconds = np.zeros((1 + len(classes), 2))
    for start, end in pairwise(sorted(edges)):
        middle = (start + end) / 2
        true, said = (
            {s.label for s in side if s.start <= middle < s.end}
            for side in (recording.truth, recording.detections)
        )
        seconds[0] += (end - start) * np.array([true == said, 1])
        for k, name in enumerate(classes, 1):
            if name in true:
                seconds[k] += (end - start) * np.array([name in said, 1])
    return seconds


class Detection:
    """Segments of a list of recordings, measured.

    Args:
        recordings: at least one.
        classes: names of the classes, without the background.
        draws: number of draws for the intervals; their seed is fixed.
    """

    def __init__(
        self, recordings: Sequence[Recording], classes: Sequence[str], draws: int = 1000
    ) -> None:
        self.recordings = tuple(recordings)
        self.classes = tuple(classes)
        count = len(self.recordings)
        drawn = np.random.default_rng(0).integers(count, size=(draws, count))
        rows = [np.bincount(row, minlength=count) for row in drawn]
        # The first row is the data themselves.
        self._weights = np.array([np.ones(count, int), *rows], float)

    @cached_property
    def parts(self) -> NDArray[np.int64]:
        """(K, 2): labelled parts and detections of each class."""
        counts = np.zeros((len(self.classes), 2), np.int64)
        for k, name in enumerate(self.classes):
            for r in self.recordings:
                counts[k] += len(_of(name, r.truth)), len(_of(name, r.detections))
        return counts

    def mean_average_precision(self, thresholds: Sequence[float]) -> Share:
        """mAP: the mean over the thresholds and over the classes that have labelled parts."""
        columns = [_column(t) for t in thresholds]
        return self._share(_mean(self._precisions[:, :, columns], axis=(1, 2)))

    def class_precision(self, thresholds: Sequence[float]) -> list[Share]:
        """Average precision of each class, mean over the thresholds; NaN without parts."""
        columns = [_column(t) for t in thresholds]
        means = _mean(self._precisions[:, :, columns], axis=2)
        return [self._share(means[:, k]) for k in range(len(self.classes))]

    def f1(self, overlap: float) -> Share:
        """Segmental F1, counts added over recordings and classes."""
        return self._share(_f1(self._counts(overlap).sum(axis=1)))

    def class_f1(self, overlap: float) -> list[Share]:
        """Segmental F1 of each class; NaN without parts and detections."""
        counts = self._counts(overlap)
        return [self._share(_f1(counts[:, k])) for k in range(len(self.classes))]

    @cached_property
    def edit(self) -> Share:
        """Mean edit score of the recordings."""
        scores = np.array([edit_score(r.truth, r.detections) for r in self.recordings])
        return self._share(self._weights @ scores / self._weights.sum(axis=1))

    @cached_property
    def accuracy(self) -> Share:
        """Share of the time whose labels are right, background included."""
        return self._accuracies[0]

    @property
    def class_accuracy(self) -> list[Share]:
        """Share of the time of each class in which it is detected."""
        return self._accuracies[1:]

    def summary(self) -> dict[str, Any]:
        """Everything as plain values; shares are [value, low, high] with 95 % intervals."""
        shares = {
            "mAP@0.3:0.7": self.mean_average_precision(THUMOS),
            "mAP@0.5:0.95": self.mean_average_precision(ACTIVITYNET),
            **{f"mAP@{t:g}": self.mean_average_precision([t]) for t in THUMOS},
            **{f"F1@{100 * k:g}": self.f1(k) for k in OVERLAPS},
            "edit": self.edit,
            "accuracy": self.accuracy,
        }
        by_class = {
            "AP@0.5": self.class_precision([0.5]),
            "AP@0.3:0.7": self.class_precision(THUMOS),
            **{f"F1@{100 * k:g}": self.class_f1(k) for k in OVERLAPS},
            "accuracy": self.class_accuracy,
        }
        return {
            "recordings": len(self.recordings),
            "seconds": round(sum(r.duration for r in self.recordings), 3),
            "parts": int(self.parts[:, 0].sum()),
            "detections": int(self.parts[:, 1].sum()),
            **{name: _plain(share) for name, share in shares.items()},
            "classes": [
                {
                    "name": name,
                    "parts": int(self.parts[k, 0]),
                    "detections": int(self.parts[k, 1]),
                    **{metric: _plain(values[k]) for metric, values in by_class.items()},
                }
                for k, name in enumerate(self.classes)
            ],
        }

    @cached_property
    def _precisions(self) -> Floats:
        """(1 + draws, K, thresholds)."""
        shape = (len(self._weights), len(self.classes), len(_THRESHOLDS))
        values = np.full(shape, np.nan)
        for k, name in enumerate(self.classes):
            scores, owners, hits = [], [], []
            for number, recording in enumerate(self.recordings):
                truth, own = _of(name, recording.truth), _of(name, recording.detections)
                scores += [d.score for d in own]
                owners += [number] * len(own)
                hits.append(true_positives(truth, own, _THRESHOLDS))
            parts = [len(_of(name, recording.truth)) for recording in self.recordings]
            positives = self._weights @ np.array(parts, float)
            weights = self._weights[:, np.array(owners, int)]
            for column, hit in enumerate(np.concatenate(hits).T):
                values[:, k, column] = average_precision(
                    np.array(scores, float), hit, weights, positives
                )
        return values

    def _counts(self, overlap: float) -> Floats:
        """(1 + draws, K, 3): true positives, false positives, misses."""
        counts = np.zeros((len(self.classes), len(self.recordings), 3))
        for k, name in enumerate(self.classes):
            for number, r in enumerate(self.recordings):
                counts[k, number] = f1_counts(_of(name, r.truth), _of(name, r.detections), overlap)
        return np.einsum("wr,krc->wkc", self._weights, counts)

    @cached_property
    def _accuracies(self) -> list[Share]:
        seconds = np.array([right_seconds(r, self.classes) for r in self.recordings])
        sums = np.einsum("wr,rkc->wkc", self._weights, seconds)
        shares = _ratio(sums[:, :, 0], sums[:, :, 1])
        return [self._share(shares[:, k]) for k in range(shares.shape[1])]

    def _share(self, values: Floats) -> Share:
        """The first value with the interval of the others; [0, 1] of a single recording."""
        value, draws = float(values[0]), values[1:][np.isfinite(values[1:])]
        if math.isnan(value) or len(self.recordings) < 2 or not len(draws):
            return Share(value, 0.0, 1.0)
        low, high = (float(edge) for edge in np.percentile(draws, [2.5, 97.5]))
        return Share(value, min(low, value), max(high, value))


_THRESHOLDS = (0.3, 0.4, *ACTIVITYNET)


def _column(threshold: float) -> int:
    """The column of a threshold in the table of precisions."""
    return int(np.abs(np.array(_THRESHOLDS) - threshold).argmin())


def _of(name: str, segments: Sequence[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.label == name]


def _by_time(segment: Segment) -> tuple[float, float, str]:
    return segment.start, segment.end, segment.label


def _ratio(one: Floats, other: Floats) -> Floats:
    return np.divide(one, other, out=np.full_like(other, np.nan), where=other > 0)


def _f1(counts: Floats) -> Floats:
    """(..., 3) -> (...,)."""
    return _ratio(2 * counts[..., 0], 2 * counts[..., 0] + counts[..., 1] + counts[..., 2])


def _mean(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """The mean of the finite values; NaN of none."""
    finite = np.isfinite(values)
    return _ratio(np.where(finite, values, 0).sum(axis=axis), finite.sum(axis=axis).astype(float))


def _plain(share: Share) -> list[float] | None:
    if math.isnan(share.value):
        return None
    return [round(x, 6) for x in (share.value, share.low, share.high)]
