"""The network that is adapted, and the checkpoint that a probe becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from smnet.adapt.probe import Probe
from smnet.adapt.selection import HEADS, Samples
from smnet.checkpoints.file import Checkpoint
from smnet.evaluation.results import Evaluation
from smnet.models import VideoModel
from smnet.models.options import option_fields
from smnet.models.registry import build_model, option_types
from smnet.recipes.recipe import Recipe


def with_two_stages(recipe: Recipe) -> Recipe:
    """The recipe whose network gives the features of its last two stages, where it can."""
    known = any("features" in option_fields(kind) for kind in option_types(recipe.model))
    if not known or "features" in recipe.options:
        return recipe
    return recipe.model_copy(update={"options": {**recipe.options, "features": "res4+res5"}})


def channels_below(model: VideoModel) -> int:
    """How many of the channels are of the last stage but one; they stand first."""
    return model.num_features // 3 if model.spec.options.get("features") == "res4+res5" else 0


def probe_checkpoint(
    model: VideoModel,
    samples: Samples,
    probe: Probe,
    head: str,
    recipe: Recipe,
    result: Evaluation,
    whole: bool = False,
) -> Checkpoint:
    """An ordinary checkpoint: the network, with the probe as its classifier.

    Args:
        model: the network with any classifier.
        samples: the features that it gives.
        probe: on its features.
        head: what the probe sees.
        recipe: of the adaptation.
        result: what was measured.
        whole: whether the probe was trained on all clips, and measured by cross-validation.
    """
    options = {**model.spec.options, "head": HEADS[head].option}
    if not HEADS[head].both and samples.below:
        options["features"] = "res5"
    spec = replace(model.spec, options=options)
    tensors = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    tensors["fc.weight"] = torch.from_numpy(samples.weight(probe, head)).float()
    tensors["fc.bias"] = torch.from_numpy(probe.bias).float()
    own = build_model(spec)
    own.load_state_dict(tensors)
    recipe = recipe.model_copy(update={"options": options})
    return Checkpoint(
        spec, own.state_dict(), recipe.model_dump(mode="json"), metrics(result, whole)
    )


def metrics(result: Evaluation, whole: bool = False) -> Mapping[str, Any]:
    """The metrics that a checkpoint stores; see :func:`probe_checkpoint`."""
    return {
        **({"trained_on_all": True} if whole else {}),
        "val": {
            "top1": result.top(1).value,
            **({} if result.truth is None else {"map": result.mean_precision.value}),
            "mean_class": result.mean_class.value,
            "clips": len(result.labels),
            "views": result.views,
        },
    }
