"""The parts of one training step: batches in groups, inputs on the device, sums of an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
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
from smnet.models import ModelSpec, VideoModel
from smnet.recipes.recipe import Recipe
from smnet.training.augment import Augmentation


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
        damaged: float = 0,
    ) -> None:
        self.loss, self.hits, self.clips, self.skipped = loss, hits, clips, skipped
        self.seconds, self.waited, self.damaged = seconds, waited, damaged

    def add(self, loss: float, hits: int, clips: int) -> None:
        self.loss += loss * clips
        self.hits += hits
        self.clips += clips

    def values(self) -> tuple[float, ...]:
        return (
            self.loss,
            self.hits,
            self.clips,
            self.skipped,
            self.seconds,
            self.waited,
            self.damaged,
        )

    def of_all(self, processes: Processes) -> Meter:
        """The sums of all processes; the seconds are their means."""
        total = Meter(*map(sum, zip(*processes.gather(self.values()), strict=True)))
        total.seconds /= processes.world
        total.waited /= processes.world
        return total

    def summary(self, world: int = 1) -> dict[str, float]:
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
        s = self.summary(world)
        return (
            f"loss {s['loss']:.3f}  top-1 {s['top1']:.1%}"
            f"  {s['clips_per_second']:.1f} clips/s  waiting for data {s['waiting']:.0%}"
        )


def learning_mode(network: nn.Module, recipe: Recipe) -> None:
    """Dropout on, and batch normalisations learning unless the recipe freezes them."""
    network.train()
    if recipe.freeze_norm:
        freeze_norms(network)


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
    """A clip that cannot be read ends the run, or is counted where the recipe says skip; damaged
    ones are counted."""
    if batch.problems and recipe.on_error == "raise":
        raise UserError(f"{batch.problems[0][1]} (on_error=skip trains without such clips)")
    meter.skipped += len(batch.problems)
    meter.damaged += len(batch.damaged)


def prepare(
    batch: Batch,
    recipe: Recipe,
    model: VideoModel,
    device: torch.device,
    augmentation: Augmentation,
    mixing: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch on the device: clips (B, T*L, 3, h, w) float and targets (B, K) probabilities."""
    views = batch.views.to(device, non_blocking=True)[:, 0]
    labels = batch.labels.to(device, non_blocking=True)
    clips = augmentation(views, model.spec.mean, model.spec.std, mixing)
    targets = F.one_hot(labels, model.spec.num_classes).float()
    return mix_clips(clips, targets, recipe.mixup, recipe.cutmix, mixing)


def blank_loss(network: nn.Module, spec: ModelSpec) -> torch.Tensor:
    """A loss of zero, all of whose gradients are zero: the part of a process that could read no
    clip of its batch, in an exchange that the others wait in. A blank clip goes through; the
    normalisations learn nothing from it (they are left frozen)."""
    freeze_norms(network)
    side = spec.input_size
    device = next(network.parameters()).device
    clip = torch.zeros(1, spec.frames_per_clip, 3, side, side, device=device)
    loss: torch.Tensor = 0 * network(clip).float().sum()
    return loss


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
