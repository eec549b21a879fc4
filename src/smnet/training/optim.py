"""Parameter groups, the rules of the learning rate, and the optimiser."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

import torch
from torch import nn

from smnet.models import VideoModel
from smnet.models.base import STAGES
from smnet.recipes.recipe import Recipe


def scaled_lr(recipe: Recipe, clips_per_step: int) -> tuple[float, str]:
    """The base rate for ``clips_per_step``, and the rule as text.

    The rate of SGD is proportional to the batch (Goyal et al., 2017), that of AdamW to its square
    root.
    """
    ratio = clips_per_step / recipe.lr_batch
    factor = ratio if recipe.optimizer == "sgd" else math.sqrt(ratio)
    lr = recipe.lr * factor
    shape = (
        f"{clips_per_step}/{recipe.lr_batch}"
        if recipe.optimizer == "sgd"
        else f"sqrt({clips_per_step}/{recipe.lr_batch})"
    )
    return lr, f"lr {lr:.3g} = {recipe.lr:g} x {shape} ({recipe.optimizer}, clips per step)"


def lr_factor(recipe: Recipe, epoch: float) -> float:
    """The factor of the base rate at a fractional epoch.

    The rate rises linearly from 1/10 during ``warmup`` epochs. Then it follows a cosine to zero,
    falls to a tenth at each milestone, or stays constant.
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
    """The parameter groups that the TSN family trains with.

    Weight decay applies to parameters of two or more dimensions that are not named ``bias``, so it
    applies to a channel-wise weight of shape (C, 1, 1) and not to one of shape (C,). The learning
    rate is ``head_lr`` times the base rate for the classifier, ``temporal_lr`` times for temporal
    modules, and twice that of the weight for biases of convolutions and of the classifier. It falls
    by ``layer_decay`` from each stage to the one below it. Each group stores its factor as
    ``scale``.
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
        scale *= recipe.layer_decay ** (len(STAGES) - 1 - STAGES.index(model.stage_of(name)))
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
    """Set the rate of every group to ``lr`` times its ``scale``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
        group["base_lr"] = lr


def get_lr(optimizer: torch.optim.Optimizer) -> float:
    """The base rate of the last :func:`set_lr`; it is part of the optimiser's saved state."""
    rate: float = optimizer.param_groups[0]["base_lr"]
    return rate


def _is_convolution(model: nn.Module, name: str) -> bool:
    owner = model.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d)
