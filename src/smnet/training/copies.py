"""Clips that look alike, such as a recording that was trimmed anew: a drawn split keeps them
together, and a line says where a split that the data set names divides them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from smnet.console import clip_progress, plural
from smnet.data.annotations.groups import name_below
from smnet.data.clips import Clip, ClipSet
from smnet.data.loading.copies import copies, divisible, look_at, shared_copies, united
from smnet.data.loading.loader import ClipLoader
from smnet.files import in_utf8
from smnet.recipes.recipe import Recipe
from smnet.training.setup import read_training_clips

MOST = 1000
"""Clips that are compared with each other; every one of them is decoded once for it."""

Look = Callable[[Sequence[Clip]], NDArray[np.float32]]


def keep_copies_together(
    recipe: Recipe, clips: ClipSet, look: Look | None = None
) -> tuple[Recipe, ClipSet, str]:
    """Find clips that look alike, and draw the split or the folds again with these together.

    Nothing is done where the data set names the split, where ``recipe.copies`` says already which
    clips look alike, with ``groups=off``, and above :data:`MOST` clips.

    Args:
        recipe: the recipe of a run.
        clips: its clips.
        look: thumbnails (N, T, P) of clips, NaN for an unreadable one; None decodes the clips.

    Returns:
        The recipe with what was found in ``copies``, which decides the split from then on; the
        clips; and a line for the user.
    """
    both = [clip for name in ("train", "val") for clip in clips.splits.get(name, ())]
    drawn = clips.drawn or (recipe.folds > 0 and any(clip.fold is None for clip in both))
    if not drawn or recipe.copies is not None or recipe.groups == "off" or len(both) > MOST:
        return recipe, clips, ""
    pairs = copies((look or _looker(recipe))(both))
    if not pairs:
        return recipe.model_copy(update={"copies": ()}), clips, ""
    count = len({i for pair in pairs for i in pair})
    if divisible(both) and not divisible(united(both, pairs)):
        recipe = recipe.model_copy(update={"copies": ()})
        line = f"copies: {count} clips look alike; they stay apart, or a class could not be divided"
        return recipe, clips, line
    recipe = recipe.model_copy(update={"copies": _sets(both, pairs, clips.root)})
    line = f"copies: {count} clips look like copies of others, and no draw divides them"
    return recipe, read_training_clips(recipe), line


def _looker(recipe: Recipe) -> Look:
    """Thumbnails by decoding, with progress."""

    def look(clips: Sequence[Clip]) -> NDArray[np.float32]:
        with clip_progress("comparing clips", "unreadable") as update:
            return look_at(clips, recipe.decoder, recipe.workers, update)

    return look


def _sets(
    clips: Sequence[Clip], pairs: Sequence[tuple[int, int]], root: str
) -> tuple[tuple[str, ...], ...]:
    """The names of the clips that are connected by pairs, sorted. A recipe is text, so that names
    which are not valid UTF-8 are left out."""
    sets: dict[str, set[str]] = {}
    for clip in united([replace(clip, group=None) for clip in clips], pairs):
        name = name_below(clip.path, root)
        if clip.group is not None and name == in_utf8(name):
            sets.setdefault(clip.group, set()).add(name)
    return tuple(sorted(tuple(sorted(names)) for names in sets.values() if len(names) > 1))


def copies_note(loader: ClipLoader, val_loader: ClipLoader | None) -> str:
    """A line for the log where validation clips in memory look like training clips."""
    count = 0 if val_loader is None else shared_copies(loader.dataset, val_loader.dataset)
    if not count:
        return ""
    return (
        f"copies: {plural(count, 'validation clip')} in memory look like training clips, so the"
        " result is too good; remove one of each, or give both one group (column group)"
    )
