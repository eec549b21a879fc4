"""List files without a header: ``path [frames] label``.

The form of TSN and its heirs (TSM, TEA, TDN, TAM), of mmaction2 (video and raw frame lists), and of
SlowFast and VideoMAE (there called csv). Blank, comma, semicolon or tab separated. The labels count
from 0. TDN leaves ".mp4" out of the path: see ``Finder.place``.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from smnet.data.annotations.multilabel import check_lines, column_of_several, is_several, refusal
from smnet.data.annotations.names import find_class_names
from smnet.data.annotations.places import (
    Base,
    Finder,
    annotation_folders,
    list_base,
    notes_on,
    visible_files,
)
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS, Hints, Row, assemble
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
    if data.is_file() and _is_list(data):
        return "lines of path and label number"
    groups, _ = _groups_of(data)
    if not groups:
        several = _with_several(data)
        return f"the columns of {several[0].name}" if several else None
    names = [path.name for group in groups.values() for path in group.values()]
    return f"{' and '.join(names)} with lines of path and label number"


def read(data: Path, hints: Hints) -> ClipSet:
    if several := _with_several(data):
        raise refusal(f"{several[0]}:1", [f"the column {several[1]}"])
    files, folder = _choose(data)
    problems = Problems(str(data), hints.found)
    named = find_class_names(folder, hints.labels)
    root = hints.root or folder
    finder = Finder(hints.check_files)
    rows: list[Row] = []
    bases: list[Base] = []
    for split, path in files.items():
        found, base = _rows(path, split or None, folder, finder, problems, hints)
        rows += found
        bases.append(base)
    if named:
        classes, said = named[0], f"class names of {named[1]}"
    else:
        size = max((row.label for row in rows), default=-1) + 1
        if size > max(len(rows), 1):
            worst = max(rows, key=lambda row: row.label).source
            raise UserError(
                f"{data}: labels are numbers up to {size - 1} ({worst}), but there are {len(rows)}"
                " rows; labels number the classes from 0. Is it the number of frames that stands"
                " last?"
            )
        classes, said = tuple(str(index) for index in range(size)), "no class names"
    kept: list[Row] = []
    for row in rows:
        if 0 <= row.label < len(classes):
            kept.append(row)
        else:
            problems.add(
                "label out of range",
                row.source,
                f"label {row.label} is not in 0..{len(classes) - 1}",
                row.place.path,
            )
    if problems.count("label out of range"):
        highest = max(row.label for row in rows)
        if highest == len(classes) and min(row.label for row in rows) == 1:
            problems.advise("Labels count from 0. This list counts from 1: say first_label=1.")
    names = " and ".join(path.name for path in files.values())
    why = [f"{names} with lines of path and label number", said]
    why += notes_on(bases, root)
    return assemble(
        kept,
        data=data,
        root=root,
        name="list",
        why=why,
        classes=classes,
        problems=problems,
        hints=hints,
    )


def _is_list(path: Path) -> bool:
    rows = head(path) if path.suffix.lower() in _SUFFIXES else []
    return bool(rows) and _delimiter(rows) is not None


def _groups_of(data: Path) -> tuple[dict[str, dict[str, Path]], Path]:
    """(the lists in a folder, or else in a folder of annotations in it; where they are)"""
    for folder in annotation_folders(data):
        if groups := _groups(folder):
            return groups, folder
    return {}, data


def _with_several(data: Path) -> tuple[Path, str] | None:
    """(a file, its column with several labels), where there is no list that can be read."""
    if data.is_dir() and _groups_of(data)[0]:
        return None
    for file in visible_files(data, *_PATTERNS) if data.is_dir() else [data]:
        column = column_of_several(file) if file.suffix.lower() in _SUFFIXES else None
        if column is not None:
            return file, column
    return None


def _groups(folder: Path) -> dict[str, dict[str, Path]]:
    """Lists that differ only in the word for the split: {name with "*" for it: {split: path}}."""
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
                    f" {split!r}; point at one of them"
                )
            groups[pattern][split] = path
    return groups


def _choose(data: Path) -> tuple[dict[str, Path], Path]:
    """({split, or "" where it is to be drawn: list}, the folder of the lists).

    A training list brings the lists beside it that are named alike; any other list stands alone.
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
            f"{data}: no list files; train.txt and val.txt with lines of path, perhaps the number"
            " of frames, and label number are wanted"
        )
    if len(groups) > 1:
        firsts = ", ".join(next(iter(group.values())).name for group in groups.values())
        raise UserError(f"{data}: several sets of lists; point at one of: {firsts}")
    group = next(iter(groups.values()))
    return ({"": group["train"]} if list(group) == ["train"] else group), folder


def _delimiter(rows: list[str]) -> str | None:
    """What separates path and label in most rows; None where the rows are no such list."""
    scores = {}
    for delimiter in (",", ";", "\t", " "):
        fields = [_fields(row, delimiter) for row in rows]
        # "3,7" is no label, but a list of such is a list: see smnet.data.annotations.multilabel.
        scores[delimiter] = sum(
            len(row) > 1
            and (whole_number(row[-1]) is not None or is_several(row[-1]))
            and not _matrix(row, delimiter)
            for row in fields
        )
    best = max(scores, key=lambda delimiter: scores[delimiter])
    return best if 2 * scores[best] > len(rows) else None


def _matrix(row: list[str], delimiter: str) -> bool:
    """True for ``12,0``: a matrix rather than a list; ``12 0`` is a numbered frame folder."""
    return delimiter != " " and len(row) > 3 and all(whole_number(x) is not None for x in row)


def _fields(text: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return text.split()
    try:
        return [field.strip() for field in next(csv.reader([text], delimiter=delimiter))]
    except (csv.Error, StopIteration):
        return []


def _rows(
    file: Path,
    split: str | None,
    folder: Path,
    finder: Finder,
    problems: Problems,
    hints: Hints,
) -> tuple[list[Row], Base]:
    """(rows, what their paths are relative to)"""
    delimiter = _delimiter(head(file)) or " "
    numbered = [(number, text, _fields(text, delimiter)) for number, text in lines(file)]
    with_frames = sum(len(f) > 2 and whole_number(f[-2]) is not None for _, _, f in numbered)
    frames_form = 2 * with_frames > len(numbered)

    def base_of(behind: int) -> Base:
        full = [_path(text, delimiter, behind) for _, text, f in numbered if len(f) > behind]
        return list_base(folder, hints.root, full, finder)

    base = base_of(1 + frames_form)
    if frames_form and not base.found:
        # "take 2 0" may be the folder "take 2". The disk knows.
        other = base_of(1)
        if other.found:
            frames_form, base = False, other
    behind = 1 + frames_form
    check_lines(
        str(file),
        [(number, text, fields[-1] if fields else "") for number, text, fields in numbered],
        frames_form,
        lambda path: base.place(finder, path).exists,
        lambda text: _path(text, delimiter, behind),
    )
    wanted = "path, number of frames, label" if frames_form else "path, label"
    rows: list[Row] = []
    for number, text, fields in numbered:
        source = f"{file.name}:{number}"
        label = whole_number(fields[-1]) if fields else None
        frames = whole_number(fields[-2]) if frames_form and len(fields) > 2 else None
        if len(fields) < (3 if frames_form else 2):
            problems.add("malformed row", source, f"{text[:80]!r} is not {wanted}")
        elif label is None:
            problems.add("malformed row", source, f"label {fields[-1]!r} is not a whole number")
        elif frames_form and (frames is None or frames < 1):
            problems.add("malformed row", source, f"frames {fields[-2]!r} is not a count")
        else:
            place = base.place(finder, _path(text, delimiter, behind))
            rows.append(Row(place, label - hints.first_label, split, source, frames))
    return rows, base


def _path(text: str, delimiter: str, behind: int) -> str:
    """The path of a row with ``behind`` fields after it; paths may hold the delimiter."""
    if delimiter == " ":
        return text.rsplit(None, behind)[0]
    return delimiter.join(_fields(text, delimiter)[:-behind])
