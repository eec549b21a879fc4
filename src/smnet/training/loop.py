"""Training from a recipe, top to bottom in one function: :func:`train`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.data.loading.dataset import ClipDataset
from smnet.data.loading.loader import make_loader
from smnet.distributed import join
from smnet.errors import UserError
from smnet.evaluation.results import Evaluation
from smnet.files import alone_in
from smnet.models import accelerate, to_channels_last
from smnet.recipes.recipe import Recipe
from smnet.training.augment import Augmentation
from smnet.training.budget import check_retrain, fit_epochs, refit_epochs, trial_step
from smnet.training.calibration import calibrate_best
from smnet.training.checkpointing import checkpoint_gradients
from smnet.training.copies import copies_note, keep_copies_together
from smnet.training.elastic import batch_per_process, restarted, saved_launch
from smnet.training.freeze import freeze_parameters, needs_temporal_weights, train_mode
from smnet.training.log import RunLog, epoch_line
from smnet.training.loss import Loss
from smnet.training.optim import get_lr, lr_factor, make_optimizer, scaled_lr, set_lr
from smnet.training.setup import (
    StopRequested,
    build_model,
    check_folder_is_not_data,
    class_counts,
    compiled_and_distributed,
    data_fingerprint,
    describe,
    keep_decoded,
    mixed_precision,
    read_training_clips,
    seed_everything,
    start_folder,
    stop_on_signals,
    store_recipe,
    stored_recipe,
    train_batches,
    training_plan,
)
from smnet.training.start_weights import start_from
from smnet.training.state import (
    Learner,
    RunState,
    data_difference,
    load_state,
    moving_average,
    save_state,
)
from smnet.training.step import (
    Meter,
    blank_loss,
    check_epoch,
    count_problems,
    forward,
    grouped,
    no_sync,
    not_finite,
    prepare,
    update_weights,
)
from smnet.training.trackers import check_trackers, open_trackers
from smnet.training.validation import (
    compare_with_best,
    out_of_patience,
    validate,
    validation_loader,
    validation_metrics,
)


@dataclass(frozen=True)
class Outcome:
    """How a call of :func:`train` ended.

    Attributes:
        folder: the folder of the run.
        finished: False after an interruption; ``smnet train --resume FOLDER`` continues the run.
        best: metrics of the best validation so far, by top-1 (None before the first epoch ends).
        epoch: number of completed epochs.
        stop_requested: whether Ctrl-C or SIGTERM arrived, even if only after the last step.
        first: whether this process is the one of rank 0.
        held_out: the validation clips under the best checkpoint, calibrated; None without any.
        train_clips: number of training clips of each class.
    """

    folder: Path
    finished: bool
    best: dict[str, Any] | None
    epoch: int
    stop_requested: bool
    first: bool = True
    held_out: Evaluation | None = None
    train_clips: Mapping[str, int] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint; the last one if no epoch had finite validation scores."""
        name = "last" if self.best is None else "best"
        return self.folder / f"{name}.safetensors"


def train(recipe: Recipe, folder: str | os.PathLike[str], *, resume: bool = False) -> Outcome:
    """Train a model from a recipe and write its checkpoints to ``folder``.

    The folder receives ``recipe.yaml``, ``log.jsonl``, ``best.safetensors``, ``last.safetensors``,
    ``resume.pt`` and the scalars of TensorBoard. Ctrl-C and SIGTERM stop the run
    after the step in progress. A resumed run is bit-exact on the same machine.

    Args:
        recipe: model, data, budget and protocol; ``recipe.data`` must be set.
        folder: folder of the run, created if it does not exist.
        resume: continue from ``resume.pt`` in ``folder``. A process that torchrun starts again
            does so by itself.

    Raises:
        UserError: invalid data or recipe, a disk that cannot be written, or a non-finite loss.
    """
    folder = Path(folder)
    with join(recipe.device) as processes, stop_on_signals() as stopping, ExitStack() as stack:
        # Data. The whole list is checked before the first step.
        started = time.monotonic()
        check_trackers(recipe.track)
        resume = resume or restarted(folder)
        if resume and recipe.copies is None and (folder / "recipe.yaml").exists():
            recipe = recipe.model_copy(update={"copies": stored_recipe(folder).copies})
        clips = read_training_clips(recipe)
        check_folder_is_not_data(folder, clips)
        copies_line = ""
        if not resume:
            recipe, clips, copies_line = keep_copies_together(recipe, clips)
            recipe = check_retrain(recipe, clips.drawn, processes)
        plan, mirror_note = training_plan(recipe, clips)
        augmentation = Augmentation(recipe)
        seed_everything(recipe, processes)
        dataset = ClipDataset(clips.splits["train"], plan, recipe.seed)
        labels = [clip.label for clip in clips.splits["train"]]
        then = saved_launch(folder)[0] if resume else processes.world
        clips_each, world_note = batch_per_process(recipe, then, processes.world)
        batches = train_batches(recipe, labels, processes, clips_each)
        pinned = processes.device.type == "cuda"
        loader = make_loader(dataset, batches, recipe.workers, pin_memory=pinned)

        # Model, start weights and optimiser.
        model = accelerate(build_model(recipe, clips), "training")
        weights_note = "weights: resumed"
        if not resume:
            fixed = needs_temporal_weights(model, recipe)
            weights_note = start_from(model, recipe.weights, needs_temporal=fixed)
        freeze_note = freeze_parameters(model, recipe.freeze)
        val_loader = validation_loader(recipe, clips, model.spec, processes)
        model.to(processes.device)
        if recipe.channels_last:
            to_channels_last(model)
        autocast, scaler = mixed_precision(recipe, processes.device)
        loss_of = Loss(recipe, labels, len(clips.classes), processes.device, model.spec.several)
        cache_note = budget_note = ""
        if recipe.cache == "auto":
            cache_note = keep_decoded(recipe, [loader, val_loader], processes)
            if processes.first and not copies_line:
                copies_line = copies_note(loader, val_loader)
        if recipe.minutes and not resume:
            step = trial_step(recipe, loss_of, augmentation, autocast, processes.device)
            val_clips = len(val_loader.dataset) if val_loader else 0
            recipe, budget_note = fit_epochs(
                recipe, model, loader, val_clips, step, processes, started
            )
        learner = Learner(
            model=model,
            ema=moving_average(model, recipe.ema) if recipe.ema else None,
            optimizer=make_optimizer(model, recipe),
            scaler=scaler,
            mixing=torch.Generator().manual_seed(recipe.seed + processes.rank),
        )
        if recipe.gradient_checkpointing:
            checkpoint_gradients(model)
        network = compiled_and_distributed(model, recipe, processes, stack)
        torch.manual_seed(recipe.seed + processes.rank)  # dropout differs between processes
        steps_per_epoch = -(-len(batches) // recipe.accumulate)
        clips_per_step = (
            min(clips_each * processes.world, len(dataset))
            * min(recipe.accumulate, len(batches))  # the last step of an epoch may be smaller
        )
        base_lr, lr_note = scaled_lr(recipe, clips_per_step)

        # Position in the run.
        data = data_fingerprint(clips)
        state = RunState(data=data)
        if resume:
            state = load_state(folder, recipe, learner, processes, data)
        if processes.first:
            stack.enter_context(alone_in(folder))
            if not resume:
                start_folder(folder, recipe)

        # The log keeps its rows up to the end of the last complete epoch.
        logged = state.step - -(-state.batch // recipe.accumulate)
        log = RunLog(
            folder,
            recipe.epochs,
            steps_per_epoch,
            processes.first,
            lambda: open_trackers(
                recipe.track, folder, recipe.model_dump(mode="json"), state.run_id, logged + 1
            ),
        )
        log.keep_until(logged)
        stack.enter_context(log)
        log.say(f"data: {clips.why}")
        log.say(describe(recipe, clips, model, processes))
        if state.data != data:  # allowed with on_error=skip
            log.say(data_difference(state.data, data))
            state.data = data
        no_val_note = "" if val_loader else "validation: no clips, so best is the last epoch"
        notes = [world_note, weights_note, freeze_note, lr_note, loss_of.note, mirror_note]
        notes += [augmentation.note, no_val_note, cache_note, copies_line, budget_note]
        for note in filter(None, notes):
            log.say(note)

        def stopped() -> Outcome:
            log.say(f"stopped; resume with: smnet train --resume {folder}")
            return Outcome(folder, False, state.best, state.epoch, stop_requested=True)

        held_out: Evaluation | None = None  # the validation of the best epoch
        while (epoch := state.epoch) < recipe.epochs:
            if out_of_patience(state, recipe):
                log.say(f"stopped early: no better validation top-1 in {recipe.patience} epochs")
                break
            train_mode(network, recipe)
            batches.set(epoch, state.batch)
            meter = Meter(*state.meter)
            began = saved = time.monotonic()

            for group, waited in grouped(loader, recipe.accumulate):
                lr = base_lr * lr_factor(recipe, epoch + state.batch / len(batches))
                set_lr(learner.optimizer, lr)
                learner.optimizer.zero_grad(set_to_none=True)
                for number, batch in enumerate(group, 1):
                    count_problems(batch, recipe, meter)
                    weight = processes.share_of(len(batch.labels))
                    hold = no_sync(network, number < len(group))
                    if not len(batch.labels):
                        if processes.world > 1:  # the other processes wait for its gradients
                            with hold, autocast():
                                loss = blank_loss(network, model.spec, recipe)
                            scaler.scale(loss).backward()
                        continue
                    inputs, targets = prepare(
                        batch, recipe, model.spec, processes.device, augmentation, learner.mixing
                    )
                    with hold, autocast():
                        logits = forward(network, inputs, recipe)
                        loss = loss_of(logits, targets)
                    scaler.scale(loss * weight / len(group)).backward()
                    if not torch.isfinite(loss):
                        raise UserError(not_finite(state.step, lr, batch, clips, recipe, processes))
                    hits = targets.gather(1, logits.argmax(1, keepdim=True)).ge(0.5).sum()
                    meter.add(loss.item(), int(hits), len(batch.labels))
                update_weights(learner, recipe)

                state.batch += len(group)
                state.step += 1
                meter.waited += waited
                meter.seconds += time.monotonic() - began
                began = time.monotonic()
                log.step(epoch, state.step, meter.note(processes.world))
                # One exchange for both questions, and one answer for all processes.
                due = 0 < 60 * recipe.save_minutes < began - saved
                asked = processes.largest(2 if stopping.is_set() else int(due))
                if asked == 2:
                    break
                if asked:
                    saved, state.meter = began, astuple(meter)
                    save_state(folder, recipe, state, learner, processes)

            stop = processes.any(stopping.is_set())
            totals = meter.of_all(processes)
            check_epoch(epoch, totals, stop, model, recipe, processes)
            # Saved before validation, which takes time and can fail on an unreadable clip.
            state.meter = astuple(meter)
            save_state(folder, recipe, state, learner, processes)
            if stop:
                return stopped()

            log.row(
                "train",
                epoch + 1,
                state.step,
                {"lr": get_lr(learner.optimizer), **totals.summary()},
            )
            try:
                result = validate(
                    learner.averaged, val_loader, clips, recipe, processes, autocast, stopping
                )
            except StopRequested:
                return stopped()
            except UserError as error:
                raise UserError(
                    f"{error} (epoch {epoch + 1} is trained and saved; repair the data and run:"
                    f" smnet train --resume {folder})"
                ) from None
            state = replace(state, epoch=epoch + 1, batch=0, meter=())
            measured = validation_metrics(result, epoch + 1)
            verdict = compare_with_best(measured, state.best)
            if verdict == "best":
                state.improved = epoch + 1
            if verdict:
                state.best, held_out = measured, result
            if recipe.minutes and state.epoch == 1:  # a whole epoch measures better than few steps
                seconds = totals.seconds + time.monotonic() - began
                recipe, budget_note = refit_epochs(recipe, started, seconds, processes)
                log.epochs = recipe.epochs
            if processes.first:
                store_recipe(folder, recipe)
                checkpoint = Checkpoint(
                    learner.averaged.spec,
                    learner.averaged.state_dict(),
                    recipe.model_dump(mode="json"),
                    {"val": measured, "data": state.data},
                )
                save_checkpoint(folder / "last.safetensors", checkpoint)
                if verdict:
                    save_checkpoint(folder / "best.safetensors", checkpoint)
            log.row("val", epoch + 1, state.step, measured)
            save_state(folder, recipe, state, learner, processes)
            log.say(epoch_line(recipe, epoch, totals, measured, verdict))
            if recipe.minutes and state.epoch == 1:
                log.say(budget_note)
            if processes.any(stopping.is_set()) and epoch + 1 < recipe.epochs:
                return stopped()
        if state.best is not None and val_loader is not None:
            again = partial(
                validate,
                loader=val_loader,
                clips=clips,
                recipe=recipe,
                processes=processes,
                autocast=autocast,
                stopping=threading.Event(),
            )
            held_out = calibrate_best(folder, held_out, again, processes, log.say)
        if state.best is None:
            log.say("no epoch had finite validation scores, so best.safetensors was not written")
        ended = (state.best, state.epoch, processes.any(stopping.is_set()), processes.first)
        return Outcome(folder, True, *ended, held_out, class_counts(clips))
