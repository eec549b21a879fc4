"""Many models under one recipe: each trained with the same data, budget and seeds, in one table."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from smnet.checkpoint import load, read_checkpoint
from smnet.data.annotations import ClipSet
from smnet.errors import UserError, missing_extra
from smnet.files import alone_in, atomic_path, write_text
from smnet.machine import describe_machine
from smnet.models import VideoModel, multiply_adds, parameter_count
from smnet.models.registry import new_model
from smnet.recipe import Recipe, read_recipe
from smnet.resume import check_data
from smnet.runlog import console
from smnet.setup_run import check_outside, learned_from, read_training_clips, validation_clips
from smnet.study import Variant
from smnet.train import train

# Two-sided 95 % quantiles of Student's t for 1 to 20 degrees of freedom; that for 20 beyond.
STUDENT = (
    *(12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23),
    *(2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09),
)

MOTION = {"train_clips": 300, "val_clips": 200, "size": 96}
MOTION_BUDGET = ("epochs=24",)
"""What is compared on where no data are given: with the demo's 800 clips all methods meet at the
top, and a table would tell nothing."""


@dataclass
class Row:
    """What was measured of a variant.

    Attributes:
        top1: validation top-1 of the last epoch, one a seed.
        parameters: learned values.
        gmacs: multiply-adds of one clip, 1e9.
        latency: forward time of one clip, seconds, median.
        seconds: training time, one a seed.
        not_read: validation clips that could not be read and count as wrong, at most.
        options: of the model, besides those of the recipe.
        learned: training top-1 of the last epoch, on augmented clips, one a seed.
    """

    label: str
    model: str
    top1: list[float]
    parameters: int
    gmacs: float
    latency: float
    seconds: list[float]
    not_read: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    learned: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.top1)

    @property
    def half_width(self) -> float:
        """Half the 95 % interval of the mean over seeds; NaN for one seed."""
        return half_width(self.top1)

    def over(self, other: Row) -> tuple[float, float]:
        """How much more top-1 than another row has, seed by seed: mean and :func:`half_width`.

        A seed that is hard for one model is hard for others, so this tells finer differences than
        the two means with their intervals do.
        """
        pairs = zip(self.top1, other.top1, strict=False)  # the seeds that both have
        differences = [mine - theirs for mine, theirs in pairs]
        return statistics.fmean(differences), half_width(differences)


def half_width(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of a sample (Student's t); NaN for one value."""
    if len(values) < 2:
        return math.nan
    quantile = STUDENT[min(len(values) - 2, len(STUDENT) - 1)]
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


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
    check_outside(out, clips)
    if not validation_clips(clips):
        raise UserError(
            f"{recipe.data}: has no validation clips, by which models are compared; give a split"
            " val, or leave the split to be drawn"
        )
    for variant, model in zip(variants, names, strict=True):
        for seed in range(seeds):
            _weights(recipe, folder_name(model, variant.options, seed))
    with alone_in(out):
        return _train_all(recipe, list(zip(variants, names, strict=True)), seeds, out, clips)


def _train_all(
    recipe: Recipe, variants: list[tuple[Variant, str]], seeds: int, out: Path, clips: ClipSet
) -> list[Row]:
    """The rows of the variants, each with the name of its model."""
    data = learned_from(clips)
    rows: list[Row] = []
    models: list[VideoModel] = []
    for variant, model in variants:
        runs = []
        for seed in range(seeds):
            name = folder_name(model, variant.options, seed)
            changes = {
                "model": model,
                "options": {**recipe.options, **variant.options},
                "weights": _weights(recipe, name),
                "seed": seed,
            }
            runs.append(_run(recipe.model_copy(update=changes), out / name, variant.label, data))
        measured = [read_checkpoint(run / "last.safetensors").metrics["val"] for run in runs]
        trained = load(runs[0] / "last.safetensors")
        models.append(trained)
        rows.append(
            Row(
                variant.label,
                model,
                [m["top1"] for m in measured],
                parameter_count(trained),
                multiply_adds(trained, size=trained.spec.input_size) / 1e9,
                math.nan,
                [sum(epoch["seconds"] for epoch in _training(run)) for run in runs],
                max(m.get("unreadable", 0) for m in measured),
                dict(variant.options),
                [_training(run)[-1]["top1"] for run in runs],
            )
        )
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


def write_tables(rows: Sequence[Row], recipe: Recipe, seeds: int, out: Path) -> None:
    """``table.md``, ``table.json`` and, where matplotlib is installed, ``table.png``."""
    facts = {
        "machine": describe_machine(),
        "seeds": seeds,
        "recipe": recipe.model_dump(mode="json"),
    }
    values = [asdict(row) | {"mean": row.mean, "half_width": row.half_width} for row in rows]
    text = json.dumps(_finite({**facts, "rows": values}), indent=2, ensure_ascii=False)
    write_text(out / "table.json", text + "\n")
    write_text(out / "table.md", markdown(rows, recipe, seeds))
    try:
        draw(rows, out / "table.png")
    except UserError as error:
        console.print(f"no picture: {error}", markup=False)


def markdown(rows: Sequence[Row], recipe: Recipe, seeds: int) -> str:
    """The table for people, with what it was measured on."""
    base = rows[0].latency
    lines = [
        "| model | top-1, mean of seeds | over the first row | in training | parameters"
        " | GMAC a clip | latency, of the first row |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        mean, half = row.over(rows[0])
        over = "-" if row is rows[0] else f"{100 * mean:+.1f}{_interval(half)}"
        ratio = "-" if math.isnan(row.latency) else f"{row.latency / base:.2f}"
        learned = f"{100 * statistics.fmean(row.learned):.1f}" if row.learned else "-"
        label = row.label.replace("|", r"\|")
        lines.append(
            f"| {label} | {100 * row.mean:.1f}{_interval(row.half_width)} | {over}"
            f" | {learned} | {row.parameters / 1e6:.2f} M | {row.gmacs:.3g} | {ratio} |"
        )
    machine = ", ".join(f"{k} {v}" for k, v in describe_machine().items())
    options = "".join(f" {key}={value}," for key, value in recipe.options.items())
    if recipe.temporal_lr != 1:
        options += f" temporal_lr={recipe.temporal_lr:g},"
    budget = (
        f"{recipe.epochs} epochs,{options} {recipe.segments} segments of"
        f" {recipe.size} x {recipe.size}, weights {_from_where(recipe)},"
        f" {seeds} seed{'s' if seeds > 1 else ''};"
        " last epoch, one view; ± is a 95 % interval of the mean over seeds, of the difference seed"
        " by seed; in training: top-1 of the last epoch on augmented clips, low where a network has"
        " not learned yet"
    )
    not_read = max(row.not_read for row in rows)
    if not_read:
        budget += f"; {not_read} validation clips could not be read and count as wrong"
    return "\n".join([*lines, "", f"{budget}.", "", f"Machine: {machine}.", ""])


def _from_where(recipe: Recipe) -> str:
    name = Path(recipe.weights).name
    return f"of each one's own run in {name}" if _is_comparison(recipe.weights) else name


def _interval(half: float) -> str:
    return "" if math.isnan(half) else f" ± {100 * half:.1f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Accuracy over multiply-adds. ``UserError`` if matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        raise missing_extra("matplotlib", "plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    most, least = max(row.gmacs for row in rows), min(row.gmacs for row in rows)
    span = max(most - least, 0.2 * most)  # or differences that mean nothing would fill the picture
    apart = 0.025 * span
    for number, row in enumerate(rows):
        near = [k for k, other in enumerate(rows) if abs(other.gmacs - row.gmacs) < apart]
        half = 0.0 if math.isnan(row.half_width) else row.half_width
        down, up = min(half, row.mean), min(half, 1 - row.mean)  # a share is from 0 to 1
        axes.errorbar(
            row.gmacs + apart * (near.index(number) - (len(near) - 1) / 2),
            100 * row.mean,
            yerr=[[100 * down], [100 * up]] if half else None,
            fmt="osD^vP*X"[number % 8],
            capsize=3,
            label=row.label,
        )
    figure.legend(loc="outside right upper", frameon=False)
    axes.set_xlabel("GMAC a clip (points that would meet are moved apart)")
    axes.set_ylabel("top-1, %")
    axes.grid(alpha=0.3)
    axes.set_xlim(least - 0.2 * span, most + 0.2 * span)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    pyplot.close(figure)


def _check(recipe: Recipe, variant: Variant, model: str) -> None:
    try:
        with torch.device("meta"):
            new_model(model, 2, recipe.segments, {**recipe.options, **variant.options})
    except ValueError as error:
        raise UserError(f"{variant.label}: {error}") from None


def _weights(recipe: Recipe, run: str) -> str:
    """What a run starts from: the recipe's weights, or those that it has in another comparison."""
    if not _is_comparison(recipe.weights):
        return recipe.weights
    earlier = Path(recipe.weights)
    if not _is_finished(earlier / run):
        raise UserError(
            f"weights={recipe.weights}: that comparison has no finished run {run}; make it there"
            " first, with as many seeds"
        )
    return str(earlier / run / "last.safetensors")


def _is_comparison(weights: str) -> bool:
    """Whether that is the folder of one, be it interrupted in its first run."""
    return any(Path(weights).glob("*-seed0/recipe.yaml"))


def _is_finished(run: Path, data: dict[str, Any] | None = None) -> bool:
    """Whether a run has all its epochs, and learned from ``data``: ``UserError`` if from others."""
    last = run / "last.safetensors"
    if not last.is_file():  # written after every epoch
        return False
    metrics = read_checkpoint(last).metrics
    if data is not None:
        check_data(last, metrics.get("data") or data, data)
    return bool(metrics["val"]["epoch"] >= read_recipe(str(run / "recipe.yaml")).epochs)


def _run(recipe: Recipe, folder: Path, label: str, data: dict[str, Any]) -> Path:
    started = (folder / "resume.pt").exists()
    if started or (folder / "last.safetensors").exists():
        there, here = _deciding(read_recipe(str(folder / "recipe.yaml"))), _deciding(recipe)
        others = [
            f"{key} {there[key]} there, {here[key]} here" for key in here if there[key] != here[key]
        ]
        if others:
            raise UserError(
                f"{folder}: a run of another recipe is there ({'; '.join(others)}); choose another"
                " --out"
            )
    console.rule(f"{label}, seed {recipe.seed}")
    if _is_finished(folder, data):
        console.print("finished already", markup=False)
        return folder
    outcome = train(recipe, folder, resume=started)
    if not outcome.finished:
        console.print("the comparison goes on by the same command", markup=False)
        raise KeyboardInterrupt
    return folder


def _deciding(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the result of its run."""
    return recipe.model_dump(exclude={"workers"})


def _training(run: Path) -> list[dict[str, Any]]:
    """What a run's log says of each epoch of training."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def folder_name(model: str, options: Mapping[str, Any], seed: int) -> str:
    """Where a run of a variant is kept: by what it is, so that studies share it."""
    words = [model, *(f"{key}={value}" for key, value in sorted(options.items()))]
    what = "-".join("".join(c if c.isalnum() else " " for c in " ".join(words)).split())
    return f"{what}-seed{seed}"


def _finite(value: Any) -> Any:
    """NaN has no place in JSON."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
