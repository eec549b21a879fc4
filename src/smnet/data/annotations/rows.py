"""From rows to a checked ``ClipSet``: splits, duplicates, missing files, classes without clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from smnet.data.annotations.form import Reading
from smnet.data.annotations.groups import assign_groups, keep_together
from smnet.data.annotations.places import Place
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.splits import by_number, draw_split, groups_of
from smnet.data.clips import Clip, ClipSet, Part
from smnet.errors import UserError

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
# A clip that is in two splits stays in the stronger one, so results remain comparable.
STRENGTH = {"train": 0, "val": 1, "test": 2}


@dataclass(slots=True)
class Row:
    """One row of an annotation.

    Attributes:
        place: the clip.
        label: index into the classes; -1 = none, as in official test lists.
        split: "train", "val" or "test"; None = to be drawn.
        source: where the row is, ``"train.csv:17"``.
        num_frames: the number of frames by the annotation, for folders of frames.
        template: file name pattern of the frames, ``"img_%05d.jpg"``.
        part: the part of the file; None = all of it.
        labels, group, fold: see :class:`smnet.data.clips.Clip`.
    """

    place: Place
    label: int
    split: str | None
    source: str
    num_frames: int | None = None
    template: str | None = None
    part: Part | None = None
    labels: tuple[int, ...] = ()
    group: str | None = None
    fold: str | None = None

    @property
    def path(self) -> str:
        return self.place.path

    def clip(self) -> Clip:
        part = self.part or Part()
        return Clip(
            self.path,
            self.label,
            self.source,
            self.num_frames if self.place.folder else None,
            self.template if self.place.folder else None,
            *(part.start, part.end, part.unit),
            *(self.labels, self.group, self.fold),
        )


def assemble(
    reading: Reading,
    name: str,
    rows: Iterable[Row],
    classes: Sequence[str],
    why: Sequence[str],
    *,
    root: Path,
    allow_idle: bool = False,
) -> ClipSet:
    """Check rows and put them into splits.

    Args:
        reading: the data set; its ``problems`` may hold problems of rows already.
        name: the name of the form.
        rows: the rows with a valid label.
        classes: class names in index order.
        why: what the user should know, in order: how the form was recognised, what was decided.
        root: the folder that the paths of the rows are relative to. A drawn split depends on the
            paths below it, so a data set has the same split in every place.
        allow_idle: report a class without a training clip instead of refusing it (official lists,
            which users cannot correct).

    Raises:
        UserError: one error with all problems.
    """
    problems, why = reading.problems, list(why)
    kept = _unique(rows, problems)
    if parts := [row for row in kept if row.part is not None]:
        why.append(f"{len(parts)} parts of {len({row.path for row in parts})} files")
    if not reading.source.folds:
        why += _hold_out_by_column(kept, reading)
    idle = _idle_classes(kept, classes)
    if idle and allow_idle:
        why.append(f"without a training clip: {', '.join(classes[index] for index in idle)}")
    elif idle:
        _refuse_idle(idle, classes, problems)
    sides = {row.split for row in kept}
    drawn = None in sides
    if reading.source.groups == "auto" and (drawn or reading.source.folds):
        why += assign_groups(kept)
    if reading.source.copies and (drawn or reading.source.folds):
        why += keep_together(kept, reading.data, reading.source.copies)
    if drawn:
        fraction, seed = reading.source.val_fraction or 0.0, reading.source.split_seed or 0
        free = [row for row in kept if row.split is None]
        labels = [row.label for row in free]
        for row, val in zip(free, draw_split(free, labels, root, fraction, seed), strict=True):
            row.split = "val" if val else "train"
        groups = len(set(groups_of(free)))
        by = "class" if groups == len(free) else f"class, {groups} groups kept whole"
        why.append(f"split drawn by {by}, val_fraction {fraction}, seed {seed}")
    splits: dict[str, list[Clip]] = {}
    gone: dict[str, list[Clip]] = {}
    for row in kept:
        side = splits if row.place.exists else gone
        side.setdefault(row.split or "train", []).append(row.clip())
        if side is gone and reading.missing == "error":
            problems.add("missing file", row.source, "no such clip", row.path)
    listed = splits.keys() | gone.keys()
    labelled = all(clip.label >= 0 for clip in splits.get("test", []))
    if {"train", "test"} <= listed and "val" not in listed and labelled:
        for side in (splits, gone):
            if "test" in side:
                side["val"] = side.pop("test")
        why.append("there is no val; test is used as val")
    if not kept and not problems.count("malformed row"):
        problems.add("no clip", str(reading.data), "no clip at all")
    if reading.missing == "report":
        for split in sorted(gone.keys() - splits.keys()):
            text = f"none of the {len(gone[split])} {split} clips exists"
            problems.add("no clip", str(reading.data), text)
    if problems.count("missing file"):
        problems.advise(
            f"Paths are relative to {root}. If the clips are elsewhere, give the folder: --root DIR"
            " (root=DIR for train). If clips are lost for good, leave them out: on_error=skip for"
            " train, --on-error skip for evaluate and data pack. They are counted."
        )
    problems.raise_any()
    if gone:
        counts = ", ".join(f"{split} {len(clips)}" for split, clips in gone.items())
        why.append(f"listed but missing: {counts}")
    return ClipSet(
        root=str(reading.data),
        format=name,
        why="; ".join(why),
        classes=tuple(classes),
        splits={split: splits[split] for split in ("train", "val", "test") if split in splits},
        missing=gone,
        drawn=sides <= {None, "test"} and drawn,
    )


def _hold_out_by_column(rows: list[Row], reading: Reading) -> list[str]:
    """Put the rows into train and val by the column fold, if there is no split; a note on it."""
    if any(row.split is not None for row in rows) or all(row.fold is None for row in rows):
        return []
    bare = sum(row.fold is None for row in rows)
    names = sorted({row.fold for row in rows if row.fold is not None}, key=by_number)
    fold = reading.source.fold or 1
    if bare or len(names) < 2:
        why = f"{bare} clips have none" if bare else "it names one fold"
        return [f"the column fold is not used, as {why}"]
    if fold > len(names):
        raise UserError(
            f"{reading.data}: fold={fold}: the column fold names {len(names)} folds"
            f" ({', '.join(names[:10])})"
        )
    for row in rows:
        row.split = "val" if row.fold == names[fold - 1] else "train"
    note = f"folds={len(names)} (train) measures each"
    return [f"fold {fold} of {len(names)} held out, by the column fold; {note}"]


def _unique(rows: Iterable[Row], problems: Problems) -> list[Row]:
    kept: dict[tuple[str, Part | None], Row] = {}
    for row in rows:
        key = (row.path, row.part)
        first = kept.setdefault(key, row)
        if first is row:
            continue
        across = first.split != row.split
        text = f"in {row.split}, " if across else ""
        text += f"already listed at {first.source}" + (f" in {first.split}" if across else "")
        if row.label != first.label:
            kind, text = "contradiction", f"{text}, with another label"
        else:
            kind = "leak" if across else "duplicate"
        problems.add(kind, row.source, text, row.clip().name)
        stronger = STRENGTH.get(row.split or "", 0) > STRENGTH.get(first.split or "", 0)
        if problems.collecting and stronger:
            kept[key] = row
    return list(kept.values())


def _idle_classes(rows: list[Row], classes: Sequence[str]) -> list[int]:
    trained = {
        label
        for row in rows
        if row.split in (None, "train")
        for label in row.labels or (row.label,)
    }
    return [index for index in range(len(classes)) if trained and index not in trained]


def _refuse_idle(idle: list[int], classes: Sequence[str], problems: Problems) -> None:
    for index in idle:
        text = f"no training clip of {classes[index]!r}"
        problems.add("class without a clip", problems.subject, text)
    if idle == [0] and classes[0] == "0":
        problems.advise(
            "Labels count from 0. If this list counts from 1, use --first-label 1 (first_label=1"
            " for train)."
        )
    else:
        problems.advise(
            "A class needs a training clip to be learned. Add clips, or leave these classes out of"
            " the class names (or remove their folders)."
        )
