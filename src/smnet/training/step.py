"""The parts of one optimiser step: inputs, forward pass, weight update, running sums."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from smnet.data.annotations.read import ClipSet
from smnet.data.loading.dataset import Batch
from smnet.data.loading.transforms import mix_clips
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.models import ModelSpec
from smnet.recipes.recipe import Recipe
from smnet.training.augment import Augmentation
from smnet.training.freeze import freeze_norms, train_mode
from smnet.training.state import Learner


@dataclass
class Meter:
    """Running sums of an epoch; ``hits`` are correct clips, ``seconds`` include ``waited``."""

    loss: float = 0.0
    hits: float = 0
    clips: float = 0
    skipped: float = 0
    seconds: float = 0.0
    waited: float = 0.0
    damaged: float = 0

    def add(self, loss: float, hits: int, clips: int) -> None:
        self.loss += loss * clips
        self.hits += hits
        self.clips += clips

    def of_all(self, processes: Processes) -> Meter:
        """The sums over all processes; seconds and waiting time are their means."""
        total = Meter(*map(sum, zip(*processes.gather(astuple(self)), strict=True)))
        total.seconds /= processes.world
        total.waited /= processes.world
        return total

    def summary(self, world: int = 1) -> dict[str, float]:
        """Means for a row of ``log.jsonl``; ``clips_per_second`` is that of ``world`` processes."""
        clips, seconds = max(self.clips, 1), max(self.seconds, 1e-9)
        return {
            "loss": self.loss / clips,
            "top1": self.hits / clips,
            "clips_per_second": self.clips * world / seconds,
            "waiting": min(self.waited / seconds, 1.0),
            "skipped": self.skipped,
            "damaged": self.damaged,
            "seconds": self.seconds,
        }

    def note(self, world: int = 1) -> str:
        """Loss, accuracy and speed for the progress bar."""
        s = self.summary(world)
        return (
            f"loss {s['loss']:.3f}  top-1 {s['top1']:.1%}"
            f"  {s['clips_per_second']:.1f} clips/s  waiting for data {s['waiting']:.0%}"
        )


def grouped(loader: Iterable[Batch], size: int) -> Iterator[tuple[list[Batch], float]]:
    """Yield the batches of each optimiser step, and the seconds spent waiting for them."""
    source = iter(loader)
    while True:
        began = time.monotonic()
        group = [batch for _, batch in zip(range(size), source, strict=False)]
        if not group:
            return
        yield group, time.monotonic() - began


def count_problems(batch: Batch, recipe: Recipe, meter: Meter) -> None:
    """Count the unreadable and damaged clips of a batch.

    Raises:
        UserError: a clip is unreadable and the recipe does not say ``on_error=skip``.
    """
    if batch.problems and recipe.on_error == "raise":
        raise UserError(f"{batch.problems[0][1]} (on_error=skip trains without such clips)")
    meter.skipped += len(batch.problems)
    meter.damaged += len(batch.damaged)


def prepare(
    batch: Batch,
    recipe: Recipe,
    spec: ModelSpec,
    device: torch.device,
    augmentation: Augmentation,
    mixing: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move a batch to the device, augment and normalise it, apply mixup or CutMix, and warm it up.

    Returns:
        Clips (B, T*L, 3, h, w) float32, longer with ``warm``, and target probabilities (B, K).
    """
    views = batch.views.to(device, non_blocking=True)[:, 0]
    labels = batch.labels.to(device, non_blocking=True)
    clips = augmentation(views, spec.mean, spec.std, mixing)
    targets = F.one_hot(labels, spec.num_classes).float()
    if spec.several:
        for row, others in zip(targets, batch.sets, strict=True):
            row[list(others)] = 1
    clips, targets = mix_clips(clips, targets, recipe.mixup, recipe.cutmix, mixing)
    return warmed(clips, recipe.warm, mixing, spec.frames_per_segment), targets


def warmed(
    clips: torch.Tensor, warm: int, mixing: torch.Generator, length: int = 1
) -> torch.Tensor:
    """Clips (B, T*L, ...) with the last segments of another clip of the batch before each.

    Their number is drawn from 0 to ``warm``, at most T, so that the state of a causal model is
    cold in some steps and full of something else in others, as in a stream. ``length`` is L.
    """
    if not warm:
        return clips
    most = min(warm, clips.shape[1] // length)
    count = int(torch.randint(most + 1, (1,), generator=mixing, device=mixing.device)) * length
    before = clips.roll(1, 0)[:, clips.shape[1] - count :]
    return torch.cat([before, clips], dim=1)


def forward(network: nn.Module, inputs: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """The logits (B, K) of a batch of clips.

    Raises:
        UserError: a batch normalisation sees a single value per channel and has no variance.
    """
    try:
        logits: torch.Tensor = network(inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"a batch normalisation gets one value per channel from batch={len(inputs)},"
            f" segments={recipe.segments} and size={recipe.size}; increase one of them, or set"
            " freeze_norm=true"
        ) from None
    return logits


def blank_loss(network: nn.Module, spec: ModelSpec, recipe: Recipe) -> torch.Tensor:
    """A loss of 0 with zero gradients, for a process that could read no clip of its batch.

    The other processes wait for its gradients. A blank clip passes through the network with frozen
    normalisations, so that running statistics do not change.
    """
    freeze_norms(network)
    device = next(network.parameters()).device
    side = spec.input_size
    clip = torch.zeros(1, spec.frames_per_clip, 3, side, side, device=device)
    loss: torch.Tensor = 0 * network(clip).float().sum()
    train_mode(network, recipe)
    return loss


def update_weights(learner: Learner, recipe: Recipe) -> None:
    """Clip the gradients and take the optimiser step; then update the moving average."""
    # There are no gradients if no clip of the step could be read; a loss scaler rejects that.
    if any(p.grad is not None for p in learner.model.parameters()):
        learner.scaler.unscale_(learner.optimizer)
        if recipe.clip_grad:
            nn.utils.clip_grad_norm_(learner.model.parameters(), recipe.clip_grad)
        learner.scaler.step(learner.optimizer)
        learner.scaler.update()
    if learner.ema is not None:
        learner.ema.update_parameters(learner.model)


def no_sync(network: nn.Module, hold: bool) -> AbstractContextManager[Any]:
    """Skip the exchange of gradients between processes while they accumulate."""
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
        f" the batch was: {names}. {how_to_stabilise(recipe)}"
    )


def how_to_stabilise(recipe: Recipe) -> str:
    """Advice after a loss or weights that are not finite."""
    return f"Lower lr, lengthen warmup, or set clip_grad (now {recipe.clip_grad:g})"


def all_finite(model: nn.Module) -> bool:
    """Whether all weights and running statistics are finite."""
    return all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


def check_epoch(
    epoch: int, totals: Meter, stopped: bool, model: nn.Module, recipe: Recipe, processes: Processes
) -> None:
    """Refuse an epoch (from 0) without a readable clip, or with weights that are not finite.

    Raises:
        UserError: with what to do.
    """
    if not totals.clips and not stopped:
        raise UserError(
            f"epoch {epoch + 1}: no training clip could be read;"
            f" `smnet data check {recipe.data}` reports the reason for each"
        )
    if not all(processes.gather(all_finite(model))):
        raise UserError(
            f"epoch {epoch + 1}: the weights are not finite after its last step."
            f" {how_to_stabilise(recipe)}"
        )
