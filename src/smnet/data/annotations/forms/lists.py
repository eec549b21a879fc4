"""List files without a header: ``path [frames] label...``.

The form of TSN and its successors (TSM, TEA, TDN, TAM), of mmaction2 (videos and raw frames), and
of SlowFast and VideoMAE (there called csv). Separated by blanks, commas, semicolons or tabs. Labels
count from 0. TDN leaves ".mp4" out of the path, see ``Finder.place``.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.names import find_class_names
from smnet.data.annotations.places import (
    Base,
    annotation_folders,
    list_base,
    notes_on,
    visible_files,
)
from smnet.data.annotations.rows import SPLIT_WORDS, Row, assemble
from smnet.data.annotations.several import is_several, several_labels
from smnet.data.annotations.text import head, lines, whole_number
from smnet.data.clips import ClipSet
from smnet.errors import UserError

_SUFFIXES = (".txt", ".csv", ".lst", ".list")
_PATTERNS = [f"*{ending}" for suffix in _SUFFIXES for ending in (suffix, suffix.upper())]
_SPLIT = re.compile(
    r"(?<![a-z])(training|train|validation|validate|valid|val|testing|test)(?=list|[^a-z]|$)",
    re.IGNORECASE,
)


def recognise(data: Path) -> str | None:
    if data.is_file():
        return _reason([data]) if _is_list(data) else None
    groups, _ = _groups_of(data)
    files = [path for group in groups.values() for path in group.values()]
    return _reason(files) if files else None


def read(reading: Reading) -> ClipSet:
    data, problems = reading.data, reading.problems
    files, folder = _choose(data)
    named = find_class_names(folder, reading.labels)
    rows: list[Row] = []
    bases: list[Base] = []
    for split, path in files.items():
        found, base = _rows(path, split or None, folder, reading)
        rows += found
        bases.append(base)
    if named:
        classes, note = named[0], f"class names of {named[1]}"
    else:
        size = max((label for row in rows for label in row.labels), default=-1) + 1
        if size > max(len(rows), 1):
            worst = max(rows, key=lambda row: max(row.labels)).source
            raise UserError(
                f"{data}: labels are numbers up to {size - 1} ({worst}), but there are {len(rows)}"
                " rows; labels number the classes from 0. Is the last number the number of frames?"
            )
        classes, note = tuple(str(index) for index in range(size)), "no class names"
    kept: list[Row] = []
    for row in rows:
        wrong = [label for label in row.labels if not 0 <= label < len(classes)]
        if not wrong:
            kept.append(row)
        else:
            text = f"label {wrong[0]} is not in 0..{len(classes) - 1}"
            problems.add("label out of range", row.source, text, row.place.path)
    if problems.count("label out of range"):
        labels = [label for row in rows for label in row.labels]
        if max(labels) == len(classes) and min(labels) == 1:
            problems.advise(
                "Labels count from 0, those of this list count from 1: use --first-label 1"
                " (first_label=1 for train)."
            )
    root = reading.root or folder
    why = [_reason(list(files.values())), note, *notes_on(bases, root)]
    return assemble(reading, "list", kept, classes, why, root=root)


def _reason(files: list[Path]) -> str:
    return f"{' and '.join(path.name for path in files)} with lines of path and label number"


def _is_list(path: Path) -> bool:
    rows = head(path) if path.suffix.lower() in _SUFFIXES else []
    return bool(rows) and _delimiter(rows) is not None


def _groups_of(data: Path) -> tuple[dict[str, dict[str, Path]], Path]:
    """(the lists in ``data`` or in a folder of annotations in it, the folder of the lists)."""
    for folder in annotation_folders(data):
        if groups := _groups(folder):
            return groups, folder
    return {}, data


def _groups(folder: Path) -> dict[str, dict[str, Path]]:
    """Lists that differ in the word for the split only: {name with "*" for it: {split: path}}."""
    groups: dict[str, dict[str, Path]] = {}
    for path in visible_files(folder, *_PATTERNS):
        found = list(_SPLIT.finditer(path.stem))
        if len(found) == 1 and _is_list(path):
            word = found[0]
            pattern = f"{path.stem[: word.start()]}*{path.stem[word.end() :]}{path.suffix}"
            split = SPLIT_WORDS[word.group().lower()]
            if split in groups.setdefault(pattern, {}):
                raise UserError(
                    f"{folder}: {groups[pattern][split].name} and {path.name} are both lists for"
                    f" {split!r}; choose one of them"
                )
            groups[pattern][split] = path
    return groups


def _choose(data: Path) -> tuple[dict[str, Path], Path]:
    """({split, or "" where it is to be drawn: list}, the folder of the lists).

    A training list brings the lists beside it with the same pattern of name. Other lists stand
    alone.
    """
    if data.is_file():
        found = _SPLIT.search(data.stem)
        split = SPLIT_WORDS[found.group().lower()] if found else ""
        if split == "train":
            for group in _groups(data.parent).values():
                if group.get("train") == data and len(group) > 1:
                    return group, data.parent
            split = ""
        return {split: data}, data.parent
    groups, folder = _groups_of(data)
    if not groups:
        raise UserError(
            f"{data}: no list files; expected train.txt and val.txt with lines of path, optionally"
            " the number of frames, and label number"
        )
    if len(groups) > 1:
        firsts = ", ".join(next(iter(group.values())).name for group in groups.values())
        raise UserError(f"{data}: several sets of lists; choose one of: {firsts}")
    group = next(iter(groups.values()))
    return ({"": group["train"]} if list(group) == ["train"] else group), folder


def _delimiter(rows: list[str]) -> str | None:
    """The separator of path and label in most rows; None where the rows are no such list."""
    scores = {}
    for delimiter in (",", ";", "\t", " "):
        fields = [_fields(row, delimiter) for row in rows]
        scores[delimiter] = sum(
            len(row) > 1
            and (whole_number(row[-1]) is not None or is_several(row[-1]))
            and not _matrix(row, delimiter)
            for row in fields
        )
    best = max(scores, key=lambda delimiter: scores[delimiter])
    return best if 2 * scores[best] > len(rows) else None


def _matrix(row: list[str], delimiter: str) -> bool:
    """Whether a row is all numbers, as in a matrix; "12 0" may be a numbered frame folder."""
    return delimiter != " " and len(row) > 3 and all(whole_number(x) is not None for x in row)


def _fields(text: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return text.split()
    try:
        return [field.strip() for field in next(csv.reader([text], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        return []


def _rows(file: Path, split: str | None, folder: Path, reading: Reading) -> tuple[list[Row], Base]:
    """(rows, the folder their paths are relative to)."""
    finder, problems = reading.finder, reading.problems
    delimiter = _delimiter(head(file)) or " "
    numbered = [(number, text, _fields(text, delimiter)) for number, text in lines(file)]
    with_frames = sum(len(f) > 2 and whole_number(f[-2]) is not None for _, _, f in numbered)
    frames_form = 2 * with_frames > len(numbered)

    def base_of(behind: int) -> Base:
        full = [_path(text, delimiter, behind) for _, text, f in numbered if len(f) > behind]
        return list_base(folder, reading.root, full, finder)

    base = base_of(1 + frames_form)
    if frames_form and not base.found:
        # "take 2 0" may be the folder "take 2".
        other = base_of(1)
        if other.found:
            frames_form, base = False, other
    several = several_labels(str(file), [(n, f) for n, _, f in numbered], frames_form)
    if several:
        ends = [(several[n].behind, text) for n, text, _ in numbered if n in several]
        paths = [_path(text, delimiter, behind) for behind, text in ends]
        base = list_base(folder, reading.root, paths, finder)
    first = reading.source.first_label
    behind = 1 + frames_form
    wanted = "path, number of frames, label" if frames_form else "path, label"
    rows: list[Row] = []
    for number, text, fields in numbered:
        source = f"{file.name}:{number}"
        label = whole_number(fields[-1]) if fields else None
        frames = whole_number(fields[-2]) if frames_form and len(fields) > 2 else None
        if number in several:
            line = several[number]
            labels = tuple(k - first for k in line.labels)
            place = base.place(finder, _path(text, delimiter, line.behind))
            rows.append(Row(place, labels[0], split, source, line.frames, labels=labels))
        elif len(fields) < 1 + behind:
            problems.add("malformed row", source, f"{text[:80]!r} is not {wanted}")
        elif label is None:
            problems.add("malformed row", source, f"label {fields[-1]!r} is not a whole number")
        elif frames_form and (frames is None or frames < 1):
            text = f"frames {fields[-2]!r} is not a positive whole number"
            problems.add("malformed row", source, text)
        else:
            place = base.place(finder, _path(text, delimiter, behind))
            rows.append(Row(place, label - first, split, source, frames, labels=(label - first,)))
    return rows, base


def _path(text: str, delimiter: str, behind: int) -> str:
    """The path of a row with ``behind`` fields after it; paths may contain the delimiter."""
    if delimiter == " ":
        return text.rsplit(None, behind)[0]
    return delimiter.join(_fields(text, delimiter)[:-behind])


FORM = Form(
    "list",
    "lines of path [frames] label...: TSN, TSM, TEA, TDN, mmaction2, SlowFast, VideoMAE",
    2,
    recognise,
    read,
)
