"""Statistics of a data set: clips per class and split, durations, sizes, codecs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import Source
from smnet.data.checks.inspection import Facts, Inspection, inspect_clip
from smnet.data.checks.parts import part_facts
from smnet.data.clips import ClipSet
from smnet.data.workers.pool import ProcessPool


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, quartiles and maximum of a quantity over the clips that have it."""

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
    """Statistics of a data set.

    Attributes:
        clip_set: the data set, with its missing clips.
        facts: per split, in the order of ``clip_set.splits``; None for a clip that does not open.
        problems: number of rows of the annotation that cannot be used.
    """

    clip_set: ClipSet
    facts: dict[str, list[Facts | None]]
    problems: int

    @property
    def all(self) -> list[Facts]:
        """The facts of the clips that open."""
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
        """The number of clips per codec, size and frame rate, most frequent first."""
        facts = self.all
        return {
            "codec": _count(f.codec for f in facts),
            "size": _count(f"{f.width}x{f.height}" for f in facts),
            "fps": _count(f"{f.fps:.4g}" for f in facts if f.fps is not None),
        }

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain values for JSON."""
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
    source: Source,
    *,
    workers: int | None = None,
    timeout: float | None = 30.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Survey:
    """Open every clip of a data set, without decoding it, and collect its facts.

    Args:
        source: the data set, or its path.
        workers, timeout: as for :func:`smnet.data.checks.check.check_clips`.
        progress: called with (clips done, number of clips).

    Raises:
        UserError: the annotation as a whole cannot be read.
    """
    noted: list[Any] = []
    clip_set = read_clips(source, missing="report", problems=noted)
    clips = [clip for side in clip_set.splits.values() for clip in side]
    facts: list[Facts | None] = [None] * len(clips)
    work = partial(inspect_clip, decode=False, digest=False)
    files: dict[str, list[int]] = {}
    for position, clip in enumerate(clips):
        files.setdefault(clip.path, []).append(position)
    done = 0
    with ProcessPool(work, workers, timeout=timeout, window=1024) as pool:
        results = pool.map([clips[first] for first, *_ in files.values()])
        for positions, result in zip(files.values(), results, strict=True):
            if isinstance(result, Inspection):
                for position in positions:
                    facts[position] = part_facts(clips[position], result.facts)
            done += len(positions)
            progress(done, len(clips))
    remaining = iter(facts)
    by_split = {s: [next(remaining) for _ in side] for s, side in clip_set.splits.items()}
    return Survey(clip_set, by_split, len(noted))


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
