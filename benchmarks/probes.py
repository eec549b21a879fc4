"""What a probe sees, flipped labels and unknown classes, on the features of an adaptation.

    smnet adapt clips.csv --from CHECKPOINT --minutes 0 --out RUN
    python benchmarks/probes.py RUN --part heads

Everything is linear algebra on the cached features. Clips are scored by probes that have seen
neither them nor their groups.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from smnet.adapt.checkpoints import with_two_stages
from smnet.adapt.discriminants import of_samples, to_answers
from smnet.adapt.run import FOLDS, joined, read_samples
from smnet.adapt.selection import (
    HEADS,
    Choice,
    Samples,
    held_out,
    out_of_fold,
    scores_of_labels,
)
from smnet.adapt.suspects import margins
from smnet.data.annotations.splits import draw_folds
from smnet.evaluation.calibration import auroc
from smnet.recipes.recipe import read_recipe
from smnet.training.setup import build_model, read_training_clips
from smnet.training.start_weights import start_from

SETS = {"last stage": ["mean", "motion", "change"], "all": list(HEADS)}
FLIPPED, INSPECTED = 0.1, 0.2
STRENGTH = 1e-3
"""Of the regularisation, where none is chosen."""


def main() -> None:
    """Print the table of one part."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run", type=Path, help="folder of smnet adapt")
    arguments.add_argument("--part", choices=["heads", "flips", "unknown"], default="heads")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--clips", type=int, help="use that many, spread over the list")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    samples = read(given.run)
    if given.clips:
        chosen = np.zeros(len(samples), bool)
        chosen[np.linspace(0, len(samples) - 1, given.clips).astype(int)] = True
        samples = samples[chosen]
    labels = samples.targets[:, 0].argmax(1)
    match given.part:
        case "heads":
            for seed in range(given.seeds):
                for name, heads in SETS.items():
                    scores, choices, _ = out_of_fold(samples, folds(samples, seed), heads, seed)
                    right, loss = (scores.argmax(1) == labels).mean(), samples.loss(scores)
                    chosen = ", ".join(sorted({choice.head for choice in choices}))
                    print(
                        f"seed {seed}, heads {name}: top-1 {right:.1%}, loss"
                        f" {loss / len(labels):.3f}, chosen {chosen}",
                        flush=True,
                    )
        case "flips":
            shares = [found(samples, labels, seed) for seed in range(given.seeds)]
            print(f"{np.mean(shares):.0%} of the flipped labels are found", shares)
        case "unknown":
            for head in ("motion", "phases"):
                values = np.array(
                    [separated(samples, labels, head, k) for k in range(labels.max() + 1)]
                )
                right, score, distance = values.mean(0)
                print(
                    f"head {head}: top-1 {right:.1%}, AUROC by the score {score:.3f}, by the"
                    f" distance {distance:.3f}",
                    flush=True,
                )


def read(run: Path) -> Samples:
    """The training and validation clips of an adaptation with their cached features."""
    recipe = read_recipe(str(run / "recipe.yaml"))
    clips = read_training_clips(recipe)
    model = build_model(with_two_stages(recipe), clips)
    start_from(model, recipe.weights)
    samples, val = read_samples(recipe, clips, model, run, None)
    return samples if val is None else joined(samples, val)


def folds(samples: Samples, seed: int) -> NDArray[np.int64]:
    """The folds of the data set, or random ones by group."""
    names = [clip.fold for clip in samples.clips]
    if None in names:
        return np.array(draw_folds(samples.clips, FOLDS, seed))
    return np.array([list(dict.fromkeys(names)).index(name) for name in names])


def found(samples: Samples, labels: NDArray[np.int64], seed: int) -> float:
    """Share of the flipped labels among the first suspects."""
    rng, classes = np.random.default_rng(seed), labels.max() + 1
    flipped = rng.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[flipped] = (labels[flipped] + rng.integers(1, classes, len(flipped))) % classes
    targets = np.repeat(np.eye(classes)[wrong][:, None], samples.targets.shape[1], 1)
    scores = scores_of_labels(replace(samples, targets=targets), folds(samples, seed))
    first = np.argsort(margins(scores, wrong))[: round(INSPECTED * len(labels))]
    return float(np.isin(flipped, first).mean())


def separated(
    samples: Samples, labels: NDArray[np.int64], head: str, held: int
) -> tuple[float, float, float]:
    """With one class held out of training: top-1 of the others, and the AUROC of known against
    unknown by the best score and by the distance to the answered class."""
    known = labels != held
    given = replace(samples, targets=np.delete(samples.targets, held, 2))
    scores, far = np.zeros((len(labels), labels.max())), np.zeros(len(labels))
    for train, test in held_out(folds(samples, 0)):
        kept = given[train & known]
        probe = kept.fit(Choice(head, STRENGTH, 0.0))
        scores[test] = given[test].scores(probe, head)
        far[test] = to_answers(given[test], of_samples(kept, head), probe, head)
    right = scores.argmax(1) == labels - (labels > held)
    best = scores.max(1)
    return (
        float(right[known].mean()),
        auroc(best[known], best[~known]),
        auroc(-far[known], -far[~known]),
    )


if __name__ == "__main__":
    main()
