"""Clips of an adaptation that look alike: no fold of its cross-validation divides them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smnet.adapt.features import FeatureCache, rows_of
from smnet.adapt.selection import Samples
from smnet.adapt.tuning import say
from smnet.data.loading.copies import THUMBNAILS, copies, divisible, thumbnails, united
from smnet.recipes.recipe import Recipe
from smnet.training.copies import Look


def look_in(recipe: Recipe, folder: Path) -> Look:
    """Thumbnails of clips, kept in the folder of the run."""
    plan = replace(THUMBNAILS, decoder=recipe.decoder)
    cache = FeatureCache(folder / "thumbnails.npz")
    return lambda clips: rows_of(
        clips, plan, thumbnails, cache, "thumbnails", workers=recipe.workers
    )[0]


def unite_copies(recipe: Recipe, made: dict[str, Samples], folder: Path) -> None:
    """Make copies one group, so that no fold of cross-validation divides them."""
    both = [clip for samples in made.values() for clip in samples.clips]
    pairs = copies(look_in(recipe, folder)(both))
    if not pairs:
        return
    count = len({i for pair in pairs for i in pair})
    first, clips = len(made["train"]), united(both, pairs)
    if divisible(both[:first]) and not divisible(clips[:first]):
        say(f"copies: {count} clips look alike; they stay apart, or a class could not be divided")
        return
    for name, part in (("train", clips[:first]), ("val", clips[first:])):
        if part:
            made[name] = replace(made[name], clips=part)
    say(f"copies: {count} clips look like copies of each other; no random fold divides them")
    shared = len({j for i, j in pairs if i < first <= j})
    if shared:
        say(f"copies: {shared} validation clips look like training clips; remove one of each")
