"""The table of a comparison: rows with confidence intervals, as markdown, JSON and a picture."""

from __future__ import annotations

import math
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smnet.console import clock, console, finite, json_text
from smnet.errors import UserError
from smnet.files import write_text
from smnet.recipes.recipe import Recipe
from smnet.report import kit
from smnet.report.plotting import draw_accuracy, load_pyplot, save_picture
from smnet.system import describe_machine

TABLES = ("table.md", "table.json", "table.png", "report.html")
"""The files of a comparison, besides its runs."""

# Two-sided 95 % quantiles of Student's t for 1 to 20 degrees of freedom; the last holds beyond.
STUDENT = (
    *(12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23),
    *(2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09, 2.09),
)


@dataclass
class Row:
    """The results of one model.

    Attributes:
        label: its name in the table.
        model: registry name.
        top1: validation top-1 of the last epoch, per seed.
        parameters: number of learned values.
        gmacs: multiply-adds per clip, in 1e9.
        latency: median forward time of one clip, seconds.
        seconds: training time, per seed.
        not_read: largest number of unreadable validation clips; they count as wrong.
        options: model options in addition to those of the recipe.
        learned: training top-1 of the last epoch on augmented clips, per seed.
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
        """Half the 95 % confidence interval of the mean over seeds; NaN for one seed."""
        return half_width(self.top1)

    def over(self, other: Row) -> tuple[float, float]:
        """The paired difference of top-1 to another row: mean over seeds and :func:`half_width`.

        A seed that is hard for one model is hard for others, so the paired difference has a
        smaller interval than the difference of two means.
        """
        pairs = zip(self.top1, other.top1, strict=False)  # the seeds of both rows
        differences = [mine - theirs for mine, theirs in pairs]
        return statistics.fmean(differences), half_width(differences)


def half_width(values: Sequence[float]) -> float:
    """Half the 95 % confidence interval of a mean (Student's t); NaN for one value."""
    if len(values) < 2:
        return math.nan
    quantile = STUDENT[min(len(values) - 2, len(STUDENT) - 1)]
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def write_tables(rows: Sequence[Row], recipe: Recipe, seeds: int, out: Path) -> None:
    """Write ``table.md``, ``table.json``, ``report.html`` and, if matplotlib is installed,
    ``table.png``."""
    facts = {
        "machine": describe_machine(),
        "seeds": seeds,
        "recipe": recipe.model_dump(mode="json"),
    }
    values = [asdict(row) | {"mean": row.mean, "half_width": row.half_width} for row in rows]
    text = json_text(finite({**facts, "rows": values}), indent=2)
    write_text(out / "table.json", text + "\n")
    write_text(out / "table.md", markdown(rows, recipe, seeds))
    write_text(out / "report.html", page(rows, recipe, seeds, out.name))
    try:
        draw(rows, out / "table.png")
    except UserError as error:
        console.print(f"no picture: {error}", markup=False)


def page(rows: Sequence[Row], recipe: Recipe, seeds: int, name: str) -> str:
    """The comparison as a page: result, differences, cost, and what decides the ranking."""
    cells = []
    for row in rows:
        mean, half = row.over(rows[0])
        over = "-" if row is rows[0] else f"{100 * mean:+.1f}{_interval(half)}"
        latency = "-" if math.isnan(row.latency) else f"{1000 * row.latency:.0f} ms"
        cost = [f"{row.parameters / 1e6:.2f} M", f"{row.gmacs:.3g}", latency]
        top1 = f"{100 * row.mean:.1f}{_interval(row.half_width)}"
        cells.append([row.label, top1, over, *cost, clock(statistics.fmean(row.seconds))])
    heads = ["model", "top-1, %", "to the first row", "parameters", "GMAC", "latency", "training"]
    unsure = [
        row.label
        for row in rows[1:]
        if seeds > 1 and abs(row.over(rows[0])[0]) <= row.over(rows[0])[1]
    ]
    advice = (
        [f"Not told from {rows[0].label} by these seeds: {', '.join(unsure)}."] if unsure else []
    )
    if seeds < 3:
        advice.append("One or two seeds say little about small differences: use --seeds 3 or more.")
    bars = [
        (row.label, row.mean, f"{100 * row.mean:.1f}{_interval(row.half_width)}") for row in rows
    ]
    machine = ", ".join(f"{k} {v}" for k, v in describe_machine().items())
    return kit.page(
        f"Comparison: {name}",
        [
            kit.row(kit.bars(bars)),
            kit.section("Numbers", kit.table(heads, cells)),
            kit.section("What to do next", kit.bullets(advice)),
            kit.section("Protocol", kit.paragraph(_budget(rows, recipe, seeds))),
            kit.section("Machine", kit.paragraph(machine)),
            kit.section("Repeat it", kit.command("smnet " + shlex.join(sys.argv[1:]))),
        ],
    )


def markdown(rows: Sequence[Row], recipe: Recipe, seeds: int) -> str:
    """The table in Markdown, with budget and machine below it."""
    base = rows[0].latency
    lines = [
        "| model | top-1, mean of seeds | difference to first row | training top-1 | parameters"
        " | GMAC per clip | latency / first row |",
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
    return "\n".join([*lines, "", _budget(rows, recipe, seeds), "", f"Machine: {machine}.", ""])


def _budget(rows: Sequence[Row], recipe: Recipe, seeds: int) -> str:
    """The budget and the protocol of all runs."""
    options = "".join(f" {key}={value}," for key, value in recipe.options.items())
    if recipe.temporal_lr != 1:
        options += f" temporal_lr={recipe.temporal_lr:g},"
    budget = (
        f"{recipe.epochs} epochs,{options} {recipe.segments} segments of"
        f" {recipe.size} x {recipe.size}, weights {_from_where(recipe)},"
        f" {seeds} seed{'s' if seeds > 1 else ''};"
        " last epoch, one view; ± is the 95 % interval of the mean over seeds, for differences of"
        " the paired differences; training top-1 is that of the last epoch on augmented clips"
    )
    not_read = max(row.not_read for row in rows)
    if not_read:
        budget += f"; {not_read} validation clips could not be read and count as wrong"
    return f"{budget}."


def _from_where(recipe: Recipe) -> str:
    name = Path(recipe.weights).name
    return f"from the same run in {name}" if is_comparison(recipe.weights) else name


def _interval(half: float) -> str:
    return "" if math.isnan(half) else f" ± {100 * half:.1f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw accuracy over multiply-adds. Raises ``UserError`` if matplotlib is missing."""
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    most, least = max(row.gmacs for row in rows), min(row.gmacs for row in rows)
    span = max(most - least, 0.2 * most)  # small differences must not fill the picture
    apart = 0.025 * span
    for number, row in enumerate(rows):
        near = [k for k, other in enumerate(rows) if abs(other.gmacs - row.gmacs) < apart]
        half = 0.0 if math.isnan(row.half_width) else row.half_width
        cost = row.gmacs + apart * (near.index(number) - (len(near) - 1) / 2)
        draw_accuracy(axes, number, cost, row.mean, half, row.label)
    figure.legend(loc="outside right upper", frameon=False)
    axes.set_xlabel("GMAC per clip (overlapping points are moved apart)")
    axes.set_ylabel("top-1, %")
    axes.grid(alpha=0.3)
    axes.set_xlim(least - 0.2 * span, most + 0.2 * span)
    save_picture(path, figure, dpi=130)


def is_comparison(weights: str) -> bool:
    """Whether ``weights`` is the folder of a comparison, finished or not."""
    return any(Path(weights).glob("*-seed0/recipe.yaml"))
