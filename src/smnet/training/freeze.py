"""Parameters that keep their start weights, and normalisations that keep their statistics."""

from __future__ import annotations

from torch import nn

from smnet.models import VideoModel
from smnet.models.base import STAGES
from smnet.recipes.recipe import Recipe


def is_frozen(model: VideoModel, key: str, freeze: str) -> bool:
    """Whether the recipe key ``freeze`` fixes a ``state_dict`` key of a model.

    A stage fixes everything from the input up to this stage, with the temporal modules in it.
    ``"trunk"`` fixes the image network; classifier and temporal modules learn.
    """
    if freeze == "none":
        return False
    if freeze == "trunk":
        return model.is_trunk_key(key)
    return STAGES.index(model.stage_of(key)) <= STAGES.index(freeze)


def freeze_parameters(model: VideoModel, freeze: str) -> str:
    """Fix parameters by :func:`is_frozen`. Returns a line for the log; ``""`` if all learn."""
    for name, parameter in model.named_parameters():
        if is_frozen(model, name, freeze):
            parameter.requires_grad_(False)
    if freeze == "none":
        return ""
    count = sum(p.numel() for p in model.parameters()) / 1e6
    learn = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    return f"freeze={freeze}: {learn:.2f} of {count:.2f} M parameters learn"


def needs_temporal_weights(model: VideoModel, recipe: Recipe) -> bool:
    """Whether frozen statistics meet temporal modules that have parameters.

    New temporal modules change the scale of features, so the start weights must then contain them.
    """
    keys = [key for key in model.state_dict() if not key.startswith("fc.")]
    temporal = [key for key in keys if not model.is_trunk_key(key)]
    if recipe.freeze_norm or recipe.freeze == "trunk":
        return bool(temporal)
    return any(is_frozen(model, key, recipe.freeze) for key in temporal)


def train_mode(network: nn.Module, recipe: Recipe) -> None:
    """Put the network into training mode, except normalisations that keep their statistics.

    These are all of them with ``freeze_norm``, else those whose weights are frozen.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            fixed = module.weight is not None and not module.weight.requires_grad
            if recipe.freeze_norm or fixed:
                module.eval()


def freeze_norms(model: nn.Module) -> None:
    """Put every batch normalisation into evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
