"""Cross-validation: a run per fold, each measured on the clips that it did not see."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from smnet.console import clock, console, output
from smnet.data.annotations.source import source_of
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.evaluation.results import Evaluation, write_predictions
from smnet.experiments.table import half_width
from smnet.files import is_ours, write_text
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.report.tables import plain_table, say
from smnet.training.copies import keep_copies_together
from smnet.training.loop import train
from smnet.training.setup import check_folder_is_not_data, read_training_clips, start_folder

FOLDS, PREDICTIONS = "folds.json", "predictions.csv"
"""The results in the folder of a cross-validation."""


@dataclass(frozen=True)
class CrossValidation:
    """The result of a cross-validation.

    Attributes:
        folds: the evaluation of each fold.
        seconds: training time of each fold.
    """

    folds: tuple[Evaluation, ...]
    seconds: tuple[float, ...]

    @property
    def accuracies(self) -> list[float]:
        """Top-1 of each fold."""
        return [fold.top(1).value for fold in self.folds]

    @property
    def mean(self) -> float:
        """Mean top-1 over the folds."""
        return statistics.fmean(self.accuracies)

    @property
    def half_width(self) -> float:
        """Half the 95 % interval of the mean (Student's t over the folds)."""
        return half_width(self.accuracies)

    @property
    def together(self) -> Evaluation:
        """The clips of all folds as one evaluation; each was scored by a model without it."""
        first = self.folds[0]
        return replace(
            first,
            scores=np.concatenate([fold.scores for fold in self.folds]),
            labels=np.concatenate([fold.labels for fold in self.folds]),
            truth=None
            if first.truth is None
            else np.concatenate([fold.labelled for fold in self.folds]),
            paths=tuple(path for fold in self.folds for path in fold.paths),
            clips=tuple(clip for fold in self.folds for clip in fold.clips),
            problems=tuple(text for fold in self.folds for text in fold.problems),
            damaged=tuple(text for fold in self.folds for text in fold.damaged),
            distances=None,  # each network has its own scale
        )

    def summary(self) -> dict[str, Any]:
        """Plain values for ``folds.json``; shares are in [0, 1]."""
        pooled = self.together.top(1)
        return {
            "top1": self.mean,
            "half_width": None if math.isnan(self.half_width) else self.half_width,
            "pooled": [pooled.value, pooled.low, pooled.high],
            "folds": [
                {"fold": k, "clips": len(fold.labels), "top1": fold.top(1).value, "seconds": s}
                for k, (fold, s) in enumerate(zip(self.folds, self.seconds, strict=True), 1)
            ],
        }


def cross_validate(recipe: Recipe, folder: Path, *, resume: bool = False) -> CrossValidation | None:
    """Train and measure ``recipe.folds`` models and write ``folds.json`` and ``predictions.csv``.

    Fold k has its run in ``fold-k``. The checkpoint of its last epoch is measured: the best one was
    chosen on the clips of the fold. With ``recipe.minutes`` the folds share the time, and the first
    one decides the epochs of all. Finished folds are not trained again.

    Args:
        recipe: with ``folds`` of at least 2.
        folder: folder of the cross-validation.
        resume: continue the one in ``folder``.

    Returns:
        The result; None after an interruption.

    Raises:
        UserError: as :func:`smnet.training.loop.train`, or ``folder`` has a cross-validation.
    """
    for own in _of_folds(recipe):  # what the data of a later fold would refuse
        check_folder_is_not_data(folder, read_training_clips(own))
    for name in (FOLDS, PREDICTIONS):
        if (folder / name).exists() and not is_ours(folder / name):
            raise UserError(f"{folder / name}: was not written by smnet; choose another --out")
    if not resume:
        if (folder / "fold-1").exists():
            raise UserError(
                f"{folder}: contains a cross-validation already; resume it with: smnet train"
                f" --resume {folder}, or choose another --out"
            )
        recipe, _, line = keep_copies_together(recipe, read_training_clips(recipe))
        if line:
            console.print(line, markup=False, soft_wrap=True)
        start_folder(folder, recipe)
    results: list[Evaluation] = []
    seconds: list[float] = []
    for own in _of_folds(recipe):
        place = folder / f"fold-{own.fold}"
        console.rule(Text(f"fold {own.fold} of {recipe.folds}"))
        if not train(_timed(own, folder), place, resume=(place / "resume.pt").exists()).finished:
            console.print(f"all folds: smnet train --resume {folder}", markup=False, soft_wrap=True)
            return None
        assert own.data is not None  # otherwise its clips could not be read
        result = evaluate_checkpoints(
            [str(place / "last.safetensors")],
            source_of(own),
            on_error=own.on_error,
            batch=own.batch,
            workers=own.workers,
            device=own.device,
            decoder=own.decoder,
        )
        assert result is not None  # only None on other processes than the first
        results.append(result)
        rows = map(json.loads, (place / "log.jsonl").read_text(encoding="utf-8").splitlines())
        seconds.append(sum(row["seconds"] for row in rows if row["kind"] == "train"))
    done = CrossValidation(tuple(results), tuple(seconds))
    write_predictions(folder / PREDICTIONS, done.together)
    write_text(folder / FOLDS, json.dumps(done.summary(), indent=2))
    return done


def _of_folds(recipe: Recipe) -> list[Recipe]:
    """A recipe for each fold."""
    return [recipe.model_copy(update={"fold": fold}) for fold in range(1, recipe.folds + 1)]


def _timed(own: Recipe, folder: Path) -> Recipe:
    """The recipe of a fold, with its part of the time or the epochs of the first fold."""
    stored = folder / f"fold-{own.fold}" / "recipe.yaml"
    if stored.exists():
        return read_recipe(str(stored))
    if not own.minutes:
        return own
    if own.fold == 1:
        return own.model_copy(update={"minutes": own.minutes / own.folds})
    first = read_recipe(str(folder / "fold-1" / "recipe.yaml"))
    epochs = {"epochs": first.epochs, "warmup": first.warmup, "ema": first.ema, "minutes": 0.0}
    return own.model_copy(update=epochs)


def print_folds(done: CrossValidation) -> None:
    """Print the table of folds, the mean and its interval."""
    table = plain_table("fold", "clips", "top-1", "training")
    for fold in done.summary()["folds"]:
        cells = (fold["fold"], fold["clips"], f"{fold['top1']:.1%}", clock(fold["seconds"]))
        table.add_row(*map(str, cells))
    screen = output()
    screen.print(table)
    pooled = done.together.top(1)
    say(
        screen,
        f"mean over {len(done.folds)} folds: {100 * done.mean:.1f} ± {100 * done.half_width:.1f} %"
        f" (95 % interval of the mean); {len(done.together.labels)} clips together: {pooled}",
    )
