"""Train several models under one recipe and report them in one table."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from smnet.checkpoints.file import load
from smnet.checkpoints.header import Header, read_header
from smnet.console import clock, console
from smnet.data.annotations.read import ClipSet
from smnet.errors import UserError
from smnet.experiments.profile import forward_pass
from smnet.experiments.study import Candidate
from smnet.experiments.table import TABLES, Row, is_comparison, write_tables
from smnet.files import alone_in, check_outputs
from smnet.measure import clock_for, in_turns
from smnet.models import VideoModel, accelerate, multiply_adds, parameter_count, to_channels_last
from smnet.models.registry import new_model
from smnet.recipes.recipe import Recipe, other_values, read_recipe
from smnet.training.freeze import needs_temporal_weights
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
"""The drawn data set without --data. With the 800 clips of the demo all methods reach the top."""
LATENCY_ROUNDS = 7


@dataclass(frozen=True)
class Run:
    """One training run of a comparison: its recipe, with model, options, weights and seed, and its
    folder."""

    recipe: Recipe
    folder: Path


def check_study(
    recipe: Recipe, candidates: Sequence[Candidate], trunk: str | None = None
) -> list[str]:
    """The registry names of the candidates, on ``trunk`` if one is given.

    Raises:
        UserError: a model cannot be built, or two candidates are equal.
    """
    names = [f"{c.model.partition('_')[0]}_{trunk}" if trunk else c.model for c in candidates]
    labels: dict[str, str] = {}
    for candidate, model in zip(candidates, names, strict=True):
        options = {**recipe.options, **candidate.options}
        try:
            with torch.device("meta"):
                new_model(model, 2, recipe.segments, options)
        except ValueError as error:
            raise candidate.refused(error) from None
        name = folder_name(model, options, 0)
        if name in labels:
            raise UserError(f"{labels[name]} and {candidate.label} are the same model: {model}")
        labels[name] = candidate.label
    return names


def compare(
    recipe: Recipe,
    candidates: Sequence[Candidate],
    seeds: int,
    out: Path,
    trunk: str | None = None,
) -> list[Row]:
    """Train every candidate with every seed and write ``table.md``, ``.json`` and ``.png``.

    Finished runs in ``out`` are kept, also those of another study with the same candidate;
    interrupted runs are resumed. Seeds 0, 1, ... change initialisation, order and augmentation.

    Args:
        recipe: data, budget and protocol of all runs. If its weights are the folder of another
            comparison, each run starts from the run of the same candidate and seed there.
        candidates: the rows of the table.
        seeds: runs per candidate.
        trunk: for all candidates, in place of their own.

    Raises:
        UserError: as :func:`smnet.training.loop.train`; a run in ``out`` has another recipe or
            other data; or another process writes to ``out``.
        KeyboardInterrupt: a run was interrupted. The same command resumes the comparison.
    """
    # Everything that can fail in a later run is checked before the first one.
    if recipe.minutes:
        raise UserError("minutes= would give every model other epochs; give epochs= to compare")
    names = check_study(recipe, candidates, trunk)
    clips = read_training_clips(recipe)
    check_folder_is_not_data(out, clips)
    if not validation_clips(clips):
        raise UserError(
            f"{recipe.data}: has no validation clips to compare models on; add a split named val,"
            " or remove the split column so that one is drawn"
        )
    if not is_comparison(str(out)):
        check_outputs({name: out / name for name in TABLES}, ())
    runs_of = [
        [_plan_run(recipe, candidate, model, seed, out) for seed in range(seeds)]
        for candidate, model in zip(candidates, names, strict=True)
    ]
    for candidate, runs in zip(candidates, runs_of, strict=True):
        _check_weights(candidate, runs, clips)
    with alone_in(out):
        data = data_fingerprint(clips)
        for run in (run for runs in runs_of for run in runs):
            _check_run(run, data)
        return _train_all(recipe, list(zip(candidates, runs_of, strict=True)), out, data)


def _plan_run(recipe: Recipe, candidate: Candidate, model: str, seed: int, out: Path) -> Run:
    name = folder_name(model, candidate.options, seed)
    changes = {
        "model": model,
        "options": {**recipe.options, **candidate.options},
        "weights": _start_weights(recipe, name),
        "seed": seed,
    }
    return Run(recipe.model_copy(update=changes), out / name)


def _start_weights(recipe: Recipe, run: str) -> str:
    """The weights of a recipe; of a comparison, those of the run with the same name."""
    if not is_comparison(recipe.weights):
        return recipe.weights
    folder = Path(recipe.weights) / run
    if not _is_finished(folder):
        raise UserError(
            f"weights={recipe.weights}: that comparison has no finished run {run}; run it there"
            " first, with as many seeds"
        )
    return str(folder / "last.safetensors")


def _check_weights(candidate: Candidate, runs: list[Run], clips: ClipSet) -> None:
    """Refuse start weights that do not fit the runs that have not started yet."""
    new_runs = [run.recipe for run in runs if not (run.folder / "recipe.yaml").exists()]
    for weights, recipe in {recipe.weights: recipe for recipe in new_runs}.items():
        try:
            if weights != "none":
                model = build_model(recipe, clips)
                start_from(model, weights, needs_temporal=needs_temporal_weights(model, recipe))
        except UserError as error:
            raise candidate.refused(error) from None


def _check_run(run: Run, data: dict[str, Any]) -> None:
    """Refuse an existing run with another recipe, other data, or damaged files."""
    recipe, folder = run.recipe, run.folder
    if not any((folder / name).exists() for name in ("resume.pt", "last.safetensors")):
        return
    with _explain_damage(folder):
        earlier = read_recipe(str((folder / "recipe.yaml").resolve(strict=True)))
        _training_rows(folder)
    if others := other_values(earlier.model_dump(mode="json"), recipe):
        raise UserError(
            f"{folder}: contains a run with another recipe ({'; '.join(others)}); choose another"
            " --out"
        )
    _is_finished(folder, data)


@contextmanager
def _explain_damage(folder: Path) -> Iterator[None]:
    """Add what to do to the errors of a run that cannot be read."""
    try:
        yield
    except (UserError, OSError, ValueError, LookupError) as error:
        raise UserError(
            f"{folder}: the run there is damaged ({error}); remove that folder, and the same"
            " command trains it again"
        ) from None


def _train_all(
    recipe: Recipe, plan: list[tuple[Candidate, list[Run]]], out: Path, data: dict[str, Any]
) -> list[Row]:
    """Train the runs that are not finished and return a row per candidate."""
    rows: list[Row] = []
    models: list[VideoModel] = []
    seeds = len(plan[0][1])
    total, number = len(plan) * seeds, 0
    durations: list[float] = []
    for candidate, runs in plan:
        before = len(durations)
        for run in runs:
            number += 1
            heading = f"{candidate.label}, seed {run.recipe.seed}: run {number} of {total}"
            if durations:
                left = statistics.mean(durations) * (total - number + 1)
                heading += f", about {clock(left)} left"
            console.rule(Text(heading))
            began = time.monotonic()
            if _train(run, data):
                durations.append(time.monotonic() - began)
        with _explain_damage(runs[0].folder):
            models.append(load(runs[0].folder / "last.safetensors"))
        rows.append(_row(candidate, runs, models[-1]))
        if len(durations) > before:  # a complete table is not replaced by a shorter one
            write_tables(rows, recipe, seeds, out)
    for row, latency in zip(rows, latencies(models), strict=True):
        row.latency = latency
    write_tables(rows, recipe, seeds, out)
    return rows


def _row(candidate: Candidate, runs: list[Run], model: VideoModel) -> Row:
    """The row of finished runs, without its latency."""
    measured = [_last(run.folder).metrics["val"] for run in runs]
    return Row(
        candidate.label,
        runs[0].recipe.model,
        [m["top1"] for m in measured],
        parameter_count(model),
        multiply_adds(model, size=model.spec.input_size) / 1e9,
        math.nan,
        [sum(epoch["seconds"] for epoch in _training_rows(run.folder)) for run in runs],
        max(m.get("unreadable", 0) for m in measured),
        dict(candidate.options),
        [_training_rows(run.folder)[-1]["top1"] for run in runs],
    )


def latencies(models: Sequence[VideoModel]) -> list[float]:
    """Median seconds per clip, prepared for inference, in turns, on a GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    candidates: list[Callable[[], object]] = []
    for model in models:
        model = accelerate(model, "inference").to(device)
        to_channels_last(model)
        side = model.spec.input_size
        clip = torch.randn(1, model.spec.frames_per_clip, 3, side, side, device=device)
        candidates.append(partial(forward_pass, model, clip))
    timings = in_turns(
        candidates,
        LATENCY_ROUNDS,
        warmup=2,
        clock=clock_for(torch.get_num_threads(), device.type),
        synchronise=torch.cuda.synchronize if device.type == "cuda" else lambda: None,
    )
    return [timings.median(k) for k in range(len(models))]


def _is_finished(run: Path, data: dict[str, Any] | None = None) -> bool:
    """Whether a run has all its epochs. Raises ``UserError`` if it was trained on other data."""
    last = run / "last.safetensors"
    if not last.is_file():  # written after every epoch
        return False
    metrics = _last(run).metrics
    if data is not None:
        check_data(last, metrics.get("data") or data, data)
    return bool(metrics["val"]["epoch"] >= read_recipe(str(run / "recipe.yaml")).epochs)


def _last(run: Path) -> Header:
    """The header of the checkpoint of a run's last epoch."""
    with _explain_damage(run):
        return read_header(run / "last.safetensors")


def _train(run: Run, data: dict[str, Any]) -> bool:
    """Train or resume a run. Returns False if it was finished already."""
    if _is_finished(run.folder, data):
        console.print("finished already", markup=False)
        return False
    outcome = train(run.recipe, run.folder, resume=(run.folder / "resume.pt").exists())
    if outcome.stop_requested:
        console.print("the same command resumes the comparison", markup=False)
        raise KeyboardInterrupt
    return True


def _training_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's log about training, one per epoch."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def folder_name(model: str, options: Mapping[str, Any], seed: int) -> str:
    """The folder of a run. It depends on model and options only, so that studies share runs."""
    words = [model, *(f"{key}={value}" for key, value in sorted(options.items()))]
    name = "-".join("".join(c if c.isalnum() else " " for c in " ".join(words)).split())
    return f"{name}-seed{seed}"
