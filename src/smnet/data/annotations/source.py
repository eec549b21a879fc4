"""Where a data set is and how its annotation is to be read, as one value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

DEFAULT_SPLIT: dict[str, Any] = {
    "fold": 1,
    "folds": 0,
    "val_fraction": 0.2,
    "split_seed": 0,
    "groups": "auto",
    "copies": (),
    "background": "off",
}
"""The default split: the first of several, or a random one where the data have none."""
MAX_FOLDS = 1000


@dataclass(frozen=True)
class ClipSource:
    """A data set and the options by which its annotation is read.

    Attributes:
        data: a folder, an annotation file, or the address of a packed set (``s3://bucket/set``).
        format: a name in ``smnet.data.annotations.formats.FORMATS``; None looks at the data.
        root: the folder that holds the clips, if it is not the folder of the annotation.
        labels: a file with the class names, if it is not the file beside the annotation.
        target: which labels are the classes, where an annotation has several kinds: a tier of ELAN,
            an attribute of VIA, a control of Label Studio; verb, noun or action of EPIC-KITCHENS.
        first_label: the number of the first class in lists of numbers, 0 or 1.
        fold: the official split of UCF101 and HMDB51: 1, 2 or 3. With ``folds``, the fold to hold
            out, from 1.
        folds: number of folds of a cross-validation, see
            :func:`smnet.data.annotations.folds.hold_out`; 0 is none.
        val_fraction: the share of each class, in [0, 1), that is drawn as "val" where the
            annotation has no split.
        split_seed: the seed of that draw. A seed gives the same split on every machine.
        groups: clips that a draw keeps together: ``"auto"``, also identical files and groups
            guessed from file names; ``"off"``, only parts of one file and the column ``group``.
        copies: clips that look alike and that a draw keeps together, too: sets of paths below the
            data set, see :func:`smnet.data.annotations.groups.name_below`.
        background: ``"auto"`` draws clips of the class ``none`` from what no part covers, see
            :func:`smnet.data.annotations.background.draw_background`; ``"off"`` draws none.

    The options of the split are None where the caller leaves them open. A checkpoint then provides
    them, see :meth:`with_split`; otherwise they are those of :data:`DEFAULT_SPLIT`.
    """

    data: str | os.PathLike[str]
    format: str | None = None
    root: str | os.PathLike[str] | None = None
    labels: str | os.PathLike[str] | None = None
    first_label: int = 0
    fold: int | None = None
    val_fraction: float | None = None
    split_seed: int | None = None
    folds: int | None = None
    groups: str | None = None
    copies: tuple[tuple[str, ...], ...] | None = None
    target: str | None = None
    background: str | None = None

    def with_split(self, recipe: Mapping[str, Any] | None) -> ClipSource:
        """This source, with open split options filled from ``recipe``, then from the defaults.

        Args:
            recipe: the recipe of a checkpoint, or what :func:`split_of` returned for it.
        """
        trained = split_of(recipe or {}) or DEFAULT_SPLIT
        return replace(self, **{k: v for k, v in trained.items() if getattr(self, k) is None})


Source = ClipSource | str | os.PathLike[str]
"""What functions take that read a data set: a source, or a plain path."""


def source_of(recipe: Any) -> ClipSource:
    """The data set of a recipe; the options of the split are left open.

    Args:
        recipe: an object with the keys of a recipe as attributes.
    """
    names = ("data", "format", "root", "labels", "first_label", "target")
    return ClipSource(**{name: getattr(recipe, name) for name in names})


def as_source(source: Source) -> ClipSource:
    """A plain path as a source with default options."""
    return source if isinstance(source, ClipSource) else ClipSource(source)


def split_of(recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """The split options of a recipe, or None if one is absent or out of range.

    Recipes come out of files from anywhere, so their values are checked here.
    """
    fold, fraction = recipe.get("fold"), recipe.get("val_fraction")
    # Early runs had no split seed; the seed of the run drew their split.
    seed = recipe.get("split_seed", recipe.get("seed"))
    # Earlier checkpoints know neither cross-validation nor guessed groups.
    folds, groups = recipe.get("folds", 0), recipe.get("groups", "off")
    copies = _copies(recipe.get("copies") or ())
    background = recipe.get("background", "off")
    if type(fold) is not int or not 1 <= fold <= MAX_FOLDS:
        return None
    if type(folds) is not int or not 0 <= folds <= MAX_FOLDS or groups not in ("auto", "off"):
        return None
    if background not in ("auto", "off") or copies is None:
        return None
    if not isinstance(fraction, int | float) or not 0 <= fraction < 1:
        return None
    if type(seed) is not int or not 0 <= seed < 2**32:
        return None
    return {
        "fold": fold,
        "folds": folds,
        "val_fraction": fraction,
        "split_seed": seed,
        "groups": groups,
        "copies": copies,
        "background": background,
    }


def _copies(value: object) -> tuple[tuple[str, ...], ...] | None:
    """Sets of paths as tuples; None if the value is something else."""
    if not isinstance(value, list | tuple):
        return None
    for one in value:
        if not isinstance(one, list | tuple) or not all(isinstance(name, str) for name in one):
            return None
    return tuple(tuple(one) for one in value)
