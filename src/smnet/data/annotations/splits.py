"""Draws splits and folds of cross-validation: by class, and never through a group of clips.

All parts of a file are one group, and so are the clips with the same ``group``.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Clip


class Grouped(Protocol):
    """What a clip belongs to."""

    @property
    def path(self) -> str: ...

    @property
    def group(self) -> str | None: ...


def groups_of(clips: Sequence[Grouped]) -> list[int]:
    """The group of each clip, numbered from 0 in the order of the list.

    Clips of one file are of one group, and so are clips with the same ``group``.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for clip in clips:
        path = root(("path", clip.path))
        if clip.group is not None:
            parent[path] = root(("group", clip.group))
    numbers: dict[tuple[str, str], int] = {}
    return [numbers.setdefault(root(("path", clip.path)), len(numbers)) for clip in clips]


def draw_split(
    clips: Sequence[Grouped], labels: Sequence[int], root: str | Path, fraction: float, seed: int
) -> list[bool]:
    """Choose the clips of the validation set.

    Where every clip is a group of its own, the clips of a class are ordered by a hash of the seed
    and of the path below ``root``. The first ``fraction`` of them (rounded, at least one, never
    all) are chosen. The order on the disk and in the list does not matter, and a new clip moves few
    others. A single clip is not chosen.

    Otherwise groups are chosen, such that the share of every class is near ``fraction``. No class
    loses its last training clip.

    Returns:
        Per clip, whether it is chosen.
    """
    hashes = [_hash(clip.path, root, seed) for clip in clips]
    groups = groups_of(clips)
    if len(set(groups)) < len(groups):
        members = _members(groups, hashes)
        counts = _counts(members, labels)
        chosen = _choose(counts, fraction)
        val = {clip for group, of in enumerate(members) if chosen[group] for clip in of}
        return [position in val for position in range(len(clips))]
    by_class: dict[int, list[tuple[bytes, str, int]]] = {}
    for position, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        by_class.setdefault(label, []).append((hashes[position], clip.path, position))
    drawn = [False] * len(clips)
    for of_class in by_class.values():
        count = int(len(of_class) * fraction + 0.5)
        if fraction > 0 and len(of_class) > 1:
            count = min(max(count, 1), len(of_class) - 1)
        elif len(of_class) == 1:
            count = 0
        for _, _, position in sorted(of_class)[:count]:
            drawn[position] = True
    return drawn


def draw_folds(clips: Sequence[Clip], folds: int, seed: int) -> list[int]:
    """Divide clips into folds of cross-validation, stratified by class, never through a group.

    Where every clip is a group of its own, each fold has its share of every class within one clip.

    Args:
        clips: the clips.
        folds: F, number of folds.
        seed: of the draw; the result depends on it and on the paths below their common folder.

    Returns:
        The fold of each clip, in [0, F).
    """
    root = os.path.commonpath([os.path.dirname(c.path) for c in clips] or [os.sep])  # noqa: PTH120
    members = _members(groups_of(clips), [_hash(clip.path, root, seed) for clip in clips])
    # Large groups first; those of similar size in random order.
    members.sort(key=lambda of: -int(np.log2(len(of))))
    counts = _counts(members, [clip.label for clip in clips])
    weights = 1 / counts.sum(0)
    target = counts.sum(0) / folds
    have = np.zeros((folds, counts.shape[1]))
    result = [0] * len(clips)
    for of, group in zip(members, counts, strict=True):
        cost = (weights * group * (2 * (have - target) + group)).sum(1)
        fold = np.lexsort((have.sum(1), cost.round(9)))[0]
        have[fold] += group
        for clip in of:
            result[clip] = int(fold)
    return result


def _members(groups: Sequence[int], hashes: Sequence[bytes]) -> list[list[int]]:
    """The clips of each group, the groups in the order of their hashes."""
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    return sorted(members.values(), key=lambda of: min(hashes[clip] for clip in of))


def _counts(members: Sequence[Sequence[int]], labels: Sequence[int]) -> NDArray[np.int64]:
    """Clips per group and class, (G, K)."""
    classes = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    counts = np.zeros((len(members), len(classes)), dtype=np.int64)
    for group, of in enumerate(members):
        for clip in of:
            counts[group, classes[labels[clip]]] += 1
    return counts


def _choose(counts: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Choose groups by their clips per class, (G, K) -> (G,).

    The groups are visited in order and taken where that brings the shares of the classes nearer to
    ``fraction``. Then single groups are exchanged as long as this improves the shares.
    """
    totals = counts.sum(0)
    chosen = np.zeros(len(counts), dtype=bool)
    have = np.zeros(len(totals))

    def costs(groups: slice) -> NDArray[np.float64]:
        """The cost after moving each group to the other side; infinite where a class is lost."""
        after = have + np.where(chosen[groups], -1, 1)[:, None] * counts[groups]
        cost: NDArray[np.float64] = ((after - fraction * totals) ** 2 / totals).sum(1)
        cost[((after >= totals) & (counts[groups] > 0)).any(1)] = np.inf
        return cost

    def move(group: int) -> None:
        have[:] += counts[group] * (-1 if chosen[group] else 1)
        chosen[group] ^= True

    def now() -> float:
        return float(((have - fraction * totals) ** 2 / totals).sum())

    for group in range(len(counts)):
        if costs(slice(group, group + 1))[0] < now():
            move(group)
    while (cost := costs(slice(None))).min() < now() - 1e-9:
        move(int(cost.argmin()))
    if fraction > 0 and not chosen.any() and np.isfinite(cost.min()):
        move(int(cost.argmin()))
    return chosen


def _hash(path: str, root: str | Path, seed: int) -> bytes:
    below = os.path.relpath(path, root).replace(os.sep, "/")
    text = f"{seed}/{unicodedata.normalize('NFC', below)}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def by_number(name: str) -> list[tuple[int, str]]:
    """Sorts names with numbers, 2 before 10."""
    return [
        (int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", name)
    ]
