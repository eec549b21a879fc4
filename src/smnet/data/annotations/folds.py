"""Cross-validation: the clips of one fold are held out, those of the others are for training."""

from __future__ import annotations

from dataclasses import replace

from smnet.data.annotations.splits import by_number, draw_folds, groups_of
from smnet.data.clips import Clip, ClipSet
from smnet.errors import UserError


def hold_out(clips: ClipSet, folds: int, fold: int, seed: int) -> ClipSet:
    """The data set with one fold as "val" and the other folds as "train".

    The folds are those of the column ``fold`` if every clip of "train" and "val" has one, in the
    order of their names. Otherwise they are drawn, see
    :func:`smnet.data.annotations.splits.draw_folds`. A "test" split stays as it is.

    Args:
        clips: the data set.
        folds: number of folds F.
        fold: the fold to hold out, from 1 to F.
        seed: of the draw.

    Raises:
        UserError: the column has another number of folds, there are fewer groups than folds, or a
            class would have no training clip.
    """
    sides = (clips.splits, clips.missing)
    listed = [(c, side) for side in sides for name in ("train", "val") for c in side.get(name, ())]
    both = [clip for clip, _ in listed]
    if not 1 <= fold <= folds:
        raise UserError(f"fold={fold}: there are folds 1 to {folds}")
    if all(clip.fold is not None for clip in both):
        names = sorted({str(clip.fold) for clip in both}, key=by_number)
        if len(names) != folds:
            raise UserError(
                f"{clips.root}: the column fold names {len(names)} folds ({', '.join(names[:10])});"
                f" use folds={len(names)}, or remove the column"
            )
        of = [names.index(str(clip.fold)) for clip in both]
        why = f"fold {fold} of {folds} held out, by the column fold"
    else:
        groups = len(set(groups_of(both)))
        if groups < folds:
            raise UserError(f"{clips.root}: {groups} groups of clips, too few for folds={folds}")
        of = draw_folds(both, folds, seed)
        by = f"{groups} groups kept whole, " if groups < len(both) else ""
        why = f"fold {fold} of {folds} held out, drawn by class, {by}seed {seed}"
    _check_classes(clips, both, of, fold)
    splits: dict[str, list[Clip]] = {"train": [], "val": []}
    missing: dict[str, list[Clip]] = {"train": [], "val": []}
    for (clip, side), number in zip(listed, of, strict=True):
        target = splits if side is clips.splits else missing
        target["val" if number == fold - 1 else "train"].append(clip)
    if "test" in clips.splits:
        splits["test"] = list(clips.splits["test"])
    if "test" in clips.missing:
        missing["test"] = clips.missing["test"]
    return replace(
        clips,
        why=f"{clips.why}; {why}",
        splits=dict(splits),
        missing={name: gone for name, gone in missing.items() if gone},
        drawn=False,
    )


def _check_classes(clips: ClipSet, both: list[Clip], of: list[int], fold: int) -> None:
    """Refuse folds that hold all clips of a class."""
    for label in sorted({clip.label for clip in both} - {-1}):
        places = {number for clip, number in zip(both, of, strict=True) if clip.label == label}
        if places == {fold - 1}:
            raise UserError(
                f"{clips.root}: fold {fold} holds all clips of {clips.classes[label]!r}, so none is"
                " left for training; add clips of other recordings, or leave that class out"
            )
