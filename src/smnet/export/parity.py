"""Compare an exported network with its checkpoint: scores, top-1 and speed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from smnet.checkpoints.metadata import view_plan
from smnet.console import progress_bar
from smnet.data.annotations.classes import match
from smnet.data.annotations.read import Clip, ClipSet, read_clips
from smnet.data.annotations.source import Source, as_source
from smnet.data.loading.dataset import ClipDataset, TestBatches
from smnet.data.loading.loader import make_loader
from smnet.errors import UserError
from smnet.evaluation.metrics import top_k
from smnet.files import temporary_folder
from smnet.inference.exported import CLIPS_AT_ONCE
from smnet.measure import Ratio, clock_for, in_turns
from smnet.models import ModelSpec

Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Scores (B, K) of clips (B, T*L, 3, h, w) uint8."""

MAX_DROP = 0.5
"""Points of top-1, in percent, that fp16 or int8 may cost."""
MOST_CLIPS = 500
"""Most clips that are compared, evenly spread over a longer list."""
RANDOM_CLIPS = 8
ROUNDS, SECONDS = 15, 20.0
"""Timed rounds, and the seconds after which no further round starts."""


@dataclass(frozen=True)
class Trial:
    """The clips on which two networks are compared.

    ``clips`` are (N, T*L, 3, h, w) uint8, one view each; ``labels`` (N,) in the model's classes, or
    None if they are unknown; ``source`` describes the clips for people.
    """

    clips: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    source: str


@dataclass(frozen=True)
class Parity:
    """The checkpoint (before) compared with the exported network (after).

    Attributes:
        max_abs: largest absolute difference of a score.
        max_rel: largest relative difference, of scores of at least 1 %.
        agreement: share of clips with the same best class.
        top1_before, top1_after: top-1 shares; None without labels.
        drop: lost top-1, see :func:`lost_points`.
        ms_before, ms_after: median milliseconds for one clip, measured in turns.
        speedup: median of before over after, round by round, with its quartiles.
        warning: one line if the machine was busy while the times were measured.
    """

    clips: int
    source: str
    max_abs: float
    max_rel: float
    agreement: float
    top1_before: float | None
    top1_after: float | None
    drop: float
    ms_before: float
    ms_after: float
    speedup: Ratio
    threads: int
    warning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        spread = {"speedup_low": self.speedup.low, "speedup_high": self.speedup.high}
        return {**asdict(self), "speedup": self.speedup.value, **spread}


@contextmanager
def trial_clips(spec: ModelSpec, source: Source | None, split: str, most: int) -> Iterator[Trial]:
    """Clips of a data set under the 1x1 test view; random clips without a data set.

    They are at most ``most`` clips, evenly spread over the list of the split. The first existing
    one of val, train and others replaces a split that is not there.

    Raises:
        UserError: the data set has no clips, or a clip cannot be read.
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
        name = f"{len(chosen)} clips{of} (split {split} of {as_source(source).data})"
        yield Trial(views, labels, name)
        del views


def score(network: Scorer, trial: Trial) -> NDArray[np.float32]:
    """Scores (N, K) of the clips, in batches of 1, 2, ... clips, which covers all batch sizes."""
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
    """Compare the scores of all clips, and the time for one clip; ``expected`` are the scores of
    ``before``, the checkpoint.

    Raises:
        UserError: the exported network gives scores that are not finite.
    """
    scores = score(after, trial)
    if not np.isfinite(scores).all():
        raise UserError("the exported network gives scores that are not finite numbers")
    differences = np.abs(scores - expected)
    counted = expected >= 0.01
    clip = trial.clips[:1]
    calls = [lambda: before(clip), lambda: after(clip)]
    timings = in_turns(calls, ROUNDS, clock=clock_for(threads), limit=SECONDS)
    return Parity(
        clips=len(expected),
        source=trial.source,
        max_abs=float(differences.max()),
        max_rel=float((differences[counted] / expected[counted]).max(initial=0)),
        agreement=_share(scores, expected.argmax(1)),
        top1_before=None if trial.labels is None else _share(expected, trial.labels),
        top1_after=None if trial.labels is None else _share(scores, trial.labels),
        drop=lost_points(expected, scores, trial.labels),
        ms_before=1000 * timings.median(0),
        ms_after=1000 * timings.median(1),
        speedup=timings.ratio(0, 1),
        threads=threads,
        warning=timings.warning,
    )


def drop_of(expected: NDArray[np.float32], after: Scorer, trial: Trial) -> float:
    """:attr:`Parity.drop` alone."""
    return lost_points(expected, score(after, trial), trial.labels)


def lost_points(
    expected: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64] | None
) -> float:
    """Lost top-1 in percent points; without labels each disagreement counts as a loss."""
    kept = 1.0 if labels is None else _share(expected, labels)
    share = _share(scores, expected.argmax(1) if labels is None else labels)
    return round(100 * (kept - share), 6)  # one clip of 200 is exactly 0.5


def _share(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of clips whose label is the best class; a tie counts as wrong, as in evaluate."""
    return float(top_k(scores, labels, 1).mean())


def parity_table(parity: Parity, before: str, after: str) -> Table:
    """The comparison as a table."""
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
    table.add_row("speedup, median (quartiles)", "", str(parity.speedup))
    table.caption, table.caption_justify = parity.warning or None, "left"
    return table


def _random_clips(shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Coarse random patterns. Noise of single pixels would look the same to a network."""
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
    """Labels in the model's classes; None if a clip has no label or an unknown class."""
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
