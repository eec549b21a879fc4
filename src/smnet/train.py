"""Training, top to bottom in one function: :func:`train`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from smnet.checkpoint import Checkpoint, save_checkpoint
from smnet.data.annotations import Clip, ClipSet, read_clips
from smnet.data.classes import mirror
from smnet.data.dataset import Batch, ClipDataset, TrainBatches, ViewPlan, make_loader
from smnet.data.sampling import sample
from smnet.data.transforms import mix_clips, normalise
from smnet.distributed import Processes, join
from smnet.errors import UserError
from smnet.evaluate import protocol_loader, score_clips, view_plan
from smnet.files import write_text
from smnet.models import VideoModel, create_model, to_channels_last
from smnet.optim import lr_factor, make_optimizer, scaled_lr, set_lr
from smnet.recipe import Recipe, dump_recipe
from smnet.results import Evaluation
from smnet.resume import Learner, RunState, load_state, moving_average, save_state
from smnet.runlog import RunLog, clock
from smnet.weights import start_from


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: the run's folder.
        finished: False if it was interrupted; ``smnet train --resume FOLDER`` goes on.
        best: the best validation result so far, by top-1 (None without a validation split).
        epoch: epochs completed.
    """

    folder: Path
    finished: bool
    best: dict[str, Any] | None
    epoch: int


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
    with join(recipe.device) as processes, stop_on_signals() as stopping:
        # What is learned from: clips, checked as a whole before the first step.
        clips = read_training_clips(recipe)
        plan, mirror_note = training_plan(recipe, clips)
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
        weights_note = "resumed" if resume else start_from(model, recipe.weights)
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
            min(recipe.batch * processes.world, len(clips.splits["train"])) * recipe.accumulate
        )
        base_lr, lr_note = scaled_lr(recipe, clips_per_step)
        network: nn.Module = torch.compile(model) if recipe.compile else model  # type: ignore
        if processes.world > 1:
            network = DistributedDataParallel(network)

        val = validation_clips(clips)
        val_plan = view_plan(model.spec)
        val_loader = (
            protocol_loader(val, val_plan, processes, recipe.batch, recipe.workers) if val else None
        )

        # Where it stands.
        state = RunState()
        if resume:
            state = load_state(folder, learner, processes)
        elif processes.first:
            start_folder(folder, recipe)

        log = RunLog(folder, recipe.epochs, steps_per_epoch, processes.first)
        log.keep_until(state.step)
        with log:
            log.say(f"data: {clips.why}")
            log.say(describe(recipe, clips, model, processes))
            for note in (weights_note, lr_note, mirror_note):
                log.say(note)

            for epoch in range(state.epoch, recipe.epochs):
                network.train()
                if recipe.freeze_norm:
                    freeze_norms(model)
                batches.set(epoch, state.batch)
                meter = Meter(*state.meter)
                began = time.monotonic()

                for group, waited in grouped(loader, recipe.accumulate):
                    lr = base_lr * lr_factor(recipe, epoch + state.batch / len(batches))
                    set_lr(optimizer, lr)
                    optimizer.zero_grad(set_to_none=True)
                    for number, batch in enumerate(group):
                        report_problems(batch, recipe, meter)
                        if len(batch.labels) == 0:
                            continue
                        inputs, targets = prepare(
                            batch, recipe, model, processes.device, learner.mixing
                        )
                        last = number == len(group) - 1
                        with no_sync(network, not last), autocast():
                            logits = network(inputs)
                            loss = F.cross_entropy(
                                logits, targets, label_smoothing=recipe.label_smoothing
                            )
                        scaler.scale(loss / len(group)).backward()
                        if not torch.isfinite(loss):
                            raise UserError(
                                not_finite(state.step, lr, batch, clips, recipe, processes)
                            )
                        hits = (logits.argmax(1) == targets.argmax(1)).sum()
                        meter.add(loss.item(), int(hits), len(batch.labels))
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
                    if processes.any(stopping.is_set()) and state.batch < len(batches):
                        state.meter = meter.values()
                        save_state(folder, recipe, state, learner, processes)
                        log.say(f"stopped; go on with: smnet train --resume {folder}")
                        return Outcome(folder, False, state.best, epoch)

                log.row("train", epoch + 1, state.step, {"lr": lr, **meter.summary()})
                result = validate(learner, val_loader, clips, recipe, processes, autocast)
                state = replace(state, epoch=epoch + 1, batch=0, meter=())
                measured = summary_of(result, epoch + 1)
                improved = state.best is None or measured["top1"] >= state.best["top1"]
                if improved:
                    state.best = measured
                if processes.first:
                    checkpoint = Checkpoint(
                        learner.averaged.spec,
                        learner.averaged.state_dict(),
                        recipe.model_dump(mode="json"),
                        {"val": measured},
                    )
                    save_checkpoint(folder / "last.safetensors", checkpoint)
                    if improved:
                        save_checkpoint(folder / "best.safetensors", checkpoint)
                save_state(folder, recipe, state, learner, processes)
                log.row("val", epoch + 1, state.step, measured)
                log.say(epoch_line(recipe, epoch, meter, measured, improved, processes.world))
                if processes.any(stopping.is_set()) and epoch + 1 < recipe.epochs:
                    log.say(f"stopped; go on with: smnet train --resume {folder}")
                    return Outcome(folder, False, state.best, epoch + 1)
            return Outcome(folder, True, state.best, recipe.epochs)


# --- what the loop calls, in the order it calls it ------------------------------------------------


class Meter:
    """Running means of an epoch: loss, accuracy, rate, and the share of time spent waiting."""

    def __init__(
        self,
        loss: float = 0.0,
        hits: float = 0,
        clips: float = 0,
        skipped: float = 0,
        seconds: float = 0.0,
        waited: float = 0.0,
    ) -> None:
        self.loss, self.hits, self.clips, self.skipped = loss, hits, clips, skipped
        self.seconds, self.waited = seconds, waited

    def add(self, loss: float, hits: int, clips: int) -> None:
        self.loss += loss * clips
        self.hits += hits
        self.clips += clips

    def values(self) -> tuple[float, ...]:
        return (self.loss, self.hits, self.clips, self.skipped, self.seconds, self.waited)

    def summary(self, world: int = 1) -> dict[str, float]:
        clips, seconds = max(self.clips, 1), max(self.seconds, 1e-9)
        return {
            "loss": self.loss / clips,
            "top1": self.hits / clips,
            "clips_per_second": self.clips * world / seconds,
            "waiting": min(self.waited / seconds, 1.0),
            "skipped": self.skipped,
            "seconds": self.seconds,
        }

    def note(self, world: int) -> str:
        s = self.summary(world)
        return (
            f"loss {s['loss']:.3f}  top-1 {s['top1']:.1%}"
            f"  {s['clips_per_second']:.1f} clips/s  waiting for data {s['waiting']:.0%}"
        )


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C interrupts at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def stop(number: int, frame: Any) -> None:
        if stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_training_clips(recipe: Recipe) -> ClipSet:
    """The data set of a recipe, refused as a whole if anything is wrong with it."""
    if recipe.data is None:
        raise UserError("no data: give --data DIR (a folder, a csv or a list), or set data=")
    clips = read_clips(
        recipe.data, recipe.format, val_fraction=recipe.val_fraction, seed=recipe.seed
    )
    if not clips.splits.get("train"):
        raise UserError(f"{recipe.data}: no training clips (format {clips.format})")
    return clips


def training_plan(recipe: Recipe, clips: ClipSet) -> tuple[ViewPlan, str]:
    """The random view of training, and a line on mirroring."""
    from smnet.models.registry import family_of

    labels, note = None, "mirror: off"
    if recipe.flip == "auto":
        found = mirror(clips.classes)
        labels = found.order
        if labels is None:
            note = f"mirror: off, {found.reason}"
        elif found.pairs:
            pairs = "; ".join(f"{a} <-> {b}" for a, b in found.pairs[:3])
            more = f" and {len(found.pairs) - 3} more" if len(found.pairs) > 3 else ""
            note = f"mirror: on, labels swap: {pairs}{more}"
        else:
            note = "mirror: on, no class name tells left from right"
    try:
        frames_per_segment = family_of(recipe.model).spec.get("frames_per_segment", 1)
    except ValueError as error:
        raise UserError(str(error)) from None
    for mode in ("train", "test"):  # a strategy that does not go with the model is said here
        sample(
            recipe.segments,
            recipe.segments,
            mode=mode,
            strategy=recipe.sampling,
            frames_per_segment=frames_per_segment,
        )
    plan = ViewPlan(
        sampling=recipe.sampling,
        segments=recipe.segments,
        frames_per_segment=frames_per_segment,
        size=recipe.size,
        short_side=recipe.resize_to,
        train=True,
        crop=recipe.crop,
        mirror=labels,
    )
    return plan, note


def seed_everything(recipe: Recipe, processes: Processes) -> None:
    """Seed torch, and choose between the fastest kernels and reproducible ones."""
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.benchmark = not recipe.deterministic
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    if processes.device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def build(recipe: Recipe, clips: ClipSet) -> VideoModel:
    """The model of a recipe for the classes of a data set."""
    options = dict(recipe.options)
    options.setdefault("dropout", recipe.dropout)
    try:
        model = create_model(recipe.model, len(clips.classes), recipe.segments, **options)
    except ValueError as error:
        raise UserError(str(error)) from None
    model.spec = replace(
        model.spec,
        sampling=recipe.sampling,
        input_size=recipe.size,
        short_side=recipe.resize_to,
        class_names=clips.classes,
    )
    return model


def mixed_precision(
    recipe: Recipe, device: torch.device
) -> tuple[Callable[[], AbstractContextManager[Any]], torch.amp.GradScaler]:
    """The context to compute in, and the loss scaler (which does nothing but under fp16).

    ``amp=auto`` is bf16 on a GPU that has it and full precision elsewhere: CPUs without bf16
    arithmetic are slower with it.
    """
    kind = recipe.amp
    if kind == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        kind = "bf16" if has_bf16 else "off"
    if kind == "fp16" and device.type != "cuda":
        raise UserError("amp=fp16 needs a GPU; use amp=bf16 or amp=off on a CPU")
    scaler = torch.amp.GradScaler(device.type, enabled=kind == "fp16")
    if kind == "off":
        return nullcontext, scaler
    dtype = torch.bfloat16 if kind == "bf16" else torch.float16
    return lambda: torch.autocast(device.type, dtype), scaler


def start_folder(folder: Path, recipe: Recipe) -> None:
    """Make a run's folder; one that holds a run already is refused."""
    if (folder / "resume.pt").exists():
        raise UserError(
            f"{folder}: holds a run already; go on with: smnet train --resume {folder},"
            " or choose another --out"
        )
    write_text(folder / "recipe.yaml", dump_recipe(recipe))


def describe(recipe: Recipe, clips: ClipSet, model: VideoModel, processes: Processes) -> str:
    """What is trained on what, in a line."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    splits = ", ".join(f"{name} {len(rows)}" for name, rows in clips.splits.items())
    return (
        f"model: {recipe.model}, {parameters:.2f} M parameters, {recipe.segments} segments of"
        f" {recipe.size} x {recipe.size}; {len(clips.classes)} classes; clips: {splits};"
        f" {processes.world} x {processes.device.type}"
    )


def freeze_norms(model: nn.Module) -> None:
    """Keep the running statistics and use them (all batch normalisations in evaluation mode)."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def grouped(loader: Iterable[Batch], size: int) -> Iterator[tuple[list[Batch], float]]:
    """The batches of each optimiser step, and the seconds waited for them."""
    source = iter(loader)
    while True:
        began = time.monotonic()
        group = [batch for _, batch in zip(range(size), source, strict=False)]
        if not group:
            return
        yield group, time.monotonic() - began


def report_problems(batch: Batch, recipe: Recipe, meter: Meter) -> None:
    """A clip that cannot be read ends the run, or is counted where the recipe says skip."""
    if batch.problems and recipe.on_error == "raise":
        raise UserError(f"{batch.problems[0][1]} (on_error=skip trains without such clips)")
    meter.skipped += len(batch.problems)


def prepare(
    batch: Batch,
    recipe: Recipe,
    model: VideoModel,
    device: torch.device,
    mixing: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch on the device: clips (B, T*L, 3, h, w) float and targets (B, K) probabilities."""
    views = batch.views.to(device, non_blocking=True)[:, 0]
    labels = batch.labels.to(device, non_blocking=True)
    clips = normalise(views, model.spec.mean, model.spec.std)
    targets = F.one_hot(labels, model.spec.num_classes).float()
    return mix_clips(clips, targets, recipe.mixup, recipe.cutmix, mixing)


def no_sync(network: nn.Module, hold: bool) -> AbstractContextManager[Any]:
    """Hold back the exchange of gradients while they accumulate."""
    if hold and isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


def not_finite(
    step: int, lr: float, batch: Batch, clips: ClipSet, recipe: Recipe, processes: Processes
) -> str:
    """The message for a loss that is NaN or infinite."""
    names = ", ".join(clips.splits["train"][i].path for i in batch.indices.tolist())
    return (
        f"the loss is not finite at step {step + 1} (lr {lr:.3g}, process {processes.rank});"
        f" the batch was: {names}. Lower lr, lengthen warmup, or set clip_grad"
        f" (now {recipe.clip_grad:g})"
    )


def validation_clips(clips: ClipSet) -> list[Clip]:
    """The validation clips that have a label."""
    return [clip for clip in clips.splits.get("val", []) if clip.label >= 0]


def validate(
    learner: Learner,
    loader: DataLoader[Batch] | None,
    clips: ClipSet,
    recipe: Recipe,
    processes: Processes,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Evaluation | None:
    """The validation split under the single-view protocol; None if there is none."""
    if loader is None:
        return None
    model = learner.averaged.eval()
    scores, problems = score_clips(
        model, loader, processes, on_error=recipe.on_error, autocast=autocast
    )
    val = validation_clips(clips)
    labels = np.array([clip.label for clip in val])
    paths = tuple(clip.path for clip in val)
    return Evaluation(scores, labels, clips.classes, paths, "1x1", tuple(problems))


def summary_of(result: Evaluation | None, epoch: int) -> dict[str, Any]:
    """What a checkpoint remembers of its validation."""
    if result is None:
        return {"epoch": epoch, "top1": 0.0, "clips": 0}
    return {
        "epoch": epoch,
        "top1": result.top(1).value,
        "top5": result.top(min(5, len(result.classes))).value,
        "mean_class": result.mean_class.value,
        "clips": len(result.labels),
        "unreadable": len(result.problems),
        "views": result.views,
    }


def epoch_line(
    recipe: Recipe, epoch: int, meter: Meter, measured: dict[str, Any], best: bool, world: int
) -> str:
    """An epoch in a line."""
    line = f"epoch {epoch + 1}/{recipe.epochs}  {clock(meter.seconds)}  {meter.note(world)}"
    if meter.skipped:
        line += f"  {meter.skipped:.0f} unreadable clips skipped"
    if measured["clips"]:
        line += f"  | val top-1 {measured['top1']:.1%}{' (best)' if best else ''}"
    return line
