"""Discriminants of the training clips, and the distances by which an answer is "unknown".

Distances along all directions of the features say little with few clips: within a class they vary
most where classes do not differ. Fisher's discriminants are the directions in which the class means
lie far apart for what varies within classes (Hastie et al., "The Elements of Statistical Learning",
section 4.3). The covariance within classes is shrunk towards a multiple of the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smnet.adapt.probe import Probe, span_of
from smnet.adapt.selection import Samples
from smnet.checkpoints.file import Checkpoint
from smnet.checkpoints.metadata import MAX_DISCRIMINANTS
from smnet.models.discriminants import PREFIX

SHRINKAGE = 0.1
"""Share of the identity in the covariance."""
_SMALL = 1e-6  # share of the largest separation below which a direction separates no classes


@dataclass(frozen=True)
class Distances:
    """Squared Mahalanobis distances to the classes, see
    :class:`smnet.models.discriminants.Discriminants`.

    Attributes:
        directions: (R, D), on features as they are.
        offset: (R,).
        means: (K, R) of the classes.
    """

    directions: NDArray[np.float64]
    offset: NDArray[np.float64]
    means: NDArray[np.float64]

    def to(self, features: NDArray[np.floating], classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distances (...) of features (..., D) to classes (...)."""
        gap = features @ self.directions.T + self.offset - self.means[classes]
        distances: NDArray[np.float64] = np.square(gap).sum(-1)
        return distances


def discriminants(
    features: NDArray[np.floating], labels: NDArray[np.int64], classes: int
) -> Distances:
    """Discriminants of samples, at most one less than the classes.

    Args:
        features: (N, D).
        labels: (N,), in [0, K).
        classes: K. A class without samples lies at the mean of all.
    """
    mean, deviation, basis, x = span_of(features)
    one_hot = np.eye(classes)[labels]
    counts = one_hot.sum(0)
    means = one_hot.T @ x / np.maximum(counts, 1)[:, None]
    rest = x - means[labels]
    covariance = rest.T @ rest / len(x)
    size = np.trace(covariance) / len(covariance)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * size * np.eye(len(covariance))
    towards = np.linalg.solve(covariance, means.T)  # (R', K)
    values, vectors = np.linalg.eigh(means @ towards)
    kept = values > _SMALL * max(values[-1], 1e-300)
    kept[:-MAX_DISCRIMINANTS] = False
    axes = towards @ vectors[:, kept] / np.sqrt(values[kept])
    directions = axes.T @ basis / deviation
    return Distances(directions, -directions @ mean, means @ axes)


def of_samples(samples: Samples, head: str) -> Distances:
    """The discriminants of what a head sees of clips."""
    features, targets = samples.flat(head)
    return discriminants(features, targets.argmax(1), targets.shape[1])


def to_answers(samples: Samples, own: Distances, probe: Probe, head: str) -> NDArray[np.float64]:
    """Distances (N,) of clips to the classes that a probe answers, averaged over the views."""
    seen = samples.seen(head)[:, : samples.views]
    return own.to(seen, probe.logits(seen).argmax(-1)).mean(1)


def with_discriminants(
    checkpoint: Checkpoint, samples: Samples, head: str, own: Distances
) -> Checkpoint:
    """A checkpoint of a probe that also measures distances."""
    count = len(own.directions)
    decision = replace(checkpoint.spec.decision, discriminants=count)
    whole = Probe(own.directions, own.offset, 0.0)
    made: dict[str, Any] = {
        "directions": samples.weight(whole, head),
        "offset": own.offset,
        "means": own.means,
    }
    tensors = {PREFIX + name: torch.from_numpy(value).float() for name, value in made.items()}
    return replace(
        checkpoint,
        spec=replace(checkpoint.spec, decision=decision),
        tensors={**checkpoint.tensors, **tensors},
    )
