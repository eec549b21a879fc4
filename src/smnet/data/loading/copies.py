"""Copies among clips: one recording that was encoded, scaled, brightened or trimmed anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from smnet.data.annotations.splits import groups_of
from smnet.data.clips import Clip
from smnet.data.loading.dataset import ClipDataset, TestBatches, read_views
from smnet.data.loading.loader import make_loader
from smnet.data.loading.views import ViewPlan

THUMBNAILS = ViewPlan(size=16, short_side=16, segments=8)
"""The views by which clips are compared."""
SAME_PLACE, SAME_CHANGE = 0.9, 0.7
"""Correlations above which two clips are copies."""
_ROWS = 256  # clips that are compared with all others at once
_AT_ONCE = 8  # clips of a batch


def thumbnails(views: Tensor) -> NDArray[np.float32]:
    """Grey thumbnails (B, T, 256) of views (B, 1, T, 3, 16, 16) uint8."""
    grey: NDArray[np.float32] = views[:, 0].float().mean(2).flatten(2).numpy()
    return grey


def look_at(
    clips: Sequence[Clip],
    decoder: str,
    workers: int | None,
    progress: Callable[[int, int, int], None] = lambda done, total, failed: None,
) -> NDArray[np.float32]:
    """Thumbnails (N, T, 256) of clips, by which :func:`copies` compares them.

    Args:
        clips: the clips.
        decoder: ``"pyav"`` or ``"torchcodec"``.
        workers: decoding processes; None is one per core, at most 8.
        progress: is called with the clips done, their number, and those that cannot be read, which
            are NaN in the result.
    """
    dataset = ClipDataset(clips, replace(THUMBNAILS, decoder=decoder))
    grey = np.full((len(clips), THUMBNAILS.segments, THUMBNAILS.size**2), np.nan, np.float32)
    done = failed = 0
    for part in make_loader(dataset, TestBatches(len(clips), _AT_ONCE), workers):
        if len(part.indices):
            grey[part.indices.numpy()] = thumbnails(part.views)
        failed += len(part.problems)
        done += len(part.indices) + len(part.problems)
        progress(done, len(clips), failed)
    return grey


def copies(grey: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of clips that show the same.

    The means over time must correlate, which clips of one place do, and so must the changes from
    these means, which only copies do. Clips without change are compared by their means alone.

    Args:
        grey: (N, T, P) thumbnails; clips that are not finite are copies of none.
    """
    usable = np.flatnonzero(np.isfinite(grey).all((1, 2)))
    mean = grey[usable].mean(1, keepdims=True, dtype=np.float64)
    place, still = _unit(mean - mean.mean(2, keepdims=True))
    change, frozen = _unit(grey[usable] - mean)
    pairs = []
    for first in range(0, len(usable), _ROWS):
        rows = slice(first, first + _ROWS)
        same = place[rows] @ place.T > SAME_PLACE
        moved = change[rows] @ change.T > SAME_CHANGE
        same &= moved | (frozen[rows, None] & frozen)
        same &= ~(still[rows, None] | still)
        pairs += [(first + int(i), int(j)) for i, j in np.argwhere(same) if first + i < j]
    return [(int(usable[i]), int(usable[j])) for i, j in pairs]


def shared_copies(train: ClipDataset, val: ClipDataset) -> int:
    """The number of validation clips that are copies of training clips, among those in memory."""
    kept = [*train.kept.values(), *val.kept.values()]
    if not train.kept or not val.kept:
        return 0
    grey = [thumbnails(read_views(video, THUMBNAILS)[None])[0] for video in kept]
    first = len(train.kept)
    return len({j for i, j in copies(np.stack(grey)) if i < first <= j})


def _unit(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rows of length 1, and which are below half a grey level per pixel."""
    flat = x.reshape(len(x), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(length, 1e-9), length[:, 0] < 0.5 * np.sqrt(flat.shape[1])


def united(clips: Sequence[Clip], pairs: Sequence[tuple[int, int]]) -> list[Clip]:
    """The clips, with one group for the clips of each pair and for all others of their groups."""
    names = [clip.group if clip.group is not None else clip.path for clip in clips]
    for i, j in pairs:
        names = [names[i] if name == names[j] else name for name in names]
    changed = {names[k] for pair in pairs for k in pair}
    return [
        replace(clip, group=name) if name in changed else clip
        for clip, name in zip(clips, names, strict=True)
    ]


def divisible(clips: Sequence[Clip]) -> bool:
    """Whether every class has clips of two groups, so that folds can divide it."""
    groups: dict[int, set[int]] = {}
    for clip, group in zip(clips, groups_of(clips), strict=True):
        groups.setdefault(clip.label, set()).add(group)
    return all(len(of) > 1 for of in groups.values())
