"""Wrong labels and the next clips to label, on clusters of which the truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnet.adapt.proposals import propose
from smnet.adapt.selection import Choice, Samples
from smnet.adapt.suspects import margins, suspects, thresholds
from smnet.data.clips import Clip

Array = NDArray[np.float64]


def clusters(count: int, classes: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return rng.normal(size=(classes, 30))[labels] * 1.2 + rng.normal(size=(count, 30)), labels


def out_of_fold(x: Array, labels: NDArray[np.int64]) -> Array:
    scores = np.zeros((len(x), labels.max() + 1))
    targets = np.eye(labels.max() + 1)[labels]
    for fold in range(5):
        test = np.arange(len(x)) // 7 % 5 == fold
        clips = [Clip(str(i), 0, "") for i in range(len(x))]
        wide = np.tile(x[:, None], 9).astype(np.float32)
        samples = Samples(wide, targets[:, None], clips)
        probe = samples[~test].fit(Choice("mean", 0.02, 0.0))
        scores[test] = samples[test].scores(probe, "mean")
    return scores


def test_flipped_labels_are_among_the_first_suspects() -> None:
    shares = []
    for seed in range(3):
        x, truth = clusters(140, 5, seed)
        rng = np.random.default_rng(seed)
        flipped = rng.choice(140, 14, replace=False)
        labels = truth.copy()
        labels[flipped] = (truth[flipped] + rng.integers(1, 5, 14)) % 5
        order = np.argsort(margins(out_of_fold(x, labels), labels))
        shares.append(np.isin(flipped, order[:28]).mean())
    assert min(shares) >= 0.7


def test_suspects_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.95, 0.05], [np.nan, np.nan]])
    labels = np.array([0, 0, 1, 1, 0])
    assert np.allclose(thresholds(scores, labels), [0.8, (0.8 + 0.05) / 2])
    assert suspects(scores, labels) == [(3, 0)]


def test_proposals_reach_every_cluster() -> None:
    x, labels = clusters(60, 4, 0)
    far = 10 * np.eye(30)[labels] + x
    assert len(set(labels[propose(far, 4)])) == 4
    known = far[labels == 0]
    assert 0 not in labels[propose(far, 3, labelled=known)]


def test_uncertain_clips_come_first() -> None:
    x, _ = clusters(20, 2, 1)
    scores = np.tile([0.99, 0.01], (20, 1))
    scores[7] = 0.5
    assert propose(x, 1, scores, labelled=x[:1]) == [7]


def test_clips_without_features_are_not_proposed() -> None:
    x = np.array([[np.nan, 1.0], [0.0, 1.0], [2.0, 0.0]])
    assert sorted(propose(x, 5)) == [1, 2]
    assert propose(x[:1], 3) == []
