"""Parameter groups, the learning rate's rules, and the optimiser."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

import torch
from torch import nn

from smnet.models import VideoModel
from smnet.recipes.recipe import Recipe


def scaled_lr(recipe: Recipe, clips_per_step: int) -> tuple[float, str]:
    """The base rate for the run's real batch, and the rule in words.

    SGD scales linearly with the batch (Goyal et al., 2017), AdamW with its square root.
    """
    ratio = clips_per_step / recipe.lr_batch
    factor = ratio if recipe.optimizer == "sgd" else math.sqrt(ratio)
    lr = recipe.lr * factor
    shape = (
        f"{clips_per_step}/{recipe.lr_batch}"
        if recipe.optimizer == "sgd"
        else f"sqrt({clips_per_step}/{recipe.lr_batch})"
    )
    return lr, f"lr {lr:.3g} = {recipe.lr:g} x {shape} ({recipe.optimizer}, clips a step)"


def lr_factor(recipe: Recipe, epoch: float) -> float:
    """What the base rate is multiplied by at a (fractional) epoch.

    Linear warm-up from 1/10 over ``warmup`` epochs, then a cosine to zero, steps of 1/10 at the
    milestones, or constant.
    """
    if epoch < recipe.warmup:
        return 0.1 + 0.9 * epoch / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        return 0.1 ** bisect_right(recipe.milestones, epoch)
    done = (epoch - recipe.warmup) / (recipe.epochs - recipe.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def parameter_groups(model: VideoModel, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameter groups of the TSN family, by name and role.

    Convolution and linear weights decay; biases and normalisations do not, that is: what has one
    dimension or is named ``bias``. So a weight a channel decays if its shape is (C, 1, 1), and does
    not if it is (C,). The biases of convolutions learn twice as fast. The classifier learns
    ``head_lr`` times as fast (its bias twice that), the temporal parts ``temporal_lr`` times. Each
    group carries ``scale``, its multiple of the base rate.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        head = name.startswith("fc.")
        decays = parameter.dim() > 1 and name.rpartition(".")[2] != "bias"
        scale = recipe.head_lr if head else 1.0
        if not head and not model.is_trunk_key(name):
            scale = recipe.temporal_lr
        if name.endswith(".bias") and (head or _is_convolution(model, name)):
            scale *= 2.0
        groups.setdefault((scale, decays), []).append(parameter)
    return [
        {"params": p, "scale": scale, "weight_decay": recipe.weight_decay if decays else 0.0}
        for (scale, decays), p in groups.items()
    ]


def make_optimizer(model: VideoModel, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over :func:`parameter_groups`."""
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its multiple of the base rate ``lr``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
        group["base_lr"] = lr


def get_lr(optimizer: torch.optim.Optimizer) -> float:
    """The base rate that :func:`set_lr` has given last, also to an optimiser put back from disk."""
    rate: float = optimizer.param_groups[0]["base_lr"]
    return rate


def _is_convolution(model: nn.Module, name: str) -> bool:
    owner = model.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d)
