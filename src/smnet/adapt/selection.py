"""Choice of a probe by nested cross-validation, and predictions of clips that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smnet.adapt.probe import STRENGTHS, Probe, fit, path, probabilities
from smnet.data.annotations.splits import draw_folds
from smnet.data.clips import Clip

Array = NDArray[np.float64]
HEADS = ("mean", "motion", "change")
"""What a probe may see: the mean, all that the option head=motion gives, or all but the mean."""
INNER = 3
"""Folds by which the strength of the regularisation is chosen."""


@dataclass(frozen=True)
class Samples:
    """Clips with their features.

    Attributes:
        features: (N, V', 3C) of the views of each clip: mean, deviation and motion of C channels.
        targets: (N, V', K) probabilities of the classes; views in the mirror may have others.
        clips: the clips; those of a group are never divided.
        views: V, the first views of a clip, which are scored. The others only train.
        several: whether a clip may have several labels.
    """

    features: NDArray[np.float32]
    targets: Array
    clips: Sequence[Clip]
    views: int = 1
    several: bool = False

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Samples:
        clips = [clip for clip, taken in zip(self.clips, chosen, strict=True) if taken]
        return replace(
            self, features=self.features[chosen], targets=self.targets[chosen], clips=clips
        )

    def seen(self, head: str) -> NDArray[np.float32]:
        """The features (N, V', D) that a head sees."""
        third = self.features.shape[-1] // 3
        first, last = {"mean": (0, third), "motion": (0, None), "change": (third, None)}[head]
        return self.features[..., first:last]

    def flat(self, head: str) -> tuple[NDArray[np.float32], Array]:
        """Every view as a sample: features (N*V', D) and targets (N*V', K)."""
        features, classes = self.seen(head), self.targets.shape[-1]
        return features.reshape(-1, features.shape[-1]), self.targets.reshape(-1, classes)

    def fit(self, choice: Choice) -> Probe:
        """The probe of a choice."""
        return fit(*self.flat(choice.head), choice.strength, several=self.several)

    def scores(self, probe: Probe, head: str) -> Array:
        """Probabilities (N, K), averaged over the views, as a checkpoint gives them."""
        logits = probe.logits(self.seen(head)[:, : self.views])
        return probabilities(logits, self.several).mean(1)

    def loss(self, scores: Array) -> float:
        """Sum over the clips of the loss of their scores."""
        truth, p = self.targets[:, 0], np.clip(scores, 1e-12, 1 - 1e-12)
        terms = truth * np.log(p)
        if self.several:
            terms = terms + (1 - truth) * np.log1p(-p)
        return -float(terms.sum())


@dataclass(frozen=True)
class Choice:
    """How a probe is made.

    Attributes:
        head: one of :data:`HEADS`.
        strength: of the regularisation.
        loss: mean loss of clips that the probe had not seen.
    """

    head: str
    strength: float
    loss: float


def choose(samples: Samples, heads: Sequence[str] = HEADS, seed: int = 0) -> Choice:
    """Choose head and strength by grouped cross-validation, by the loss on held-out clips."""
    best = Choice(heads[0], STRENGTHS[0], np.inf)
    parts = list(held_out(np.array(draw_folds(samples.clips, INNER, seed))))
    for head in heads:
        totals = np.zeros(len(STRENGTHS))
        for train, test in parts:
            probes = path(
                *samples[train].flat(head), STRENGTHS, several=samples.several, precise=False
            )
            unseen = samples[test]
            totals += [unseen.loss(unseen.scores(probe, head)) for probe in probes]
        totals /= len(samples)
        k = int(totals.argmin())
        if totals[k] < best.loss:
            best = Choice(head, STRENGTHS[k], float(totals[k]))
    return best


def out_of_fold(
    samples: Samples,
    folds: NDArray[np.int64],
    heads: Sequence[str] = HEADS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Array, list[Choice]]:
    """Scores (N, K) of each clip by a probe that has seen neither it nor its group.

    Head and strength are chosen anew within the clips that each probe is trained on.

    Args:
        samples: the clips.
        folds: (N,) the fold of each clip.
        heads: to choose from.
        seed: of the inner folds.
        progress: is called with the number of clips just finished.
    """
    scores = np.full(samples.targets[:, 0].shape, np.nan)
    choices = []
    for train, test in held_out(folds):
        choice = choose(samples[train], heads, seed)
        probe = samples[train].fit(choice)
        scores[test] = samples[test].scores(probe, choice.head)
        choices.append(choice)
        progress(int(test.sum()))
    return scores, choices


def held_out(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """For each fold, the clips outside and those inside of it."""
    for fold in np.unique(folds):
        test = folds == fold
        if not test.all():
            yield ~test, test
