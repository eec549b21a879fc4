"""From labelled intervals of recordings to rows: what the forms of timelines share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smnet.data.annotations.form import Reading
from smnet.data.annotations.names import find_class_names
from smnet.data.annotations.places import Place, clips_below
from smnet.data.annotations.rows import Row, assemble
from smnet.data.annotations.text import name_of
from smnet.data.clips import ClipSet, Part
from smnet.errors import UserError


@dataclass(frozen=True, slots=True)
class Interval:
    """One labelled interval of a recording.

    Attributes:
        video: the recording as the annotation names it: a path, a file name, or an id.
        part: the interval; None = the whole recording.
        labels: names of its classes, at least one.
        source: where it is, "marks.eaf: action 12".
        split: "train", "val", "test", or None = to be drawn.
        group: see :class:`smnet.data.clips.Clip`.
    """

    video: str
    part: Part | None
    labels: tuple[str, ...]
    source: str
    split: str | None = None
    group: str | None = None


def interval(start: object, end: object) -> Part | None:
    """The part between two numbers of seconds; None where they are not a part."""
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return None
    return Part(float(start), float(end)) if 0 <= start < end else None


def chosen(files: list[Path], data: Path, what: str, one: bool = False) -> list[Path]:
    """The files of an annotation.

    Raises:
        UserError: there is none, or several where ``one`` is read.
    """
    if not files:
        raise UserError(f"{data}: there is no {what}")
    if one and len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UserError(f"{data}: several files of this form: {names}; choose one of them")
    return files


def assemble_intervals(
    reading: Reading,
    name: str,
    intervals: Iterable[Interval],
    why: Sequence[str],
    *,
    folder: Path,
    classes: Sequence[str] | None = None,
    several: bool = False,
) -> ClipSet:
    """Find the recordings of intervals, number their classes, and assemble the rows.

    A recording that is not at its path is looked for by its file name, down to three folders below
    the folder of the clips.

    Args:
        reading, name, why: see :func:`smnet.data.annotations.rows.assemble`.
        intervals: the intervals.
        folder: of the annotation.
        classes: all class names in index order; None = those that occur, in alphabetical order.
        several: whether one interval with different labels is one clip with several labels.

    Raises:
        UserError: one error with all problems.
    """
    found = [replace(i, labels=tuple(map(name_of, i.labels))) for i in intervals]
    if several:
        found = _merged(found)
    named = find_class_names(folder, reading.labels) if reading.labels else None
    if named:
        classes = named[0]
    classes = classes or sorted({label for i in found for label in i.labels})
    index = {label: position for position, label in enumerate(classes)}
    root = reading.root or (reading.data if reading.data.is_dir() else folder)
    places = {item.video: reading.finder.place(root, item.video) for item in found}
    by_name: dict[str, list[Place]] = {}
    if not all(place.exists for place in places.values()):
        by_name = clips_below(root)
        why = [*why, f"recordings found by name below {root}"]
    rows: list[Row] = []
    for item in found:
        unknown = [label for label in item.labels if label not in index]
        if unknown:
            text = f"{unknown[0]!r} is not in {named[1] if named else 'the classes'}"
            reading.problems.add("unknown label", item.source, text, item.video)
            continue
        place = places[item.video]
        if not place.exists:
            named_so = next(
                filter(None, (by_name.get(n) for n in _file_names(item.video))), [place]
            )
            if len(named_so) > 1:
                raise UserError(
                    f"{item.source}: {item.video} could be {named_so[0].path} or"
                    f" {named_so[1].path}; give the folder of the clips with --root (root= for"
                    " train)"
                )
            place = named_so[0]
        labels = tuple(sorted({index[label] for label in item.labels}))
        rows.append(
            Row(
                place,
                labels[0],
                item.split,
                item.source,
                part=item.part,
                labels=labels,
                group=item.group,
            )
        )
    return assemble(reading, name, rows, classes, why, root=root, allow_idle=True)


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    """Intervals with the same borders in one recording and split as one, with all their labels."""
    merged: dict[tuple[str, Part | None, str | None], Interval] = {}
    for item in intervals:
        key = item.video, item.part, item.split
        first = merged.setdefault(key, item)
        merged[key] = replace(first, labels=tuple(dict.fromkeys(first.labels + item.labels)))
    return list(merged.values())


def _file_names(video: str) -> tuple[str, ...]:
    """The names without suffix that the file of a recording may have.

    Downloads of ActivityNet begin with ``v_``. Label Studio puts eight digits before a name.
    """
    stem = Path(video.replace("\\", "/")).stem
    return stem, f"v_{stem}", re.sub(r"^[0-9a-f]{8}-", "", stem)
