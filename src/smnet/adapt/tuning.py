"""Fine-tuning of the whole network from a probe, in the time that is left."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch

from smnet.checkpoints.file import Checkpoint
from smnet.console import clock, console
from smnet.data.annotations.source import source_of
from smnet.distributed import choose_device
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.evaluation.results import Evaluation
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training.loop import train

EPOCHS = range(2, 21)
"""Epochs of fine-tuning, by the time that is left."""
GENTLE: dict[str, Any] = {
    "lr": 0.004,
    "head_lr": 1.0,
    "dropout": 0.0,
    "freeze_norm": True,
    "layer_decay": 0.7,
    "weight_decay": 1e-4,
}
"""Keys of fine-tuning from a probe, where none is given."""


def say(text: str) -> None:
    """Print a line of the report."""
    console.print(text, markup=False, soft_wrap=True)


def fine_tune(
    recipe: Recipe, folder: Path, start: Checkpoint, clips: int, deadline: float
) -> Evaluation | str:
    """Train from the probe in the time that is left.

    Returns:
        The last epoch on the validation clips; why it was not tried; or ``"stopped"``.
    """
    run = folder / "finetune"
    resume = (run / "resume.pt").exists()
    if resume:
        tuning = read_recipe(str(run / "recipe.yaml"))
    else:
        left = max(deadline - time.monotonic(), 0.0)
        given = recipe.model_fields_set
        if not left and "epochs" not in given:
            return "fine-tuning: left out, no time is left; --minutes gives more"
        seconds = _epoch_seconds(start, recipe, clips)
        epochs = recipe.epochs if "epochs" in given else min(int(left / seconds), EPOCHS[-1])
        if epochs < EPOCHS.start and "epochs" not in given:
            return (
                f"fine-tuning: left out, an epoch takes about {clock(seconds)} and {clock(left)}"
                " are left; --minutes gives more"
            )
        gentle = {k: v for k, v in GENTLE.items() if k not in given}
        own = {
            "options": start.recipe["options"],
            "weights": str(folder / "probe.safetensors"),
            "epochs": epochs,
            "warmup": min(recipe.warmup, epochs / 10),
        }
        tuning = recipe.model_copy(update={**gentle, **own})
        say(f"fine-tuning: {epochs} epochs of about {clock(seconds)}")
    outcome = train(tuning, run, resume=resume)
    if not outcome.finished:
        return "stopped"
    last = str(run / "last.safetensors")
    result = evaluate_checkpoints(
        [last], source_of(recipe), views=recipe.views, device=recipe.device
    )
    assert result is not None  # None is for further processes
    return result


def _epoch_seconds(start: Checkpoint, recipe: Recipe, clips: int) -> float:
    """Seconds of a training epoch, from one step."""
    model = copy.deepcopy(start.build()).train()  # a step changes running statistics
    side, frames = model.spec.input_size, model.spec.frames_per_clip
    device = choose_device(recipe.device)
    model.to(device)
    blank = torch.zeros(min(recipe.batch, clips), frames, 3, side, side, device=device)
    began = time.monotonic()
    model(blank).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.monotonic() - began) / len(blank) * clips * 1.2


def verdict(probe: Evaluation | None, tuned: Evaluation | None) -> tuple[str, str]:
    """What is kept, and a line on it."""
    if probe is None or tuned is None:
        return "probe", "kept: the probe"
    clips, several = len(probe.labels), probe.truth is not None
    if several:
        values = [e.mean_precision.value for e in (probe, tuned)]
        words = f"mAP of the probe {values[0]:.1%}, of fine-tuning {values[1]:.1%}"
    else:
        values = [round(e.top(1).value * clips) for e in (probe, tuned)]
        words = f"of {clips} validation clips the probe names {values[0]}, fine-tuning {values[1]}"
    if values[1] > values[0]:
        return "fine-tuned", f"kept: the fine-tuned network; {words}"
    return "probe", f"kept: the probe; {words}"
