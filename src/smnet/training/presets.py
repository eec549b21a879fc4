"""The preset that fits a machine, a data set and the time at hand."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from smnet.console import clock
from smnet.data.clips import ClipSet
from smnet.distributed import choose_device
from smnet.errors import UserError
from smnet.models import accelerate, to_channels_last
from smnet.recipes.presets import PRESETS, Preset
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training.freeze import needs_temporal_weights
from smnet.training.setup import build_model, read_training_clips, validation_clips
from smnet.training.start_weights import start_from

EPOCHS = {"nano": 1, "small": 30, "medium": 12, "large": 12}
"""Epochs that a preset needs; a smaller preset is chosen if the time does not suffice for them."""
_SHARE = 0.85  # of the time is for training steps, the rest for reading, validation and saving
_HOPE = 4  # a preset is measured if it would fit were it that much faster than its figure


def choose_preset(
    keys: Sequence[str], values: Mapping[str, Any], minutes: float
) -> tuple[Recipe, list[str]]:
    """The largest preset whose epochs fit into ``minutes``, and lines that say why.

    Training steps of the presets are timed here, from the smallest on. A preset whose start weights
    are not on the machine and cannot be fetched is left out, and so is one that given start weights
    do not fit.

    Args:
        keys: ``KEY=VALUE`` words of the command line; they are kept.
        values: further keys, as in :func:`smnet.recipes.recipe.read_recipe`.
        minutes: time for the whole run.

    Raises:
        UserError: the data cannot be read, or no preset can start from the given weights.
    """
    given = {word.partition("=")[0] for word in keys} | set(values)
    clips = read_training_clips(read_recipe(PRESETS[0].name, keys, values))
    count, val = len(clips.splits["train"]), len(validation_clips(clips))
    budget = 60 * minutes * _SHARE
    chosen: Recipe | None = None
    lines: list[str] = []
    reasons: dict[str, None] = {}  # why presets are left out, each once
    before: tuple[float, Preset] | None = None  # seconds per clip of the last preset
    for preset in PRESETS:
        recipe = read_recipe(preset.name, keys, values)
        try:
            _check_start(recipe, clips)
        except UserError as error:
            lines.append(f"preset {preset.name} is left out: {error}")
            reasons[str(error)] = None
            continue
        epochs = recipe.epochs if "epochs" in given else EPOCHS[preset.name]
        passes = epochs * (count + val / 3)
        if chosen is not None and before is not None:
            hoped = before[0] * before[1].trains / preset.trains / _HOPE
            if hoped * passes > budget:
                lines.append(f"preset {preset.name} is too slow here")
                break
        seconds = seconds_per_clip(recipe, clips)
        before = seconds, preset
        if chosen is not None and seconds * passes > budget:
            need = clock(seconds * passes / _SHARE)
            lines.append(f"preset {preset.name} would need {need} for {epochs} epochs")
            break
        chosen = recipe
        lines.append(
            f"preset {preset.name}: {recipe.model}, {recipe.segments} segments of {recipe.size} x"
            f" {recipe.size}, {1 / seconds:.2g} clips/s in training here"
        )
    if chosen is None:
        raise UserError(f"no preset can be trained: {'; '.join(reasons)}")
    return chosen, lines


def _check_start(recipe: Recipe, clips: ClipSet) -> None:
    """Refuse a preset whose start weights are not at hand or do not fit."""
    if recipe.weights == "none":
        if recipe.model.endswith("resnet50"):
            raise UserError("it does not learn from few clips without start weights")
    else:
        model = build_model(recipe, clips)
        start_from(model, recipe.weights, needs_temporal=needs_temporal_weights(model, recipe))


def seconds_per_clip(recipe: Recipe, clips: ClipSet) -> float:
    """Seconds that a training step takes per clip on blank frames, after one that is not timed."""
    device = choose_device(recipe.device)
    model = accelerate(build_model(recipe, clips), "training").to(device).train()
    if recipe.channels_last:
        to_channels_last(model)
    batch = min(recipe.batch, 4)
    side = recipe.size
    frames = torch.zeros(batch, model.spec.frames_per_clip, 3, side, side, device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    taken = []
    for _ in range(3):
        began = time.monotonic()
        F.cross_entropy(model(frames), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.monotonic() - began)
        if len(taken) == 2 and taken[1] > 1:
            break
    return min(taken[1:]) / batch
