"""From rows to a checked ``ClipSet``: splits, duplicates, missing files, classes without a clip."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smnet.data.annotations.places import Place
from smnet.data.annotations.problems import Problem, Problems
from smnet.data.annotations.source import ClipSource
from smnet.data.clips import Clip, ClipSet

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
# Of a clip in two splits, the one in the stronger stays: results remain comparable.
STRENGTH = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class Hints:
    """What a caller may say about an annotation; the meaning is with ``read_clips``."""

    source: ClipSource
    root: Path | None = None
    labels: Path | None = None
    missing: Literal["error", "report"] = "error"
    check_files: bool = True
    found: list[Problem] | None = None

    @property
    def first_label(self) -> int:
        return self.source.first_label

    @property
    def fold(self) -> int:
        return self.source.fold or 1

    @property
    def val_fraction(self) -> float:
        return self.source.val_fraction or 0.0

    @property
    def seed(self) -> int:
        return self.source.split_seed or 0


@dataclass(slots=True)
class Row:
    """One row whose label is known. ``split`` None = to be drawn."""

    place: Place
    label: int
    split: str | None
    source: str
    num_frames: int | None = None
    template: str | None = None

    def clip(self) -> Clip:
        frames = self.num_frames if self.place.folder else None
        template = self.template if self.place.folder else None
        return Clip(self.place.path, self.label, self.source, frames, template)


def assemble(
    rows: Iterable[Row],
    *,
    data: Path,
    root: Path,
    name: str,
    why: list[str],
    classes: Sequence[str],
    problems: Problems,
    hints: Hints,
    allow_idle: bool = False,
) -> ClipSet:
    """Check rows and put them into splits.

    Args:
        data: what the user pointed at.
        root: what the paths of the rows are relative to; the drawn split depends on the paths
            below it, so the same data draw the same split wherever they lie.
        name: the name of the format.
        why: what to tell the user, in order.
        classes: class names in index order.
        problems: what the reader of the rows found already.
        hints: what the caller said.
        allow_idle: a class without a training clip is told, not refused (official lists, which
            nobody can mend).

    Raises:
        UserError: one, with all problems.
    """
    kept = _unique(rows, problems)
    idle = _idle_classes(kept, classes)
    if idle and allow_idle:
        why = [*why, f"without a training clip: {', '.join(classes[index] for index in idle)}"]
    elif idle:
        _refuse_idle(idle, classes, problems)
    drawn = any(row.split is None for row in kept)
    if drawn:
        draw_split(kept, root, hints)
        why = [*why, f"split drawn by class, val_fraction {hints.val_fraction}, seed {hints.seed}"]
    splits: dict[str, list[Clip]] = {}
    gone: dict[str, list[Clip]] = {}
    for row in kept:
        side = splits if row.place.exists else gone
        side.setdefault(row.split or "train", []).append(row.clip())
        if side is gone and hints.missing == "error":
            text = f"no such clip: {row.place.path}"
            problems.add("missing file", row.source, text, row.place.path)
    listed = splits.keys() | gone.keys()
    labelled = all(clip.label >= 0 for clip in splits.get("test", []))
    if {"train", "test"} <= listed and "val" not in listed and labelled:
        for side in (splits, gone):
            if "test" in side:
                side["val"] = side.pop("test")
        why = [*why, "there is no val; test is used as val"]
    if not kept and not problems.count("malformed row"):
        problems.add("no clip", str(data), "not one clip")
    for split in sorted(gone.keys() - splits.keys()) if hints.missing == "report" else ():
        text = f"not one of the {len(gone[split])} {split} clips exists"
        problems.add("no clip", str(data), text)
    if problems.count("missing file"):
        problems.advise(
            f"Paths are relative to {root}; say root= where the clips lie elsewhere."
            ' Where clips are gone for good, missing="report" (on_error=skip of train and'
            " evaluate) leaves them out and counts them."
        )
    problems.raise_any()
    if gone:
        counts = ", ".join(f"{split} {len(clips)}" for split, clips in gone.items())
        why = [*why, f"listed but missing: {counts}"]
    order = [split for split in ("train", "val", "test") if split in splits]
    return ClipSet(
        root=str(data),
        format=name,
        why="; ".join(why),
        classes=tuple(classes),
        splits={split: splits[split] for split in order},
        missing=gone,
        drawn=drawn,
    )


def _unique(rows: Iterable[Row], problems: Problems) -> list[Row]:
    kept: dict[str, Row] = {}
    for row in rows:
        first = kept.setdefault(row.place.path, row)
        if first is row:
            continue
        across = f", there in {first.split}" if first.split != row.split else ""
        here = f" in {row.split}" if across else ""
        text = f"{row.place.path}{here} stands already at {first.source}{across}"
        if row.label != first.label:
            problems.add("contradiction", row.source, f"{text}, with another label", row.place.path)
        else:
            problems.add("leak" if across else "duplicate", row.source, text, row.place.path)
        stronger = STRENGTH.get(row.split or "", 0) > STRENGTH.get(first.split or "", 0)
        if problems.collecting and stronger:
            kept[row.place.path] = row
    return list(kept.values())


def _idle_classes(rows: list[Row], classes: Sequence[str]) -> list[int]:
    trained = {row.label for row in rows if row.split in (None, "train")}
    return [index for index in range(len(classes)) if trained and index not in trained]


def _refuse_idle(idle: list[int], classes: Sequence[str], problems: Problems) -> None:
    for index in idle:
        text = f"no training clip of {classes[index]!r}"
        problems.add("class without a clip", problems.subject, text)
    if idle == [0] and classes[0] == "0":
        problems.advise("Labels count from 0. Where this list counts from 1, say first_label=1.")
    else:
        problems.advise(
            "What has no training clip cannot be learned: leave such classes out of the list of"
            " classes (or their folders away), also for a part of a published set; or add clips."
        )


def draw_split(rows: list[Row], root: Path, hints: Hints) -> None:
    """Give rows without a split one, per class.

    Clips of a class are ordered by a hash of the seed and of the path below ``root``; the first
    ``val_fraction`` of them (rounded, at least one, never all) is "val". The order on disk and in
    the list has no part in it, and adding a clip moves few others. A lone clip is "train".
    """
    by_class: dict[int, list[tuple[bytes, Row]]] = {}
    for row in rows:
        if row.split is None:
            by_class.setdefault(row.label, []).append((_hash(row.place.path, root, hints), row))
    for members in by_class.values():
        members.sort(key=lambda pair: (pair[0], pair[1].place.path))
        count = int(len(members) * hints.val_fraction + 0.5)
        if hints.val_fraction > 0 and len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        elif len(members) == 1:
            count = 0
        for position, (_, row) in enumerate(members):
            row.split = "val" if position < count else "train"


def _hash(path: str, root: Path, hints: Hints) -> bytes:
    below = os.path.relpath(path, root).replace(os.sep, "/")
    text = f"{hints.seed}/{unicodedata.normalize('NFC', below)}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
