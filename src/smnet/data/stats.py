"""What a data set consists of: clips by class and split, durations, sizes, codecs; as a picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from smnet.data.annotations import read_clips
from smnet.data.clips import ClipSet
from smnet.data.inspection import Facts, Inspection, inspect_clip
from smnet.data.isolation import run_isolated
from smnet.errors import UserError
from smnet.files import atomic_path
from smnet.pictures import drawn_name, load_pyplot

_SHOWN_CLASSES = 40


@dataclass(frozen=True, slots=True)
class Spread:
    """Five numbers of a quantity over the clips that have it."""

    low: float
    q25: float
    median: float
    q75: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        if not values:
            return None
        return cls(*(float(q) for q in np.percentile(values, (0, 25, 50, 75, 100))))


@dataclass(frozen=True)
class Survey:
    """The facts of a data set.

    Attributes:
        clip_set: as read; missing clips are counted by it.
        facts: per split, in the order of ``clip_set.splits``; None for a clip that does not open.
        problems: rows of the annotation that could not be used.
    """

    clip_set: ClipSet
    facts: dict[str, list[Facts | None]]
    problems: int

    @property
    def all(self) -> list[Facts]:
        """The clips that opened."""
        return [f for side in self.facts.values() for f in side if f is not None]

    @property
    def unreadable(self) -> int:
        return sum(f is None for side in self.facts.values() for f in side)

    @property
    def missing(self) -> int:
        return sum(len(clips) for clips in self.clip_set.missing.values())

    @property
    def seconds(self) -> list[float]:
        return [f.seconds for f in self.all if f.seconds is not None]

    def by_class(self) -> dict[str, dict[str, int]]:
        """{class: {split: clips}}, in the order of the classes."""
        classes = self.clip_set.classes
        table = {name: dict.fromkeys(self.clip_set.splits, 0) for name in classes}
        for split, clips in self.clip_set.splits.items():
            for clip in clips:
                if clip.label >= 0:
                    table[classes[clip.label]][split] += 1
        return table

    def spreads(self) -> dict[str, Spread | None]:
        """The spread of seconds, frames, fps, short side (pixels) and kilobytes."""
        facts = self.all
        return {
            "seconds": Spread.of(self.seconds),
            "frames": Spread.of([f.frames for f in facts]),
            "fps": Spread.of([f.fps for f in facts if f.fps is not None]),
            "short side": Spread.of([min(f.width, f.height) for f in facts]),
            "kB": Spread.of([f.bytes / 1000 for f in facts]),
        }

    def kinds(self) -> dict[str, dict[str, int]]:
        """How many clips have each codec, size and frame rate, the frequent ones first."""
        facts = self.all
        return {
            "codec": _count(f.codec for f in facts),
            "size": _count(f"{f.width}x{f.height}" for f in facts),
            "fps": _count(f"{f.fps:.4g}" for f in facts if f.fps is not None),
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        spreads = self.spreads().items()
        return {
            "data": self.clip_set.root,
            "format": self.clip_set.format,
            "clips": {split: len(clips) for split, clips in self.clip_set.splits.items()},
            "missing": self.missing,
            "unreadable": self.unreadable,
            "unusable_rows": self.problems,
            "hours": round(sum(self.seconds) / 3600, 6),
            "gigabytes": round(sum(f.bytes for f in self.all) / 1e9, 6),
            "spread": {
                name: None if s is None else [round(getattr(s, q), 4) for q in Spread.__slots__]
                for name, s in spreads
            },
            **self.kinds(),
            "classes": self.by_class(),
        }


def survey_clips(
    data: str | os.PathLike[str],
    format: str | None = None,
    *,
    workers: int | None = None,
    timeout: float | None = 30.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **hints: Any,
) -> Survey:
    """Open every clip of a data set, without decoding it, for its facts.

    Args:
        data, format, hints: as for :func:`smnet.data.annotations.read_clips`.
        workers, timeout: as for :func:`smnet.data.check.check_clips`.
        progress: called with (clips done, clips in all).

    Raises:
        UserError: the annotation as a whole cannot be read.
    """
    noted: list[Any] = []
    clip_set = read_clips(data, format, missing="report", found=noted, **hints)
    clips = [clip for side in clip_set.splits.values() for clip in side]
    facts: list[Facts | None] = [None] * len(clips)
    work = partial(inspect_clip, decode=False, digest=False)
    results = run_isolated(work, clips, workers=workers, timeout=timeout)
    for done, (position, result) in enumerate(results, start=1):
        if isinstance(result, Inspection):
            facts[position] = result.facts
        progress(done, len(clips))
    remaining = iter(facts)
    by_split = {s: [next(remaining) for _ in side] for s, side in clip_set.splits.items()}
    return Survey(clip_set, by_split, len(noted))


def draw_survey(path: str | os.PathLike[str], survey: Survey) -> None:
    """The survey as a picture (``.png``, ``.svg`` or ``.pdf``).

    Raises:
        UserError: matplotlib is missing, another suffix, or not one clip could be opened.
    """
    pyplot = load_pyplot()
    check_picture(path)
    if not survey.all:
        raise UserError(f"{path}: not one clip could be opened, so there is nothing to draw")
    table = survey.by_class()
    splits = list(survey.clip_set.splits)
    names = sorted(table, key=lambda name: -sum(table[name].values()))
    skipped = max(len(names) - _SHOWN_CLASSES, 0)
    if skipped:  # the two ends of the order tell how uneven it is
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
    left.set_ylim(max(len(names), 6) - 0.4, -0.6)  # few classes are no reason for fat bars
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
        ("frames a second", [f.fps for f in facts if f.fps is not None]),
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
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse a suffix that no picture has, before the clips are opened."""
    if Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"{path}: the statistics are drawn as .png, .svg or .pdf")


def _histogram(axes: Any, title: str, values: Sequence[float]) -> None:
    axes.set_title(title, fontsize=10)
    if not values:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "not known", ha="center", va="center", transform=axes.transAxes)
        return
    low, high = min(values), max(values)
    if low == high:
        axes.bar([low], [len(values)], width=max(low, 1) / 20)
        axes.set_xlim(low * 0.5, low * 1.5 + 1)
        axes.set_xticks([low], [f"{low:.4g}"])
        return
    # One clip of an hour must not squeeze all others into one bar.
    usual = float(np.percentile(values, 99.5))
    high = usual if high > 2 * usual else high
    beyond = sum(value > high for value in values)
    edges = np.linspace(low, high, 41)
    if all(value == int(value) for value in values):  # whole numbers want bars of equal right
        step = -(-int(high - low + 1) // 40)
        edges = np.arange(low, high + step + 1, step) - 0.5
    axes.hist([min(value, high) for value in values], bins=edges.tolist())
    if beyond:
        axes.set_xlabel(f"{beyond} beyond are in the last bar", fontsize=8)


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
