"""List files without a header: ``path [frames] label``.

The form of TSN and its heirs (TSM, TEA, TDN, TAM), of mmaction2 (video and raw frame lists), and of
SlowFast and VideoMAE (there called csv). Blank, comma, semicolon or tab separated. The labels count
from 0. TDN leaves ".mp4" out of the path: see ``Finder.place``.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from smnet.data.clips import ClipSet
from smnet.data.formats.names import find_class_names
from smnet.data.formats.places import Finder, Place, clip_root
from smnet.data.formats.problems import Problems
from smnet.data.formats.rows import SPLIT_WORDS, Hints, Row, assemble
from smnet.data.formats.text import head, lines, whole_number
from smnet.errors import UserError

_SUFFIXES = (".txt", ".csv", ".lst", ".list")
_SPLIT = re.compile(
    r"(?<![a-z])(training|train|validation|validate|valid|val|testing|test)(?=list|[^a-z]|$)",
    re.IGNORECASE,
)


def recognise(data: Path) -> str | None:
    if data.is_file():
        return "lines of path and label number" if _is_list(data) else None
    groups = _groups(data)
    if not groups:
        return None
    names = [path.name for group in groups.values() for path in group.values()]
    return f"{' and '.join(names)} with lines of path and label number"


def read(data: Path, hints: Hints) -> ClipSet:
    files, folder = _choose(data)
    problems = Problems(str(data), hints.found)
    named = find_class_names(folder, hints.labels)
    root = hints.root or folder
    finder = Finder(hints.check_files)
    rows: list[Row] = []
    roots: dict[str, None] = {}
    for split, path in files.items():
        found, base = _rows(path, split or None, folder, finder, problems, hints)
        rows += found
        roots[str(base)] = None
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
    if list(roots) != [str(root)]:
        why.append(f"clips in {' and '.join(roots)}")
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
    rows = head(path)
    return path.suffix.lower() in _SUFFIXES and bool(rows) and _delimiter(rows) is not None


def _groups(folder: Path) -> dict[str, dict[str, Path]]:
    """Lists that differ only in the word for the split: {name with "*" for it: {split: path}}."""
    groups: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        found = list(_SPLIT.finditer(path.stem))
        if (
            len(found) == 1
            and path.suffix.lower() in _SUFFIXES
            and path.is_file()
            and _is_list(path)
        ):
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
    groups = _groups(data)
    if not groups:
        raise UserError(
            f"{data}: no list files; train.txt and val.txt with lines of path, perhaps the number"
            " of frames, and label number are wanted"
        )
    if len(groups) > 1:
        firsts = ", ".join(next(iter(group.values())).name for group in groups.values())
        raise UserError(f"{data}: several sets of lists; point at one of: {firsts}")
    group = next(iter(groups.values()))
    return ({"": group["train"]} if list(group) == ["train"] else group), data


def _delimiter(rows: list[str]) -> str | None:
    """What separates path and label in most rows; None where the rows are no such list."""
    scores = {}
    for delimiter in (",", ";", "\t", " "):
        fields = [_fields(row, delimiter) for row in rows]
        scores[delimiter] = sum(
            len(row) > 1 and whole_number(row[-1]) is not None and not _all_numbers(row, delimiter)
            for row in fields
        )
    best = max(scores, key=lambda delimiter: scores[delimiter])
    return best if 2 * scores[best] > len(rows) else None


def _all_numbers(row: list[str], delimiter: str) -> bool:
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
) -> tuple[list[Row], Path]:
    """(rows, the folder that their paths are relative to)"""
    delimiter = _delimiter(head(file)) or " "
    numbered = [(number, text, _fields(text, delimiter)) for number, text in lines(file)]
    with_frames = sum(len(f) > 2 and whole_number(f[-2]) is not None for _, _, f in numbered)
    frames_form = 2 * with_frames > len(numbered)

    def with_count(base: Path, text: str) -> Place:
        return finder.place(base, _path(text, delimiter, 2))

    def without_count(base: Path, text: str) -> Place:
        return finder.place(base, _path(text, delimiter, 1))

    full = [text for _, text, f in numbered if len(f) > 1 + frames_form]
    root = clip_root(folder, hints.root, full, with_count if frames_form else without_count)
    if frames_form and not with_count(root, full[0]).exists:
        # "take 2 0" may be the folder "take 2". The disk knows.
        other = clip_root(folder, hints.root, full, without_count)
        if finder.check and without_count(other, full[0]).exists:
            frames_form, root = False, other
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
            place = finder.place(root, _path(text, delimiter, 2 if frames_form else 1))
            rows.append(Row(place, label - hints.first_label, split, source, frames))
    return rows, root


def _path(text: str, delimiter: str, behind: int) -> str:
    """The path of a row with ``behind`` fields after it; paths may hold the delimiter."""
    if delimiter == " ":
        return text.rsplit(None, behind)[0]
    return delimiter.join(_fields(text, delimiter)[:-behind])
