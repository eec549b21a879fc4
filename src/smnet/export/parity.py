"""Whether an exported network still says what the trained one says, and how fast it is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from smnet.checkpoints.metadata import view_plan
from smnet.console import progress_bar
from smnet.data.annotations.classes import match
from smnet.data.annotations.read import Clip, ClipSet, read_clips
from smnet.data.annotations.source import Source
from smnet.data.loading.dataset import ClipDataset, TestBatches
from smnet.data.loading.loader import make_loader
from smnet.errors import UserError
from smnet.evaluation.metrics import top_k
from smnet.files import temporary_folder
from smnet.inference.exported import CLIPS_AT_ONCE
from smnet.models import ModelSpec

Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Scores (B, K) of clips (B, T*L, 3, h, w) uint8."""

MAX_DROP = 0.5
"""Points of top-1, in percent, that fp16 or int8 may cost."""
MOST_CLIPS = 500
"""Clips that are compared at the most, evenly spread over a longer list."""
RANDOM_CLIPS = 8
ROUNDS, SECONDS = 15, 20.0
"""Timed rounds, and what they may take together; three are always run."""


@dataclass(frozen=True)
class Trial:
    """The clips on which two networks are compared.

    Attributes:
        clips: (N, T*L, 3, h, w) uint8, one view each; on the disk where they are many.
        labels: (N,) in the model's classes, or None where they are not known.
        source: where they come from, in words.
    """

    clips: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    source: str


@dataclass(frozen=True)
class Parity:
    """The trained network (before) against the exported one (after).

    Attributes:
        clips: how many were compared.
        source: what they were.
        max_abs: largest difference of a score.
        max_rel: largest difference over the score before, of scores of at least 1 %.
        agreement: share of clips whose best class is the same, and the best alone.
        top1_before, top1_after: shares of clips that are right, where labels are known.
        ms_before, ms_after: medians for one clip, in turns.
        threads: of both.
    """

    clips: int
    source: str
    max_abs: float
    max_rel: float
    agreement: float
    top1_before: float | None
    top1_after: float | None
    ms_before: float
    ms_after: float
    threads: int

    @property
    def drop(self) -> float:
        """Points of top-1 lost, in percent; without labels every disagreement counts as a loss."""
        if self.top1_before is None or self.top1_after is None:
            return _points(1 - self.agreement)
        return _points(self.top1_before - self.top1_after)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "drop": self.drop, "speedup": self.ms_before / self.ms_after}


@contextmanager
def trial_clips(
    spec: ModelSpec,
    source: Source | None,
    split: str,
    most: int,
) -> Iterator[Trial]:
    """Clips of a data set under the 1x1 test view; random ones without a data set.

    Args:
        spec: of the model that is to see them.
        source: the data set.
        split: whose clips; another one that exists takes the place of one that is missing.
        most: no more than so many, evenly spread over the list.

    Raises:
        UserError: no data there, or a clip that cannot be read.
    """
    shape = (spec.frames_per_clip, 3, spec.input_size, spec.input_size)
    if source is None:
        yield Trial(_random_clips(shape), None, f"{RANDOM_CLIPS} random clips, not of your data")
        return
    clip_set = read_clips(source)
    clips, split = _choose(clip_set, split)
    chosen = [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, most).astype(int))]
    labels = _labels(spec, clip_set, chosen)
    with temporary_folder() as folder:
        size = (len(chosen), *shape)
        views = np.lib.format.open_memmap(Path(folder, "clips.npy"), "w+", np.uint8, size)
        _read(spec, chosen, views)
        of = "" if len(chosen) == len(clips) else f" of {len(clips)}, evenly spread"
        yield Trial(
            views,
            labels,
            f"{len(chosen)} clips{of} (split {split} of {clip_set.root})",
        )
        del views


def score(network: Scorer, trial: Trial) -> NDArray[np.float32]:
    """Scores (N, K) of a trial's clips, in turn one, two, ... at a time: as they are used."""
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=len(trial.clips), note="")
        rows: list[NDArray[np.float32]] = []
        done = 0
        for size in itertools.cycle(range(1, CLIPS_AT_ONCE + 1)):
            if done >= len(trial.clips):
                break
            rows.append(network(trial.clips[done : done + size]))
            done += len(rows[-1])
            bar.advance(task, len(rows[-1]))
    return np.concatenate(rows)


def compare(
    before: Scorer,
    after: Scorer,
    trial: Trial,
    threads: int,
    expected: NDArray[np.float32],
) -> Parity:
    """Scores of all clips by both, and the time for one; ``expected`` is ``score(before, trial)``.

    Raises:
        UserError: scores that are not finite.
    """
    found = score(after, trial)
    if not np.isfinite(found).all():
        raise UserError("the exported network gives scores that are not finite numbers")
    differences = np.abs(found - expected)
    counted = expected >= 0.01
    ms_before, ms_after = _time_in_turns((before, after), trial.clips[:1])
    return Parity(
        clips=len(expected),
        source=trial.source,
        max_abs=float(differences.max()),
        max_rel=float((differences[counted] / expected[counted]).max(initial=0)),
        agreement=_share(found, expected.argmax(1)),
        top1_before=None if trial.labels is None else _share(expected, trial.labels),
        top1_after=None if trial.labels is None else _share(found, trial.labels),
        ms_before=ms_before,
        ms_after=ms_after,
        threads=threads,
    )


def drop_of(expected: NDArray[np.float32], after: Scorer, trial: Trial) -> float:
    """:attr:`Parity.drop` alone."""
    found = score(after, trial)
    if trial.labels is None:
        return _points(1 - _share(found, expected.argmax(1)))
    return _points(_share(expected, trial.labels) - _share(found, trial.labels))


def _share(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Of clips that have their label alone for the best class, as ``smnet evaluate`` counts."""
    return float(top_k(scores, labels, 1).mean())


def _points(share: float) -> float:
    """In percent, without the last digits, which would make one clip of 200 more than 0.5."""
    return round(100 * share, 6)


def parity_table(parity: Parity, before: str, after: str) -> Table:
    """The report for people."""
    table = Table("", before, after, box=None, pad_edge=False, title=parity.source)
    table.title_justify = "left"
    for column in table.columns[1:]:
        column.justify = "right"
    if parity.top1_before is not None and parity.top1_after is not None:
        table.add_row("top-1", f"{parity.top1_before:.1%}", f"{parity.top1_after:.1%}")
    table.add_row("same best class", "", f"{parity.agreement:.1%}")
    table.add_row("largest difference of a score", "", f"{parity.max_abs:.1e}")
    table.add_row("largest relative difference", "", f"{parity.max_rel:.1e}")
    table.add_row(
        f"one clip, {parity.threads} thread{'s' * (parity.threads > 1)}",
        f"{parity.ms_before:.1f} ms",
        f"{parity.ms_after:.1f} ms",
    )
    return table


def _random_clips(shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Clips of coarse moving patterns: noise of single pixels would all look alike to a network."""
    rng = np.random.default_rng(0)
    frames, channels, height, width = shape
    coarse = rng.integers(0, 256, (RANDOM_CLIPS, frames, channels, 8, 8), dtype=np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return np.ascontiguousarray(coarse[..., rows[:, None], columns])


def _choose(clip_set: ClipSet, split: str) -> tuple[Sequence[Clip], str]:
    for name in (split, "val", "train", *clip_set.splits):
        if clip_set.splits.get(name):
            return clip_set.splits[name], name
    raise UserError(f"{clip_set.root}: no clips to compare on")


def _labels(spec: ModelSpec, clip_set: ClipSet, clips: Sequence[Clip]) -> NDArray[np.int64] | None:
    """The clips' labels as the model numbers its classes, where they all have one it knows."""
    if any(clip.label < 0 for clip in clips):
        return None
    if spec.class_names is None:
        order = np.arange(len(clip_set.classes))
        known = len(clip_set.classes) == spec.num_classes
    else:
        try:
            order, known = np.array(match(spec.class_names, clip_set.classes).order), True
        except UserError:
            known = False
    return order[[clip.label for clip in clips]] if known else None


def _read(spec: ModelSpec, clips: Sequence[Clip], into: NDArray[np.uint8]) -> None:
    loader = make_loader(ClipDataset(clips, view_plan(spec)), TestBatches(len(clips), 1))
    with progress_bar() as bar:
        task = bar.add_task("reading clips", total=len(clips), note="")
        for batch in loader:
            for _, problem in batch.problems:
                raise UserError(problem)
            into[batch.indices.numpy()] = batch.views[:, 0].numpy()
            bar.advance(task)


def _time_in_turns(networks: tuple[Scorer, Scorer], clip: NDArray[np.uint8]) -> tuple[float, float]:
    """Median milliseconds of each for one clip; in turns, so that both see the same machine."""
    for network in networks:
        network(clip)
    taken: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(taken) < 3 or (len(taken) < ROUNDS and time.perf_counter() - began < SECONDS):
        marks = [time.perf_counter()]
        for network in networks:
            network(clip)
            marks.append(time.perf_counter())
        taken.append((1000 * (marks[1] - marks[0]), 1000 * (marks[2] - marks[1])))
    return median(t[0] for t in taken), median(t[1] for t in taken)
