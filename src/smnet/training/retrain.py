"""A run on own clips to its end: trained and measured, then trained again on all clips.

The measured run holds out the clips that a draw put aside. With few clips these are worth more in
training, so that the network is trained once more on all of them, with the same schedule. Its
result is that of the measured run, which was trained on fewer clips.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from smnet.checkpoints.file import read_checkpoint, save_checkpoint
from smnet.console import console, plural
from smnet.evaluation.evaluate import trained_on_all
from smnet.recipes.recipe import Recipe
from smnet.training.calibration import MEASURED
from smnet.training.loop import Outcome, train
from smnet.training.setup import stored_recipe

AGAIN = "all"
"""The folder of the second run, in that of the first."""


def train_to_end(recipe: Recipe, folder: Path, *, resume: bool = False) -> Outcome:
    """:func:`smnet.training.loop.train`, and once more on all clips where ``recipe.retrain`` says
    so.

    With ``retrain=auto`` the first run decides by the speed of its first steps, and takes half of
    the time. The network of all clips then becomes ``best.safetensors``, with the decision and the
    metrics of the measured one, which is kept as ``measured.safetensors``.

    Raises:
        UserError: as ``train``; or ``retrain=on`` where nothing was drawn.
    """
    began = time.monotonic()
    outcome = train(recipe, folder, resume=resume)
    first = stored_recipe(folder)
    if not outcome.finished or first.retrain != "on" or outcome.best is None:
        return outcome
    if trained_on_all(str(outcome.checkpoint)):
        return outcome
    epochs = _epochs(first, folder, outcome, None if resume else began)
    if not epochs:
        _say("trained again: left out, no time is left; best is the measured network")
        return outcome
    own = {
        "val_fraction": 0.0,
        "minutes": 0.0,
        "retrain": "off",
        "patience": 0,
        "epochs": epochs,
        "warmup": min(first.warmup, epochs / 10),
    }
    place = folder / AGAIN
    again = (place / "resume.pt").exists()
    if again:
        recipe = stored_recipe(place)
    else:
        recipe = first.model_copy(update=own)
        _say(f"trained again on all clips, validation clips among them: {plural(epochs, 'epoch')}")
    whole = train(recipe, place, resume=again)
    if not whole.finished:
        _say(f"the whole run: smnet train --resume {folder}")
        return replace(outcome, finished=False, stop_requested=whole.stop_requested)
    _take(folder, whole)
    return outcome


def _epochs(first: Recipe, folder: Path, outcome: Outcome, began: float | None) -> int:
    """Epochs of the second run: those of the first, or fewer where the time does not suffice."""
    epochs = min(first.epochs, outcome.epoch)
    if began is None or not first.minutes:
        return epochs
    rows = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    seconds = sum(row["seconds"] for row in rows if row["kind"] == "train") / outcome.epoch
    held_out = 0 if outcome.held_out is None else len(outcome.held_out.labels)
    clips = sum(outcome.train_clips.values())
    seconds *= 1 + held_out / max(clips, 1)
    left = 60 * first.minutes - (time.monotonic() - began)
    fitting = int(left / max(seconds, 1e-6))
    return min(epochs, fitting) if 2 * fitting >= epochs else 0


def _take(folder: Path, whole: Outcome) -> None:
    """Make the network of all clips the result of the run in ``folder``."""
    measured = read_checkpoint(folder / "best.safetensors")
    network = read_checkpoint(whole.checkpoint)
    save_checkpoint(folder / MEASURED, measured)
    best = replace(
        network,
        spec=replace(network.spec, decision=measured.spec.decision),
        recipe=measured.recipe,
        metrics={**measured.metrics, "trained_on_all": True},
    )
    save_checkpoint(folder / "best.safetensors", best)


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
