"""Training, top to bottom in one function: :func:`train`."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.console import clock
from smnet.data.annotations.read import ClipSet
from smnet.data.loading.dataset import ClipDataset, TrainBatches
from smnet.data.loading.loader import ClipLoader, make_loader
from smnet.distributed import Processes, join
from smnet.errors import UserError
from smnet.evaluation.evaluate import in_order, protocol_loader, score_clips, validation_plan
from smnet.evaluation.results import Evaluation
from smnet.files import alone_in
from smnet.models import to_channels_last
from smnet.recipes.recipe import Recipe
from smnet.training.augment import Augmentation
from smnet.training.log import RunLog
from smnet.training.optim import get_lr, lr_factor, make_optimizer, scaled_lr, set_lr
from smnet.training.setup import (
    Stopped,
    build,
    check_outside,
    describe,
    learned_from,
    mixed_precision,
    read_training_clips,
    seed_everything,
    start_folder,
    stop_on_signals,
    training_plan,
    validation_clips,
)
from smnet.training.start_weights import start_from
from smnet.training.state import (
    Learner,
    RunState,
    load_state,
    moving_average,
    other_data,
    save_state,
)
from smnet.training.step import (
    Meter,
    blank_loss,
    grouped,
    learning_mode,
    no_sync,
    not_finite,
    prepare,
    report_problems,
)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: the run's folder.
        finished: False if it was interrupted; ``smnet train --resume FOLDER`` goes on.
        best: the best validation result so far, by top-1 (None without a validation split).
        epoch: epochs completed.
        asked_to_end: whether Ctrl-C or SIGTERM came, be it after the last step.
        first: whether this is the first of the processes that trained.
    """

    folder: Path
    finished: bool
    best: dict[str, Any] | None
    epoch: int
    asked_to_end: bool
    first: bool = True


def train(recipe: Recipe, folder: str | os.PathLike[str], *, resume: bool = False) -> Outcome:
    """Train by a recipe and leave the best and the last checkpoint in ``folder``.

    Written there: ``recipe.yaml``, ``log.jsonl``, ``best.safetensors``, ``last.safetensors``,
    ``resume.pt`` and, where it is installed, TensorBoard scalars. Ctrl-C and SIGTERM end the run
    after the step in progress; what is saved then continues bit for bit on the same machine.

    Args:
        recipe: what to do; ``recipe.data`` must be set.
        folder: of this run; made if need be.
        resume: go on from ``resume.pt`` in ``folder``.

    Raises:
        UserError: anything wrong with the data, the recipe or the disk; a loss that is not finite.
    """
    folder = Path(folder)
    with (
        join(recipe.device) as processes,
        stop_on_signals() as stopping,
        ExitStack() as held,
    ):
        # What is learned from: clips, checked as a whole before the first step.
        clips = read_training_clips(recipe)
        plan, mirror_note = training_plan(recipe, clips)
        augmentation = Augmentation(recipe)
        seed_everything(recipe, processes)
        batches = TrainBatches(
            len(clips.splits["train"]), recipe.batch, recipe.seed, processes.rank, processes.world
        )
        loader = make_loader(
            ClipDataset(clips.splits["train"], plan, recipe.seed),
            batches,
            recipe.workers,
            pin_memory=processes.device.type == "cuda",
        )

        # What learns.
        model = build(recipe, clips)
        weights_note = "resumed"
        if not resume:
            weights_note = start_from(model, recipe.weights, frozen_norms=recipe.freeze_norm)
        model.to(processes.device)
        if recipe.channels_last:
            to_channels_last(model)
        autocast, scaler = mixed_precision(recipe, processes.device)
        learner = Learner(
            model=model,
            ema=moving_average(model, recipe.ema) if recipe.ema else None,
            optimizer=make_optimizer(model, recipe),
            scaler=scaler,
            mixing=torch.Generator().manual_seed(recipe.seed + processes.rank),
        )
        optimizer = learner.optimizer
        torch.manual_seed(recipe.seed + processes.rank)  # dropout differs between processes
        steps_per_epoch = -(-len(batches) // recipe.accumulate)
        clips_per_step = (
            min(recipe.batch * processes.world, len(clips.splits["train"]))
            * min(recipe.accumulate, len(batches))  # an epoch's end is a step's end
        )
        base_lr, lr_note = scaled_lr(recipe, clips_per_step)
        network: nn.Module = torch.compile(model) if recipe.compile else model  # type: ignore
        if processes.world > 1:
            network = DistributedDataParallel(network)
            held.enter_context(warnings.catch_warnings())
            # Of 1x1 kernels, whose strides differ in name alone.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")

        val = validation_clips(clips)
        val_plan = replace(validation_plan(model.spec), decoder=recipe.decoder)
        val_loader = (
            protocol_loader(val, val_plan, processes, recipe.batch, recipe.workers) if val else None
        )

        # Where it stands.
        data = learned_from(clips)
        state = RunState(data=data)
        check_outside(folder, clips)
        if resume:
            state = load_state(folder, recipe, learner, processes, state.data)
        if processes.first:
            held.enter_context(alone_in(folder, "resume", "last", "best", "recipe", "log"))
            if not resume:
                start_folder(folder, recipe)

        # The step that the last complete epoch ended with.
        logged = state.step - -(-state.batch // recipe.accumulate)
        log = RunLog(folder, recipe.epochs, steps_per_epoch, processes.first, logged)
        log.keep_until(logged)
        with log:
            log.say(f"data: {clips.why}")
            log.say(describe(recipe, clips, model, processes))
            val_note = "" if val else "validation: no clips, so the last epoch counts as the best"
            if state.data != data:  # with on_error=skip
                log.say(other_data(state.data, data))
                state.data = data
            for note in (weights_note, lr_note, mirror_note, augmentation.note, val_note):
                if note:
                    log.say(note)

            def stopped() -> Outcome:
                log.say(f"stopped; go on with: smnet train --resume {folder}")
                return Outcome(folder, False, state.best, state.epoch, asked_to_end=True)

            for epoch in range(state.epoch, recipe.epochs):
                learning_mode(network, recipe)
                batches.set(epoch, state.batch)
                meter = Meter(*state.meter)
                began = time.monotonic()

                for group, waited in grouped(loader, recipe.accumulate):
                    lr = base_lr * lr_factor(recipe, epoch + state.batch / len(batches))
                    set_lr(optimizer, lr)
                    optimizer.zero_grad(set_to_none=True)
                    for number, batch in enumerate(group):
                        report_problems(batch, recipe, meter)
                        last = number == len(group) - 1
                        weight = processes.share_of(len(batch.labels))
                        if len(batch.labels) == 0:
                            if processes.world > 1:
                                with no_sync(network, not last), autocast():
                                    loss = blank_loss(network, model.spec)
                                scaler.scale(loss).backward()
                                learning_mode(network, recipe)
                            continue
                        inputs, targets = prepare(
                            batch, recipe, model, processes.device, augmentation, learner.mixing
                        )
                        with no_sync(network, not last), autocast():
                            logits = network(inputs)
                            loss = F.cross_entropy(
                                logits, targets, label_smoothing=recipe.label_smoothing
                            )
                        scaler.scale(loss * weight / len(group)).backward()
                        if not torch.isfinite(loss):
                            raise UserError(
                                not_finite(state.step, lr, batch, clips, recipe, processes)
                            )
                        hits = (logits.argmax(1) == targets.argmax(1)).sum()
                        meter.add(loss.item(), int(hits), len(batch.labels))
                    # Not where none of the clips could be read: a scaler would miss gradients.
                    if any(p.grad is not None for p in model.parameters()):
                        scaler.unscale_(optimizer)
                        if recipe.clip_grad:
                            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
                        scaler.step(optimizer)
                        scaler.update()
                    if learner.ema is not None:
                        learner.ema.update_parameters(model)

                    state.batch += len(group)
                    state.step += 1
                    meter.waited += waited
                    meter.seconds += time.monotonic() - began
                    began = time.monotonic()
                    log.step(epoch, state.step, meter.note(processes.world))
                    if processes.any(stopping.is_set()):
                        break

                stop = processes.any(stopping.is_set())
                of_all = meter.of_all(processes)
                if not of_all.clips and not stop:
                    raise UserError(
                        f"epoch {epoch + 1}: none of the training clips could be read; `smnet data"
                        f" check {recipe.data}` tells what is wrong with each"
                    )
                # Safe before it is measured: that takes its time, and may end the run.
                state.meter = meter.values()
                save_state(folder, recipe, state, learner, processes)
                if stop:
                    return stopped()

                row = {"lr": get_lr(optimizer), **of_all.summary()}
                log.row("train", epoch + 1, state.step, row)
                try:
                    result = validate(
                        learner, val_loader, clips, recipe, processes, autocast, stopping
                    )
                except Stopped:
                    return stopped()
                except UserError as error:
                    again = f"epoch {epoch + 1} is learned and saved: mend it, and"
                    raise UserError(f"{error} ({again} smnet train --resume {folder})") from None
                state = replace(state, epoch=epoch + 1, batch=0, meter=())
                measured = summary_of(result, epoch + 1)
                improved = state.best is None or not val or measured["top1"] >= state.best["top1"]
                if improved:
                    state.best = measured
                if processes.first:
                    checkpoint = Checkpoint(
                        learner.averaged.spec,
                        learner.averaged.state_dict(),
                        recipe.model_dump(mode="json"),
                        {"val": measured, "data": state.data},
                    )
                    save_checkpoint(folder / "last.safetensors", checkpoint)
                    if improved:
                        save_checkpoint(folder / "best.safetensors", checkpoint)
                log.row("val", epoch + 1, state.step, measured)
                save_state(folder, recipe, state, learner, processes)
                log.say(epoch_line(recipe, epoch, of_all, measured, improved))
                if processes.any(stopping.is_set()) and epoch + 1 < recipe.epochs:
                    return stopped()
            asked_to_end = processes.any(stopping.is_set())
            return Outcome(folder, True, state.best, recipe.epochs, asked_to_end, processes.first)


# --- what the loop calls, in the order it calls it ------------------------------------------------


def validate(
    learner: Learner,
    loader: ClipLoader | None,
    clips: ClipSet,
    recipe: Recipe,
    processes: Processes,
    autocast: Callable[[], AbstractContextManager[Any]],
    stopping: threading.Event,
) -> Evaluation | None:
    """The validation split under the single-view protocol; None if there is none. ``Stopped``, with
    the batch in progress, when ``stopping`` is set."""
    if loader is None:
        return None

    def look(done: int) -> None:
        if stopping.is_set():
            raise Stopped

    model = learner.averaged.eval()
    # Each process has running statistics of its own clips; those of the first are kept.
    processes.share(model.buffers())
    scores, problems, damaged = score_clips(
        model, loader, processes, on_error=recipe.on_error, autocast=autocast, progress=look
    )
    val = validation_clips(clips)
    labels = np.array([clip.label for clip in val])
    paths = tuple(clip.path for clip in val)
    return Evaluation(
        scores,
        labels,
        clips.classes,
        paths,
        "1x1",
        in_order(problems),
        recipe.sampling,
        in_order(damaged),
    )


def summary_of(result: Evaluation | None, epoch: int) -> dict[str, Any]:
    """What a checkpoint remembers of its validation."""
    if result is None:
        return {"epoch": epoch, "top1": None, "clips": 0}
    unread = len(result.problems)
    return {
        "epoch": epoch,
        "top1": result.top(1).value,
        "top5": result.top(min(5, len(result.classes))).value,
        "mean_class": result.mean_class.value,
        "clips": len(result.labels),
        "unreadable": unread,
        "not_finite": int((~np.isfinite(result.scores)).any(1).sum()) - unread,
        "damaged": len(result.damaged),
        "views": result.views,
    }


def epoch_line(
    recipe: Recipe, epoch: int, meter: Meter, measured: dict[str, Any], best: bool
) -> str:
    """An epoch in a line."""
    line = f"epoch {epoch + 1}/{recipe.epochs}  {clock(meter.seconds)}  {meter.note()}"
    if meter.skipped:
        line += f"  {meter.skipped:.0f} unreadable clips skipped"
    if meter.damaged:
        line += f"  {meter.damaged:.0f} damaged clips"
    if measured["clips"]:
        line += f"  | val top-1 {measured['top1']:.1%}{' (best)' if best else ''}"
        for kind, what in (("unreadable", "unreadable"), ("not_finite", "without finite scores")):
            if measured[kind]:
                line += f", {measured[kind]} of {measured['clips']} clips {what}: counted as wrong"
    return line
