"""A run of a given duration: the speed of its first steps decides the number of epochs."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from smnet.console import clock, plural
from smnet.data.loading.loader import ClipLoader
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.models import VideoModel
from smnet.recipes.recipe import Recipe
from smnet.training.augment import Augmentation
from smnet.training.freeze import train_mode
from smnet.training.loss import Loss
from smnet.training.optim import make_optimizer, set_lr
from smnet.training.step import forward, prepare

MOST_EPOCHS = 150
"""More passes over the same clips are not worth the wait."""
RETRAIN_FROM = 80
"""Epochs that must fit before half of the time is for training again on all clips."""
_SECONDS, _STEPS = 4.0, 8  # of the measurement, whichever ends first
_MARGIN = 0.95  # of the time is planned for
_DISK = 4e8  # bytes per second, a cautious figure for the saved states


def fit_epochs(
    recipe: Recipe,
    model: VideoModel,
    loader: ClipLoader,
    val_clips: int,
    step: Callable[[VideoModel, torch.optim.Optimizer, Any], None],
    processes: Processes,
    began: float,
) -> tuple[Recipe, str]:
    """Choose the epochs that fit into ``recipe.minutes``, by training steps on a copy of a model.

    With ``retrain=auto`` half of the time is left for a second run on all clips if
    :data:`RETRAIN_FROM` epochs fit. The warmup takes at most a tenth of the epochs, and the moving
    average at most a tenth of the steps. The result is stored as the recipe of the run, so a
    resumed run has the same schedule.

    Args:
        recipe: the recipe of the run.
        model: the model with its start weights; it is not changed.
        loader: the training clips.
        val_clips: number of validation clips.
        step: takes one training step with a batch.
        processes: this process among the others, which all get the same result.
        began: ``time.monotonic()`` at the start of the run.

    Returns:
        The recipe with its epochs, and a line for the log.
    """
    seconds, steps = _seconds_per_batch(recipe, model, loader, step)
    seconds = max(processes.gather(seconds))
    clips = recipe.batch * processes.world
    size = 4 * sum(value.numel() for value in model.state_dict().values())
    validation = val_clips / processes.world * seconds / recipe.batch / 3
    epoch = len(loader) * seconds + validation + 8 * size / _DISK
    left = 60 * recipe.minutes * _MARGIN - max(processes.gather(time.monotonic() - began))
    retrain = recipe.retrain
    if retrain == "auto":
        retrain = "on" if left / epoch >= RETRAIN_FROM else "off"
    if retrain == "on":
        left /= 2
    epochs = min(max(int(left / epoch), 1), MOST_EPOCHS)
    total = epochs * -(-len(loader) // recipe.accumulate)
    fitted = recipe.model_copy(
        update={
            "epochs": epochs,
            "retrain": retrain,
            "warmup": min(recipe.warmup, epochs / 10),
            "ema": min(recipe.ema, max(1 - 10 / total, 0.0)),
        }
    )
    note = (
        f"budget of {recipe.minutes:g} minutes: {plural(epochs, 'epoch')} of {clock(epoch)}"
        f" ({clips / seconds:.1f} clips/s in {plural(steps, 'step')}), about"
        f" {clock(epochs * epoch)} left"
    )
    if epochs == 1 and left < epoch:
        note += "; one epoch takes longer than that"
    elif epochs == MOST_EPOCHS:
        note += f"; {MOST_EPOCHS} epochs are the most"
    if retrain == "on":
        note += "; then as many on all clips"
    return fitted, note


def refit_epochs(
    recipe: Recipe, started: float, seconds: float, processes: Processes
) -> tuple[Recipe, str]:
    """Choose the epochs again after the first one, which took ``seconds``.

    Args:
        recipe: the recipe of the run by :func:`fit_epochs`.
        started: ``time.monotonic()`` at the start of the run.
        seconds: duration of the first epoch, with validation and saving.
        processes: this process among the others, which all get the same result.
    """
    seconds = max(processes.gather(seconds))
    left = 60 * recipe.minutes * _MARGIN - max(processes.gather(time.monotonic() - started))
    if recipe.retrain == "on":
        left = (left - seconds) / 2
    epochs = min(1 + max(int(left / seconds), 0), MOST_EPOCHS)
    update = {"epochs": epochs, "warmup": min(recipe.warmup, epochs / 10)}
    if epochs > 1:
        note = f"budget: {epochs} epochs by the first, about {clock((epochs - 1) * seconds)} left"
    else:
        note = f"budget: it ends here, another epoch of {clock(seconds)} does not fit"
    return recipe.model_copy(update=update), note


def _seconds_per_batch(
    recipe: Recipe,
    model: VideoModel,
    loader: ClipLoader,
    step: Callable[[VideoModel, torch.optim.Optimizer, Any], None],
) -> tuple[float, int]:
    """Seconds per batch with reading, and the number of steps that were measured."""
    trial = copy.deepcopy(model)
    optimizer = make_optimizer(trial, recipe)
    set_lr(optimizer, 0.0)
    train_mode(trial, recipe)
    batches = iter(loader)
    step(trial, optimizer, next(batches))  # starts workers and allocates memory
    began = time.monotonic()
    count = 0
    for batch in itertools.islice(batches, _STEPS):
        step(trial, optimizer, batch)
        count += 1
        if time.monotonic() - began > _SECONDS:
            break
    if not count:  # a set of one batch
        step(trial, optimizer, next(iter(loader)))
        count = 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.monotonic() - began) / count, count


def trial_step(
    recipe: Recipe,
    loss_of: Loss,
    augmentation: Augmentation,
    autocast: Callable[[], AbstractContextManager[Any]],
    device: torch.device,
) -> Callable[[VideoModel, torch.optim.Optimizer, Any], None]:
    """A training step for :func:`fit_epochs`; unreadable clips are left to the run."""
    generator = torch.Generator().manual_seed(0)

    def step(model: VideoModel, optimizer: torch.optim.Optimizer, batch: Any) -> None:
        if not len(batch.labels):
            return
        optimizer.zero_grad(set_to_none=True)
        inputs, targets = prepare(batch, recipe, model.spec, device, augmentation, generator)
        with autocast():
            loss = loss_of(forward(model, inputs, recipe), targets)
        loss.backward()
        optimizer.step()

    return step


def check_retrain(recipe: Recipe, drawn: bool, processes: Processes) -> Recipe:
    """The recipe, with ``retrain=off`` in place of ``auto`` where no validation clips were drawn
    that could be trained on, or where several processes train.

    Raises:
        UserError: ``retrain=on`` there.
    """
    if recipe.retrain == "off" or (drawn and processes.world == 1):
        return recipe
    if recipe.retrain == "on":
        why = "several processes train" if drawn else "no validation clips are drawn"
        raise UserError(f"retrain=on: {why} here; leave retrain out")
    return recipe.model_copy(update={"retrain": "off"}) if recipe.minutes else recipe
