"""Print profiles as tables, and draw accuracy over cost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from smnet.errors import UserError
from smnet.experiments.profile import Part, Profile, ProfileTable
from smnet.experiments.study import read_models
from smnet.report.plotting import draw_accuracy, load_pyplot, save_picture
from smnet.report.tables import plain_table
from smnet.system import describe_machine


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of a model in a table of ``smnet compare``; shares are in [0, 1]."""

    label: str
    model: str
    top1: float
    half_width: float | None
    gmacs: float
    options: dict[str, Any] | None = None  # None in tables of early versions


def print_profiles(profiles: ProfileTable) -> None:
    """Print one row per model, then the shares of its stages and temporal modules."""
    console = Console(highlight=False, emoji=False)
    table = _table("model", "parameters", "GMAC/clip", "saved MB/clip", "forward", "step")
    for p in profiles.profiles:
        table.add_row(
            p.model.replace(":", "\n:"),  # a narrow table breaks lines anywhere
            f"{p.parameters / 1e6:.2f} M",
            _three(p.macs / 1e9),
            _three(p.saved / 1e6),
            f"{p.forward_ratio.value:.2f}",
            f"{p.step_ratio.value:.2f}",
        )
    console.print(table)
    reference = profiles.reference
    console.print(
        f"\nforward pass and training step in units of {reference.model}:"
        f" {1e3 * reference.forward:.1f} and {1e3 * reference.step:.1f} ms ({profiles.clock} time)"
        f" per batch of {profiles.batch}; {profiles.segments} segments of {profiles.size} x"
        f" {profiles.size}, float32; medians of ratios measured in turns"
    )
    machine = ", ".join(f"{k} {v}" for k, v in describe_machine().items())
    console.print(f"{profiles.device}: {machine}", soft_wrap=True)
    if profiles.warning:
        console.print(profiles.warning, soft_wrap=True)
    for p in profiles.profiles:
        console.print(f"\n{p.model}, shares:")
        console.print(_parts(p))
        for swap in p.swaps:
            console.print(str(swap), soft_wrap=True, markup=False)


def _three(number: float) -> str:
    """At least three significant digits: 0.0885, 0.885, 8.85, 88.5, 885, 8850."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def read_results(files: Sequence[str | os.PathLike[str]], models: set[str]) -> list[Accuracy]:
    """The rows of the given models in ``table.json`` files of ``smnet compare``.

    Raises:
        UserError: a file is missing or of another kind, or no row is of these models.
    """
    rows = []
    for file in files:
        try:
            table = json.loads(Path(file).read_text(encoding="utf-8"))
            rows += [
                Accuracy(
                    str(row["label"]),
                    str(row["model"]),
                    float(row["mean"]),
                    None if row["half_width"] is None else float(row["half_width"]),
                    float(row["gmacs"]),
                    row.get("options"),
                )
                for row in table["rows"]
            ]
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
        except (ValueError, TypeError, LookupError, RecursionError):
            raise UserError(f"{file}: not a table.json of smnet compare") from None
    chosen = [row for row in rows if row.model in models]
    if not chosen:
        trained = ", ".join(sorted({row.model for row in rows})) or "none"
        raise UserError(f"the results are of other models ({trained}); profile those to draw them")
    return chosen


def draw(path: str | os.PathLike[str], profiles: ProfileTable, rows: Sequence[Accuracy]) -> None:
    """Draw accuracy over multiply-adds (as trained) and over forward time (as profiled).

    A row whose model and options were not profiled appears over multiply-adds only.
    """
    pyplot = load_pyplot()
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for number, row in enumerate(rows):
        timed = time_of(row, rows, profiles)
        costs = (row.gmacs,) if timed is None else (row.gmacs, timed)
        for axes, cost in zip(panels, costs, strict=False):
            label = row.label if axes is panels[0] else None
            draw_accuracy(axes, number, cost, row.top1, row.half_width or 0.0, label)
    figure.legend(loc="outside right upper", frameon=False)
    for axes, label in zip(
        panels,
        ("GMAC per clip", f"forward time relative to {profiles.reference.model}"),
        strict=True,
    ):
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.margins(x=0.15)
    panels[0].set_ylabel("top-1, %")
    save_picture(path, figure, dpi=130)


def time_of(row: Accuracy, rows: Sequence[Accuracy], profiles: ProfileTable) -> float | None:
    """Forward time of a row relative to the reference; None if it was not profiled."""
    options = row.options
    if options is None and [other.model for other in rows].count(row.model) == 1:
        options = {}
    for profile in profiles.profiles:
        (profiled,) = read_models(profile.model)
        if (profiled.model, profiled.options) == (row.model, options):
            return profile.forward_ratio.value
    return None


def _parts(p: Profile) -> Table:
    table = _table("part", "parameters", "of all", "MMAC", "of all")
    together = Part(
        f"temporal ({len(p.temporal)})",
        sum(part.parameters for part in p.temporal),
        sum(part.macs for part in p.temporal),
    )
    rows: list[Any] = [*p.stages, together, *p.temporal] if p.temporal else p.stages
    for part in rows:
        table.add_row(
            f"  {part.name}" if part in p.temporal else part.name,
            f"{part.parameters:,}",
            f"{part.parameters / p.parameters:.1%}",
            f"{part.macs / 1e6:,.2f}",
            f"{part.macs / p.macs:.1%}",
        )
    return table


def _table(*columns: str) -> Table:
    table = plain_table(*columns)
    table.columns[0].overflow = "fold"
    return table
