"""Validation during training: the loader, the scores, the metrics, and the choice of the best."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from smnet.data.annotations.read import ClipSet
from smnet.data.loading.loader import ClipLoader
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.evaluation.results import Evaluation, truth_of
from smnet.evaluation.scoring import in_order, protocol_loader, score_clips, validation_plan
from smnet.inference.torch_backend import TorchBackend
from smnet.models import ModelSpec, VideoModel
from smnet.recipes.recipe import Recipe
from smnet.training.setup import StopRequested, validation_clips
from smnet.training.state import RunState


def validation_loader(
    recipe: Recipe, clips: ClipSet, spec: ModelSpec, processes: Processes
) -> ClipLoader | None:
    """The loader of the validation clips under the single-view protocol; None without clips.

    Raises:
        UserError: there are none and the recipe has ``patience``.
    """
    val = validation_clips(clips)
    if not val and recipe.patience:
        raise UserError(
            f"{recipe.data}: patience={recipe.patience} needs validation clips, and there are none;"
            " leave patience out"
        )
    if not val:
        return None
    plan = replace(validation_plan(spec), decoder=recipe.decoder)
    return protocol_loader(val, plan, processes, recipe.batch, recipe.workers)


def validate(
    model: VideoModel,
    loader: ClipLoader | None,
    clips: ClipSet,
    recipe: Recipe,
    processes: Processes,
    autocast: Callable[[], AbstractContextManager[Any]],
    stopping: threading.Event,
) -> Evaluation | None:
    """Score the validation clips under the single-view protocol; puts the model into evaluation
    mode.

    Returns:
        The evaluation; None without validation clips.

    Raises:
        StopRequested: ``stopping`` was set; raised after the batch in progress.
    """
    if loader is None:
        return None

    def stop_if_requested(done: int) -> None:
        if stopping.is_set():
            raise StopRequested

    model.eval()
    # Running statistics differ between processes; rank 0 saves the checkpoint, so all use its own.
    processes.share(model.buffers())
    scores, problems, damaged, _ = score_clips(
        TorchBackend.live(model, autocast),
        loader,
        processes,
        on_error=recipe.on_error,
        progress=stop_if_requested,
    )
    val = validation_clips(clips)
    return Evaluation(
        scores,
        np.array([clip.label for clip in val]),
        clips.classes,
        tuple(clip.path for clip in val),
        "1x1",
        in_order(problems),
        loader.dataset.plan.frames_by,
        in_order(damaged),
        truth_of(val, len(clips.classes)) if clips.several else None,
        clips=tuple(val),
    )


def validation_metrics(result: Evaluation | None, epoch: int) -> dict[str, Any]:
    """The validation metrics that a checkpoint and the log store; shares are in [0, 1]."""
    if result is None:
        return {"epoch": epoch, "top1": None, "clips": 0}
    return {
        "epoch": epoch,
        "top1": result.top(1).value,
        "top5": result.top(min(5, len(result.classes))).value,
        "mean_class": result.mean_class.value,
        "clips": len(result.labels),
        "unreadable": len(result.problems),
        "not_finite": result.not_finite,
        "damaged": len(result.damaged),
        "views": result.views,
        **({} if result.truth is None else {"map": result.mean_precision.value}),
    }


def compare_with_best(measured: dict[str, Any], best: dict[str, Any] | None) -> str:
    """Whether an epoch becomes the best: ``"best"``, ``"equals the best"``, or ``""`` if not.

    The later of equal epochs is kept, since it was trained for longer. An epoch with non-finite
    scores never becomes the best. Without validation clips the last epoch is the best.
    """
    if not measured["clips"]:
        return "best"
    if measured["not_finite"]:
        return ""
    judged = "map" if "map" in measured else "top1"
    if best is None or measured[judged] > best[judged]:
        return "best"
    return "equals the best" if measured[judged] == best[judged] else ""


def out_of_patience(state: RunState, recipe: Recipe) -> bool:
    """Whether the validation top-1 has not risen during the last ``patience`` epochs."""
    return bool(recipe.patience) and state.epoch - state.improved >= recipe.patience
