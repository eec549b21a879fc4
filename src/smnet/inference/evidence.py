"""Why a network gives a score: the evidence of each frame and place for each class."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError
from smnet.inference.backends import Backend
from smnet.inference.classifier import decompose
from smnet.models.spec import ModelSpec

Array = NDArray[np.float32]

EXACT = (
    "The map is exact: its sum over frames and places, plus a constant, is the logit. A cell stands"
    " for the features at this place, which see more of the picture than the cell."
)
BY_GRADIENT = (
    "The map is the gradient of the logit times the features, because this head is not linear in"
    " them. It shows what a small change would do. Its sum is not the logit."
)
AT_ONCE = 8
"""Views that are scored in one call."""
TOLERANCE = 0.02
"""Largest difference of a score from that of the sum. float16 needs it; float32 gives 1e-5."""


@dataclass(frozen=True)
class Evidence:
    """The evidence for each class in one view of a video.

    Attributes:
        path: the video.
        classes: K names.
        scores: (K,) probabilities.
        logits: (K,) before softmax or sigmoid.
        maps: (K, T', h, w), the share of each frame and place in the logit.
        constant: (K,) what of the logits comes from no frame. Logits are sums of maps, plus this.
        view: (T*L, 3, H, W) uint8, what the network saw.
        length: L, the frames of a segment.
        exact: whether the sum holds; otherwise ``maps`` are gradients times features.
    """

    path: str
    classes: tuple[str, ...]
    scores: Array
    logits: Array
    maps: Array
    constant: Array
    view: NDArray[np.uint8]
    length: int
    exact: bool

    @property
    def label(self) -> str:
        """The class with the highest score."""
        return self.classes[int(self.scores.argmax())]

    @property
    def frames(self) -> NDArray[np.uint8]:
        """The middle frame of each segment, (T, H, W, 3)."""
        middle = self.view[self.length // 2 :: self.length]
        return np.ascontiguousarray(middle.transpose(0, 2, 3, 1))

    @property
    def meaning(self) -> str:
        """What the maps of this head mean, in words."""
        return EXACT if self.exact else BY_GRADIENT

    def index(self, label: str) -> int:
        """The index of a class.

        Raises:
            UserError: no such class.
        """
        if label not in self.classes:
            near = difflib.get_close_matches(label, self.classes, n=1, cutoff=0.0)[0]
            raise UserError(f"the network has no class {label!r}; did you mean {near!r}?")
        return self.classes.index(label)

    def map_of(self, label: str | None = None, against: str | None = None) -> Array:
        """The map (T', h, w) of a class; None is the best one.

        With ``against``, the difference to the map of that class, which decomposes the difference
        of the two logits.
        """
        chosen = self.maps[self.index(self.label if label is None else label)]
        return chosen if against is None else chosen - self.maps[self.index(against)]

    def curve(self, label: str | None = None, against: str | None = None) -> NDArray[np.float64]:
        """The evidence of each frame (T',): the sum of its map over space."""
        return self.map_of(label, against).sum((1, 2), dtype=np.float64)


def evidence_of(
    backend: Backend, views: NDArray[np.uint8], path: str = "", classes: tuple[str, ...] = ()
) -> Evidence:
    """The evidence in one view.

    Args:
        backend: a checkpoint, or a file that was exported with its features.
        views: (1, T*L, 3, h, w) uint8.
        path, classes: of the result; no classes are those of the network.

    Raises:
        UserError: a file that was exported without features.
    """
    spec = backend.spec
    scores = backend.score(views[None])[0]
    classifier = backend.classifier
    if classifier is None:
        torch_backend: Any = backend  # an exported file has a classifier, or no features at all
        maps, logits = torch_backend.gradients(views)
        constant = logits - maps.sum((1, 2, 3))
    else:
        features = backend.features(views[None], pool=lambda maps: maps)[0, 0]
        if spec.options.get("causal"):
            features = features[-spec.num_segments :]
        maps, constant = decompose(features, classifier)
        logits = (maps.sum((1, 2, 3), dtype=np.float64) + constant).astype(np.float32)
        gap = float(np.abs(probabilities(logits, spec) - scores).max())
        if gap > TOLERANCE:  # a NaN is for the caller
            raise RuntimeError(f"the sum of the maps misses the scores by {gap:.1e}")
    names = classes or spec.class_names or tuple(map(str, range(spec.num_classes)))
    exact = classifier is not None
    return Evidence(
        path, names, scores, logits, maps, constant, views[0], spec.frames_per_segment, exact
    )


def scores_of(backend: Backend, clips: Sequence[NDArray[np.uint8]], label: int) -> NDArray[Any]:
    """The scores of one class (N,) for N views (T*L, 3, h, w)."""
    groups = [np.stack(clips[k : k + AT_ONCE]) for k in range(0, len(clips), AT_ONCE)]
    scores = [backend.score(group[:, None])[:, label] for group in groups]
    return np.concatenate(scores).astype(np.float64)


def probabilities(logits: Array, spec: ModelSpec) -> Array:
    """As :func:`smnet.models.base.probabilities`, in NumPy."""
    tempered = logits.astype(np.float64) / spec.decision.temperature
    if spec.several:
        return (1 / (1 + np.exp(-tempered))).astype(np.float32)
    grown = np.exp(tempered - tempered.max())
    return (grown / grown.sum()).astype(np.float32)
