"""Many models under one recipe: each trained with the same data, budget and seeds, in one table."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from smnet.checkpoints.file import Checkpoint, read_checkpoint
from smnet.console import clock, console
from smnet.data.annotations.read import ClipSet
from smnet.errors import UserError
from smnet.experiments.study import Variant
from smnet.experiments.table import Row, is_comparison, write_tables
from smnet.files import alone_in
from smnet.models import VideoModel, multiply_adds, parameter_count, to_channels_last
from smnet.models.registry import new_model
from smnet.recipes.recipe import Recipe, other_values, read_recipe
from smnet.training.loop import train
from smnet.training.setup import (
    build_model,
    check_folder_is_not_data,
    data_fingerprint,
    read_training_clips,
    validation_clips,
)
from smnet.training.start_weights import start_from
from smnet.training.state import check_data

MOTION = {"train_clips": 300, "val_clips": 200, "size": 96}
MOTION_BUDGET = ("epochs=24",)
"""What is compared on where no data are given: with the demo's 800 clips all methods meet at the
top, and a table would tell nothing."""


def check_study(recipe: Recipe, variants: Sequence[Variant], trunk: str | None = None) -> list[str]:
    """Names of the variants' models, on ``trunk`` if one is given.

    Raises:
        UserError: one that cannot be built; two that are the same.
    """
    names = [f"{v.model.partition('_')[0]}_{trunk}" if trunk else v.model for v in variants]
    labels: dict[str, str] = {}
    for variant, model in zip(variants, names, strict=True):
        _check(recipe, variant, model)
        name = folder_name(model, {**recipe.options, **variant.options}, 0)
        if name in labels:
            raise UserError(f"{labels[name]} and {variant.label} are the same: {model}")
        labels[name] = variant.label
    return names


def compare(
    recipe: Recipe, variants: Sequence[Variant], seeds: int, out: Path, trunk: str | None = None
) -> list[Row]:
    """Train every variant with every seed and write ``table.md``, ``.json`` and ``.png``.

    What is finished in ``out`` already is kept, also for another study that has the same variant;
    what was interrupted is gone on with. All variants get the recipe's budget; seed 0, 1, ...
    changes initialisation, order and augmentation.

    Args:
        recipe: data, budget and protocol for all. Where its weights are the folder of an earlier
            comparison, each run starts from the run of the same variant and seed there.
        variants: the rows.
        seeds: runs of each.
        out: folder of the comparison.
        trunk: put every variant on this trunk instead.

    Raises:
        UserError: whatever a training run may raise; what is finished there learned from other data
            or by another recipe; or another process is writing there.
        KeyboardInterrupt: a run was interrupted; the same command goes on.
    """
    # All that can be wrong with a later run, now and not after hours of training the others.
    names = check_study(recipe, variants, trunk)
    clips = read_training_clips(recipe)
    check_folder_is_not_data(out, clips)
    if not validation_clips(clips):
        raise UserError(
            f"{recipe.data}: has no validation clips, by which models are compared; give a split"
            " val, or leave the split to be drawn"
        )
    plan = [
        (variant, [_planned(recipe, variant, model, seed, out) for seed in range(seeds)])
        for variant, model in zip(variants, names, strict=True)
    ]
    for variant, runs in plan:
        _check_weights(variant, runs, clips)
    with alone_in(out):
        data = data_fingerprint(clips)
        for _, runs in plan:
            for run in runs:
                _check_run(run, data)
        return _train_all(recipe, plan, out, data)


@dataclass(frozen=True)
class _Run:
    """A run of a comparison: its recipe, and the folder that keeps it."""

    recipe: Recipe
    folder: Path


def _planned(recipe: Recipe, variant: Variant, model: str, seed: int, out: Path) -> _Run:
    name = folder_name(model, variant.options, seed)
    changes = {
        "model": model,
        "options": {**recipe.options, **variant.options},
        "weights": _weights(recipe, name),
        "seed": seed,
    }
    return _Run(recipe.model_copy(update=changes), out / name)


def _check_weights(variant: Variant, runs: list[_Run], clips: ClipSet) -> None:
    """``UserError`` for weights from which runs that are not begun yet could not start."""
    fresh = [run.recipe for run in runs if not (run.folder / "recipe.yaml").exists()]
    for weights, recipe in {recipe.weights: recipe for recipe in fresh}.items():
        try:
            if weights != "none":
                start_from(build_model(recipe, clips), weights, frozen_norms=recipe.freeze_norm)
        except UserError as error:
            raise variant.refused(error) from None


def _check_run(run: _Run, data: dict[str, Any]) -> None:
    """``UserError`` for a run that is there and is of another recipe, of other data or damaged."""
    recipe, folder = run.recipe, run.folder
    if not any((folder / name).exists() for name in ("resume.pt", "last.safetensors")):
        return
    with _told_with(folder):
        earlier = read_recipe(str((folder / "recipe.yaml").resolve(strict=True)))
        _training(folder)
    if others := other_values(earlier.model_dump(mode="json"), recipe):
        raise UserError(
            f"{folder}: a run of another recipe is there ({'; '.join(others)}); choose another"
            " --out"
        )
    _is_finished(folder, data)


@contextmanager
def _told_with(folder: Path) -> Iterator[None]:
    """What cannot be read of a run is told with what to do about it."""
    try:
        yield
    except (UserError, OSError, ValueError, LookupError) as error:
        raise UserError(
            f"{folder}: the run there is damaged ({error}); remove that folder, and the same"
            " command trains it again"
        ) from None


def _train_all(
    recipe: Recipe, plan: list[tuple[Variant, list[_Run]]], out: Path, data: dict[str, Any]
) -> list[Row]:
    """The rows of the variants, from the runs of each."""
    rows: list[Row] = []
    models: list[VideoModel] = []
    seeds = len(plan[0][1])
    total, number = len(plan) * seeds, 0
    taken: list[float] = []
    for variant, runs in plan:
        before = len(taken)
        for run in runs:
            number += 1
            heading = f"{variant.label}, seed {run.recipe.seed}: run {number} of {total}"
            if taken:
                left = statistics.mean(taken) * (total - number + 1)
                heading += f", about {clock(left)} left"
            console.rule(Text(heading))
            began = time.monotonic()
            if _train(run, data):
                taken.append(time.monotonic() - began)
        measured = [_last(run.folder).metrics["val"] for run in runs]
        trained = _last(runs[0].folder).build()
        models.append(trained)
        rows.append(
            Row(
                variant.label,
                runs[0].recipe.model,
                [m["top1"] for m in measured],
                parameter_count(trained),
                multiply_adds(trained, size=trained.spec.input_size) / 1e9,
                math.nan,
                [sum(epoch["seconds"] for epoch in _training(run.folder)) for run in runs],
                max(m.get("unreadable", 0) for m in measured),
                dict(variant.options),
                [_training(run.folder)[-1]["top1"] for run in runs],
            )
        )
        if len(taken) > before:  # or a table that was whole would lose rows for a while
            write_tables(rows, recipe, seeds, out)
    for row, latency in zip(rows, latencies(models), strict=True):
        row.latency = latency
    write_tables(rows, recipe, seeds, out)
    return rows


@torch.inference_mode()
def latencies(models: Sequence[VideoModel], rounds: int = 7) -> list[float]:
    """Median forward time of one clip through each model, seconds, on the device at hand.

    The models take turns, so that what else the machine does hits all alike.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    times: list[list[float]] = [[] for _ in models]
    inputs = []
    for model in models:
        to_channels_last(model)  # as they train, evaluate and predict
        spec = model.to(device).eval().spec
        side = spec.input_size
        inputs.append(torch.randn(1, spec.frames_per_clip, 3, side, side, device=device))
    for turn in range(rounds + 2):
        for k, (model, clip) in enumerate(zip(models, inputs, strict=True)):
            began = time.perf_counter()
            model(clip)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # the first two warm up
                times[k].append(time.perf_counter() - began)
    return [statistics.median(t) for t in times]


def _check(recipe: Recipe, variant: Variant, model: str) -> None:
    try:
        with torch.device("meta"):
            new_model(model, 2, recipe.segments, {**recipe.options, **variant.options})
    except ValueError as error:
        raise variant.refused(error) from None


def _weights(recipe: Recipe, run: str) -> str:
    """What a run starts from: the recipe's weights, or those that it has in another comparison."""
    if not is_comparison(recipe.weights):
        return recipe.weights
    earlier = Path(recipe.weights)
    if not _is_finished(earlier / run):
        raise UserError(
            f"weights={recipe.weights}: that comparison has no finished run {run}; make it there"
            " first, with as many seeds"
        )
    return str(earlier / run / "last.safetensors")


def _is_finished(run: Path, data: dict[str, Any] | None = None) -> bool:
    """Whether a run has all its epochs, and learned from ``data``: ``UserError`` if from others."""
    last = run / "last.safetensors"
    if not last.is_file():  # written after every epoch
        return False
    metrics = _last(run).metrics
    if data is not None:
        check_data(last, metrics.get("data") or data, data)
    return bool(metrics["val"]["epoch"] >= read_recipe(str(run / "recipe.yaml")).epochs)


def _last(run: Path) -> Checkpoint:
    """The checkpoint that a run's last epoch left."""
    with _told_with(run):
        return read_checkpoint(run / "last.safetensors")


def _train(run: _Run, data: dict[str, Any]) -> bool:
    """Train, or go on with it; False where that is done already."""
    if _is_finished(run.folder, data):
        console.print("finished already", markup=False)
        return False
    outcome = train(run.recipe, run.folder, resume=(run.folder / "resume.pt").exists())
    if outcome.stop_requested:
        console.print("the comparison goes on by the same command", markup=False)
        raise KeyboardInterrupt
    return True


def _training(run: Path) -> list[dict[str, Any]]:
    """What a run's log says of each epoch of training."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def folder_name(model: str, options: Mapping[str, Any], seed: int) -> str:
    """Where a run of a variant is kept: by what it is, so that studies share it."""
    words = [model, *(f"{key}={value}" for key, value in sorted(options.items()))]
    what = "-".join("".join(c if c.isalnum() else " " for c in " ".join(words)).split())
    return f"{what}-seed{seed}"
