"""A csv with a header: path, label, and optionally split, start, end, group, fold, frames, fps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smnet.data.annotations.columns import Columns, columns_of
from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.names import find_class_names
from smnet.data.annotations.places import Place, list_base, notes_on, visible_files
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rates import check_rates
from smnet.data.annotations.rows import SPLIT_WORDS, Row, assemble
from smnet.data.annotations.several import check_labels
from smnet.data.annotations.text import name_of, table, whole_number
from smnet.data.annotations.times import seconds
from smnet.data.clips import ClipSet, Part
from smnet.errors import UserError


@dataclass(frozen=True, slots=True)
class _Raw:
    source: str
    path: str
    label: str
    split: str | None
    frames: int | None
    part: Part | None
    fps: str
    group: str | None
    fold: str | None


def recognise(data: Path) -> str | None:
    files = _files(data)
    return _reason(files) if files else None


def read(reading: Reading) -> ClipSet:
    data = reading.data
    files = _files(data)
    if not files:
        raise UserError(f"{data}: no csv whose first line names the columns path and label")
    by_split = {SPLIT_WORDS.get(file.stem.lower()) for file in files}
    if len(files) > 1 and (None in by_split or len(by_split) < len(files)):
        raise UserError(
            f"{data}: several csv files with path and label: {', '.join(f.name for f in files)};"
            " choose one of them (or name them train.csv, val.csv, test.csv)"
        )
    raw = [
        item
        for file, columns in files.items()
        for item in _rows(file, columns, SPLIT_WORDS.get(file.stem.lower()), reading.problems)
    ]
    folder = next(iter(files)).parent
    classes, indices, labels_note = _labels(raw, folder, reading)
    base = list_base(folder, reading.root, [item.path for item in raw], reading.finder)
    places = [base.place(reading.finder, item.path) for item in raw]
    rows = [
        _row(item, found, place, reading.problems)
        for item, found, place in zip(raw, indices, places, strict=True)
        if found is not None
    ]
    root = reading.root or folder
    why = [_reason(files), labels_note, *notes_on([base], root)]
    rated = [
        (f"{folder / item.source}", place.path, item.fps)
        for item, place in zip(raw, places, strict=True)
        if item.fps and not place.folder
    ]
    if rated:
        why.append(check_rates(rated))
    if ignored := [name for columns in files.values() for name in columns.ignored]:
        why.append(f"columns not used: {', '.join(dict.fromkeys(ignored))}")
    return assemble(reading, "csv", filter(None, rows), classes, why, root=root)


def _files(data: Path) -> dict[Path, Columns]:
    patterns = ("*.csv", "*.tsv", "*.CSV", "*.TSV")
    candidates = [data] if data.is_file() else visible_files(data, *patterns)
    found = ((path, columns_of(path)) for path in candidates)
    return {path: columns for path, columns in found if columns is not None}


def _reason(files: dict[Path, Columns]) -> str:
    synonyms = dict.fromkeys(text for columns in files.values() for text in columns.synonyms)
    note = f" ({', '.join(synonyms)})" if synonyms else ""
    return f"{' and '.join(f.name for f in files)} with the columns path and label{note}"


def _rows(
    file: Path, columns: Columns, default_split: str | None, problems: Problems
) -> Iterator[_Raw]:
    width = len(columns.names)
    lines = table(file, columns.delimiter)
    next(lines)
    for number, fields in lines:
        source = f"{file.name}:{number}"
        # Spreadsheets leave trailing delimiters.
        if len(fields) < width or any(fields[width:]):
            text = f"{len(fields)} fields, but the header has {width}"
            problems.add("malformed row", source, text)
            continue
        columns.check(f"{file}:{number}", fields)
        row = {role: fields[position] for role, position in columns.index.items()}
        split = SPLIT_WORDS.get(row["split"].lower(), "") if "split" in row else default_split
        frames = whole_number(row["frames"]) if row.get("frames") else None
        part, wrong = columns.part(fields)
        if split == "":
            text = f"split {row['split']!r} is not train, val or test"
        elif not row["path"]:
            text = "the path is empty"
        elif not row["label"] and split != "test":
            text = "the label is empty"
        elif row.get("frames") and (frames is None or frames < 1):
            text = f"frames {row['frames']!r} is not a positive whole number"
        elif wrong:
            text = wrong
        else:
            label, group, fold = name_of(row["label"]), row.get("group"), row.get("fold")
            yield _Raw(
                *(source, row["path"], label, split, frames),
                *(part, row.get("fps", ""), group or None, fold or None),
            )
            continue
        problems.add("malformed row", source, text)


def _row(item: _Raw, labels: tuple[int, ...], place: Place, problems: Problems) -> Row | None:
    part = item.part
    if place.folder and part is not None and part.unit == "s":
        fps = seconds(item.fps)
        if not fps:
            text = (
                f"fps {item.fps!r} is not a positive number"
                if item.fps
                else f"the part {part} is in seconds, and a folder of frames has no rate: add the"
                " column fps, or give start_frame and end_frame"
            )
            problems.add("malformed row", item.source, text, place.path)
            return None
        # Frame i is presented at i / fps.
        start, end = (
            None if t is None else math.ceil(round(t * fps, 6)) for t in (part.start, part.end)
        )
        part = Part(start, end, "frames")
    return Row(
        *(place, labels[0] if labels else -1, item.split, item.source, item.frames),
        part=part,
        labels=labels,
        group=item.group,
        fold=item.fold,
    )


def _labels(
    raw: list[_Raw], folder: Path, reading: Reading
) -> tuple[tuple[str, ...], list[tuple[int, ...] | None], str]:
    """(class names, indices per row or None where a label is wrong, a note for the user).

    A bar separates several labels, unless the whole cell is the name of a listed class.
    """
    named = find_class_names(folder, reading.labels)
    listed = set(named[0]) if named else set()
    cells = [_several(item.label, listed) for item in raw]
    written = {label for cell in cells for label in cell}
    single = [(item.source, *cell) for item, cell in zip(raw, cells, strict=True) if len(cell) == 1]
    check_labels(single, listed)
    numbers = {text: whole_number(text) for text in written}
    numeric = bool(written) and all(number is not None for number in numbers.values())
    if named and not (numeric and not written <= set(named[0])):
        classes, note = named[0], f"class names of {named[1]}"
        index = {name: position for position, name in enumerate(classes)}
    elif numeric:
        first = reading.source.first_label
        shifted = {text: (number or 0) - first for text, number in numbers.items()}
        if named:
            classes, note = named[0], f"labels are numbers into {named[1]}"
        else:
            size = max(max(shifted.values(), default=-1) + 1, 0)
            if size > len(raw):
                raise UserError(
                    f"{raw[0].source}: labels are numbers up to {size - 1}, but there are"
                    f" {len(raw)} rows; labels number the classes from 0"
                )
            classes, note = tuple(str(i) for i in range(size)), "labels are numbers, no class names"
        index = {text: n for text, n in shifted.items() if 0 <= n < len(classes)}
    else:
        classes, note = tuple(sorted(written)), "labels are names"
        index = {name: position for position, name in enumerate(classes)}
    indices: list[tuple[int, ...] | None] = []
    for item, cell in zip(raw, cells, strict=True):
        wrong = [label for label in cell if label not in index]
        if wrong:
            kind = "label out of range" if numeric else "unknown label"
            known = f"0..{len(classes) - 1}" if numeric else (named[1] if named else "the classes")
            text = f"label {wrong[0]!r} is not in {known}"
            reading.problems.add(kind, item.source, text, item.path)
        indices.append(None if wrong else tuple(index[label] for label in cell))
    if any(len(cell) > 1 for cell in cells):
        note += ", several of a clip separated by |"
    return classes, indices, note


def _several(cell: str, listed: set[str]) -> tuple[str, ...]:
    """The labels of a cell, each once."""
    if not cell or cell in listed or "|" not in cell:
        return (cell,) if cell else ()
    return tuple(dict.fromkeys(label.strip() for label in cell.split("|") if label.strip()))


FORM = Form(
    "csv",
    "a csv with the columns path, label and optionally split, start, end, group, fold, frames, fps",
    1,
    recognise,
    read,
)
