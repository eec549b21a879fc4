"""A csv with a header: path, label, and perhaps split and frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smnet.data.annotations.multilabel import check_labels
from smnet.data.annotations.names import find_class_names
from smnet.data.annotations.places import Finder, list_base, notes_on, visible_files
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS, Hints, Row, assemble
from smnet.data.annotations.text import header_of, name_of, table, whole_number
from smnet.data.clips import ClipSet
from smnet.errors import UserError

_WANTED = {"path", "label"}
_USED = ("path", "label", "split", "frames")


@dataclass(frozen=True, slots=True)
class _Raw:
    source: str
    path: str
    label: str
    split: str | None
    frames: int | None


def recognise(data: Path) -> str | None:
    files = _files(data)
    if not files:
        return None
    return f"{' and '.join(file.name for file in files)} with the columns path and label"


def read(data: Path, hints: Hints) -> ClipSet:
    files = _files(data)
    if not files:
        raise UserError(f"{data}: no csv whose first line names the columns path and label")
    by_split = {SPLIT_WORDS.get(file.stem.lower()) for file in files}
    if len(files) > 1 and (None in by_split or len(by_split) < len(files)):
        raise UserError(
            f"{data}: several csv files with path and label: {', '.join(f.name for f in files)};"
            " point at one of them (or name them train.csv, val.csv, test.csv)"
        )
    problems = Problems(str(data), hints.found)
    raw: list[_Raw] = []
    ignored: list[str] = []
    for file in files:
        raw += _rows(file, SPLIT_WORDS.get(file.stem.lower()), problems, ignored)
    folder = files[0].parent
    classes, indices, said = _labels(raw, folder, hints, problems)
    root = hints.root or folder
    finder = Finder(hints.check_files)
    base = list_base(folder, hints.root, [item.path for item in raw], finder)
    rows = [
        Row(base.place(finder, item.path), index, item.split, item.source, item.frames)
        for item, index in zip(raw, indices, strict=True)
        if index is not None
    ]
    why = [f"{' and '.join(file.name for file in files)} with the columns path and label", said]
    why += notes_on([base], root)
    if ignored:
        why.append(f"columns not used: {', '.join(dict.fromkeys(ignored))}")
    return assemble(
        rows,
        data=data,
        root=root,
        name="csv",
        why=why,
        classes=classes,
        problems=problems,
        hints=hints,
    )


def _files(data: Path) -> list[Path]:
    if data.is_file():
        candidates = [data]
    else:
        candidates = visible_files(data, "*.csv", "*.tsv", "*.CSV", "*.TSV")
    return [path for path in candidates if header_of(path, _WANTED)]


def _rows(
    file: Path, default_split: str | None, problems: Problems, ignored: list[str]
) -> list[_Raw]:
    found = header_of(file, _WANTED)
    if found is None:
        raise UserError(f"{file}: the first line does not name the columns path and label")
    delimiter, columns = found
    for column in _USED:
        if columns.count(column) > 1:
            raise UserError(f"{file}:1: the column {column!r} stands there twice")
    ignored += [column for column in columns if column not in _USED and column]
    rows: list[_Raw] = []
    first = True
    for number, fields in table(file, delimiter):
        if first:
            first = False
            continue
        source = f"{file.name}:{number}"
        # Trailing delimiters are what spreadsheets leave behind.
        if len(fields) < len(columns) or any(fields[len(columns) :]):
            text = f"{len(fields)} fields where {len(columns)} are wanted"
            problems.add("malformed row", source, text)
            continue
        row = dict(zip(columns, fields, strict=False))
        split = _split(row, default_split)
        frames = whole_number(row.get("frames") or "1")
        if split == "?":
            text = f"split {row['split']!r} is not train, val or test"
        elif not row["path"]:
            text = "the path is empty"
        elif not row["label"] and split != "test":
            text = "the label is empty"
        elif frames is None or frames < 1:
            text = f"frames {row['frames']!r} is not a count"
        else:
            counted = frames if row.get("frames") else None
            rows.append(_Raw(source, row["path"], name_of(row["label"]), split, counted))
            continue
        problems.add("malformed row", source, text)
    return rows


def _split(row: dict[str, str], default: str | None) -> str | None:
    """The split of a row; "?" for a word that is none."""
    if "split" not in row:
        return default
    return SPLIT_WORDS.get(row["split"].lower(), "?")


def _labels(
    raw: list[_Raw], folder: Path, hints: Hints, problems: Problems
) -> tuple[tuple[str, ...], list[int | None], str]:
    """(class names, index per row or None where the label is wrong, what was decided)."""
    written = {item.label for item in raw if item.label}
    named = find_class_names(folder, hints.labels)
    check_labels([(item.source, item.label) for item in raw], named[0] if named else ())
    numbers = {text: whole_number(text) for text in written}
    numeric = bool(written) and all(number is not None for number in numbers.values())
    if named and not (numeric and not written <= set(named[0])):
        classes, said = named[0], f"class names of {named[1]}"
        index = {name: position for position, name in enumerate(classes)}
    elif numeric:
        shifted = {text: (number or 0) - hints.first_label for text, number in numbers.items()}
        if named:
            classes, said = named[0], f"labels are numbers into {named[1]}"
        else:
            size = max(max(shifted.values(), default=-1) + 1, 0)
            if size > len(raw):
                raise UserError(
                    f"{raw[0].source}: labels are numbers up to {size - 1}, but there are"
                    f" {len(raw)} rows; labels number the classes from 0"
                )
            classes, said = tuple(str(i) for i in range(size)), "labels are numbers, no class names"
        index = {text: n for text, n in shifted.items() if 0 <= n < len(classes)}
    else:
        classes, said = tuple(sorted(written)), "labels are names"
        index = {name: position for position, name in enumerate(classes)}
    indices: list[int | None] = []
    for item in raw:
        label = index.get(item.label) if item.label else -1
        if label is None:
            kind = "label out of range" if numeric else "unknown label"
            of = f"0..{len(classes) - 1}" if numeric else (named[1] if named else "the classes")
            problems.add(kind, item.source, f"label {item.label!r} is not in {of}", item.path)
        indices.append(label)
    return classes, indices, said
