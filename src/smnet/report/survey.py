"""The statistics of a data set as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from smnet.data.checks.stats import Survey
from smnet.errors import UserError
from smnet.report.plotting import check_picture, drawn_name, load_pyplot, save_picture

_SHOWN_CLASSES = 40


def draw_survey(path: str | os.PathLike[str], survey: Survey) -> None:
    """Draw the statistics as ``.png``, ``.svg`` or ``.pdf``."""
    pyplot = load_pyplot()
    check_picture(path)
    if not survey.all:
        raise UserError(f"{path}: no clip could be opened, so there is nothing to draw")
    table = survey.by_class()
    splits = list(survey.clip_set.splits)
    names = sorted(table, key=lambda name: -sum(table[name].values()))
    skipped = max(len(names) - _SHOWN_CLASSES, 0)
    if skipped:  # the largest and the smallest classes show how uneven the set is
        half = _SHOWN_CLASSES // 2
        names = [*names[:half], f"… {skipped} classes between …", *names[-half:]]
    height = max(5.5, 0.24 * len(names) + 1.6)
    figure, (left, *right) = pyplot.subplots(
        1, 3, figsize=(15, height), layout="constrained", width_ratios=(1.5, 1, 1)
    )
    start = np.zeros(len(names))
    for split in splits:
        counts = np.array([table.get(name, {}).get(split, 0) for name in names])
        left.barh(range(len(names)), counts, left=start, label=split)
        start = start + counts
    short = [drawn_name(name) for name in names]
    left.set_yticks(range(len(names)), short, fontsize=8)
    left.set_ylim(max(len(names), 6) - 0.4, -0.6)  # thin bars for few classes too
    left.set_xlabel("clips")
    figure.legend(loc="outside lower left", ncols=len(splits))
    total = sum(len(side) for side in survey.facts.values())
    left.set_title(f"{total} clips, {len(survey.clip_set.classes)} classes")
    for axes in right:
        axes.remove()
    grid = left.get_gridspec()
    facts = survey.all
    panels: tuple[tuple[str, Sequence[float]], ...] = (
        ("duration, seconds", survey.seconds),
        ("frames", [f.frames for f in facts]),
        ("short side, pixels", [min(f.width, f.height) for f in facts]),
        ("frames per second", [f.fps for f in facts if f.fps is not None]),
    )
    columns = grid[1:].subgridspec(3, 2, hspace=0.12)
    for number, (title, values) in enumerate(panels):
        axes = figure.add_subplot(columns[number // 2, number % 2])
        _histogram(axes, title, values)
    kinds = survey.kinds()
    for number, title in enumerate(("codec", "size")):
        axes = figure.add_subplot(columns[2, number])
        first = list(kinds[title].items())[:6]
        axes.barh(range(len(first)), [count for _, count in first], color="tab:gray")
        axes.set_yticks(range(len(first)), [name for name, _ in first], fontsize=8)
        axes.set_ylim(5.6, -0.6)
        more = len(kinds[title]) - len(first)
        axes.set_title(f"{title}, {more} more" if more else title, fontsize=10)
    save_picture(path, figure, dpi=110)


def _histogram(axes: Any, title: str, values: Sequence[float]) -> None:
    axes.set_title(title, fontsize=10)
    if not values:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "unknown", ha="center", va="center", transform=axes.transAxes)
        return
    low, high = min(values), max(values)
    if low == high:
        axes.bar([low], [len(values)], width=max(low, 1) / 20)
        axes.set_xlim(low * 0.5, low * 1.5 + 1)
        axes.set_xticks([low], [f"{low:.4g}"])
        return
    # Outliers go into the last bar: one clip of an hour would leave one bar for all others.
    usual = float(np.percentile(values, 99.5))
    high = usual if high > 2 * usual else high
    beyond = sum(value > high for value in values)
    edges = np.linspace(low, high, 41)
    if all(value == int(value) for value in values):  # the same number of integers per bar
        step = -(-int(high - low + 1) // 40)
        edges = np.arange(low, high + step + 1, step) - 0.5
    axes.hist([min(value, high) for value in values], bins=edges.tolist())
    if beyond:
        axes.set_xlabel(f"last bar: {beyond} larger values included", fontsize=8)
