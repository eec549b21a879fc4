"""Draws clips of the class ``none`` from the time of recordings that no part covers.

A recogniser that knows the background can be silent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from smnet.data.clips import Clip, ClipSet
from smnet.data.video.container import open_container
from smnet.errors import UserError

NONE = "none"
"""The class of the background."""

_GRID = 1000  # borders of drawn parts are whole milliseconds
Gap = tuple[float, float]


def draw_background(clips: ClipSet, seed: int) -> ClipSet:
    """The data set with background clips, as many in each split as an average class has clips.

    A clip is as long as a part of the data set, drawn at random, and overlaps neither a part, of
    any split, nor another background clip. It belongs to the split of the parts of its recording; a
    recording with parts in several splits gives none. Unlabelled time is taken for background, so
    the parts of a recording must be complete.

    Args:
        clips: the data set. One without parts in seconds is returned as it is.
        seed: of the draw; the result does not depend on the order of the clips.
    """
    files: dict[str, list[tuple[str, Clip]]] = {}
    for split, side in clips.splits.items():
        for clip in side:
            if clip.part is not None and clip.unit == "s":
                files.setdefault(clip.path, []).append((split, clip))
    marks = [clip for of in files.values() for _, clip in of if clip.end is not None]
    lengths = sorted((clip.end or 0) - (clip.start or 0) for clip in marks)
    if not lengths:
        return replace(clips, why=f"{clips.why}; no background, as there are no parts")
    classes = clips.classes if NONE in clips.classes else (*clips.classes, NONE)
    label, number = classes.index(NONE), len(clips.classes) - (NONE in clips.classes)
    drawn: dict[str, list[Clip]] = {}
    for split, side in clips.splits.items():
        own = {p: [c for _, c in of] for p, of in files.items() if {s for s, _ in of} == {split}}
        wanted = math.ceil(len(side) / max(number, 1))
        rng = np.random.default_rng((seed, *split.encode()))
        drawn[split] = _draw(own, lengths, wanted, label, rng)
    if not drawn.get("train"):
        return replace(clips, why=f"{clips.why}; no background, as parts cover everything")
    counts = ", ".join(f"{split} {len(of)}" for split, of in drawn.items())
    ratio = sum(map(len, drawn.values())) / max(sum(map(len, clips.splits.values())), 1)
    return replace(
        clips,
        classes=classes,
        splits={split: [*side, *drawn[split]] for split, side in clips.splits.items()},
        why=f"{clips.why}; background drawn from time without a part: {counts}, {ratio:.2f} of the"
        f" labelled clips, seed {seed}",
    )


def _draw(
    files: dict[str, list[Clip]],
    lengths: Sequence[float],
    wanted: int,
    label: int,
    rng: np.random.Generator,
) -> list[Clip]:
    gaps = [(path, gap) for path in sorted(files) for gap in _gaps(files[path])]
    found: list[Clip] = []
    while len(found) < wanted:
        longest = max((end - start for _, (start, end) in gaps), default=0.0)
        possible = [length for length in lengths if length <= longest]
        if not possible:
            break
        length = possible[rng.integers(len(possible))]
        room = np.array([max(end - start - length + 1e-9, 0) for _, (start, end) in gaps])
        number = int(rng.choice(len(gaps), p=room / room.sum()))
        path, (low, high) = gaps.pop(number)
        start = math.ceil((low + rng.random() * (high - low - length)) * _GRID) / _GRID
        end = min(math.floor((start + length) * _GRID) / _GRID, high)
        first = files[path][0]
        source = f"background {first.source.partition(':')[0]}"
        found.append(Clip(path, label, source, start=start, end=end, group=first.group))
        gaps += [(path, (low, start)), (path, (end, high))]
    return sorted(found, key=lambda clip: (clip.path, clip.start))


def _gaps(parts: Sequence[Clip]) -> list[Gap]:
    """The time of a recording that no part covers, with the rest after the last part."""
    gaps: list[Gap] = []
    at = 0.0
    for start, end in sorted((c.start or 0.0, math.inf if c.end is None else c.end) for c in parts):
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    length = _seconds(parts[0].path)
    if length > at:
        gaps.append((at, length))
    return gaps


def _seconds(path: str) -> float:
    """The duration that a file declares, less a frame or two; 0 if it declares none."""
    try:
        with open_container(path) as container:
            return max((container.duration or 0) / 1e6 - 0.1, 0.0)
    except UserError:
        return 0.0
