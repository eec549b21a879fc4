"""Choice of a probe by nested cross-validation, and predictions of clips that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smnet.adapt.probe import STRENGTHS, Probe, fit, path, probabilities
from smnet.data.annotations.splits import draw_folds
from smnet.data.clips import Clip
from smnet.evaluation.calibration import loss_at_best_temperature
from smnet.models.base import MOMENTS

Array = NDArray[np.float64]
INNER = 3
"""Folds by which the strength of the regularisation is chosen."""
LOOSE = 1e-2
"""Strength by which labels are checked."""
MOST_VALUES = 1 << 28
"""Features times samples above which a probe sees the last stage alone; they take 2 GB."""


@dataclass(frozen=True)
class Head:
    """What a probe sees.

    Attributes:
        option: the option ``head`` of the network.
        blocks: what has weights, of the nine values per channel of
            :func:`smnet.models.base.over_phases`.
        both: whether the last two stages are seen, or the last one alone.
        words: for the report.
    """

    option: str
    blocks: tuple[int, ...]
    both: bool
    words: str


HEADS = {
    "mean": Head("mean", (0,), False, "the mean over time"),
    "motion": Head("motion", (0, 1, 2), False, "mean and change over time"),
    "change": Head("motion", (1, 2), False, "the change over time"),
    "phases": Head(
        "phases", tuple(range(9)), True, "mean and change of the whole clip and of its thirds"
    ),
    "order": Head("phases", (1, 6, 7, 8), True, "the change over time in each third"),
}
"""What a probe may see, by name."""


@dataclass(frozen=True)
class Samples:
    """Clips with their features.

    Attributes:
        features: (N, V', 9C) of the views of each clip, see
            :func:`smnet.models.base.over_phases`.
        targets: (N, V', K) probabilities of the classes; views in the mirror may have others.
        clips: the clips; those of a group are never divided.
        views: V, the first views of a clip, which are scored. The others only train.
        several: whether a clip may have several labels.
        below: how many of the C channels are of the last stage but one; they stand first.
    """

    features: NDArray[np.float32]
    targets: Array
    clips: Sequence[Clip]
    views: int = 1
    several: bool = False
    below: int = 0

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Samples:
        clips = [clip for clip, taken in zip(self.clips, chosen, strict=True) if taken]
        return replace(
            self, features=self.features[chosen], targets=self.targets[chosen], clips=clips
        )

    @property
    def heads(self) -> list[str]:
        """The heads to choose from: those that fit into memory."""
        values = math.prod(self.features.shape)
        return [name for name, head in HEADS.items() if not head.both or values <= MOST_VALUES]

    def seen(self, head: str) -> NDArray[np.float32]:
        """The features (N, V', D) that a head sees."""
        clips, views = self.features.shape[:2]
        first = 0 if HEADS[head].both else self.below
        blocks = self.features.reshape(clips, views, 9, -1)[:, :, list(HEADS[head].blocks), first:]
        return blocks.reshape(clips, views, -1)

    def weight(self, probe: Probe, head: str) -> NDArray[np.float64]:
        """The weights (K, D) of a network with the option of a head; 0 for what it does not see."""
        blocks, own = list(HEADS[head].blocks), len(probe.weight)
        seen = probe.weight.reshape(own, len(blocks), -1)
        weight = np.zeros((own, MOMENTS[HEADS[head].option], seen.shape[-1]))
        weight[:, blocks] = seen
        return weight.reshape(own, -1)

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
        head: of :data:`HEADS`.
        strength: of the regularisation.
        loss: mean loss of clips that the probe had not seen, at the best temperature.
    """

    head: str
    strength: float
    loss: float


def choose(samples: Samples, heads: Sequence[str] | None = None, seed: int = 0) -> Choice:
    """Choose head and strength by grouped cross-validation, by the loss on held-out clips.

    The loss is that at the best temperature, which the result is calibrated with anyway. Without
    it a probe that is right but too sure, as one of few clips is, would lose to one that is held
    so strongly that it hardly tells the classes apart.
    """
    heads = heads or samples.heads
    best = Choice(heads[0], STRENGTHS[0], np.inf)
    parts = list(held_out(np.array(draw_folds(samples.clips, INNER, seed))))
    truth = samples.targets[:, 0] > 0
    for head in heads:
        scores = np.zeros((len(STRENGTHS), *truth.shape))
        for train, test in parts:
            probes = path(
                *samples[train].flat(head), STRENGTHS, several=samples.several, precise=False
            )
            scores[:, test] = [samples[test].scores(probe, head) for probe in probes]
        losses = [loss_at_best_temperature(own, truth, samples.several) for own in scores]
        k = int(np.argmin(losses))
        if losses[k] < best.loss:
            best = Choice(head, STRENGTHS[k], losses[k])
    return best


def out_of_fold(
    samples: Samples,
    folds: NDArray[np.int64],
    heads: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
    measure: Callable[[Samples, Samples, Probe, str], Array] | None = None,
) -> tuple[Array, list[Choice], Array]:
    """Scores (N, K) of each clip by a probe that has seen neither it nor its group.

    Head and strength are chosen anew within the clips that each probe is trained on.

    Args:
        samples: the clips.
        folds: (N,) the fold of each clip.
        heads: to choose from; None is all that fit into memory.
        seed: of the inner folds.
        progress: is called with the number of clips just finished.
        measure: a number for each clip, from the training clips, the clips, the probe and its head.

    Returns:
        The scores, the choices by fold, and what was measured (N,), NaN without ``measure``.
    """
    scores = np.full(samples.targets[:, 0].shape, np.nan)
    measured = np.full(len(samples), np.nan)
    choices = []
    for train, test in held_out(folds):
        choice = choose(samples[train], heads, seed)
        probe = samples[train].fit(choice)
        scores[test] = samples[test].scores(probe, choice.head)
        if measure is not None:
            measured[test] = measure(samples[train], samples[test], probe, choice.head)
        choices.append(choice)
        progress(int(test.sum()))
    return scores, choices, measured


def scores_of_labels(samples: Samples, folds: NDArray[np.int64]) -> Array:
    """Scores (N, K) as :func:`out_of_fold`, by which labels are checked.

    The probe is one that sees everything and is not fitted tightly: it shall not follow the labels
    that are wrong.
    """
    head = "phases" if "phases" in samples.heads else "motion"
    scores = np.full(samples.targets[:, 0].shape, np.nan)
    for train, test in held_out(folds):
        probe = samples[train].fit(Choice(head, LOOSE, 0.0))
        scores[test] = samples[test].scores(probe, head)
    return scores


def held_out(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """For each fold, the clips outside and those inside of it."""
    for fold in np.unique(folds):
        test = folds == fold
        if not test.all():
            yield ~test, test
