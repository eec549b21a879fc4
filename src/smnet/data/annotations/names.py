"""Files of class names: one name per line, "index name", tables of "id,name", json."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smnet.data.annotations.text import header_of, lines, name_of, read_json, table, whole_number
from smnet.errors import UserError

# Only files of these names give the class names of a list beside them. A looser match would pair
# lists with label maps of another class order: wrong names without an error.
CLASS_FILES = (
    "labels.txt",
    "classes.txt",
    "category.txt",
    "categories.txt",
    "classInd.txt",
    "label_map.txt",
    "class_names.txt",
)

_NUMBERED = re.compile(r"([0-9]{1,9})(?:\s*[;,\t]\s*|\s+)(\S.*)")


def find_class_names(folder: Path, labels: Path | None) -> tuple[tuple[str, ...], str] | None:
    """(class names, file name) from ``labels``, or from the class name file in ``folder``.

    Raises:
        UserError: several such files differ, or one is not a file of class names.
    """
    if labels is not None:
        return read_class_names(labels), labels.name
    found: tuple[tuple[str, ...], str] | None = None
    for candidate in CLASS_FILES:
        if not (folder / candidate).is_file():
            continue
        names = read_class_names(folder / candidate)
        if found is not None and names != found[0]:
            raise UserError(
                f"{folder}: {found[1]} and {candidate} have different class names or another order;"
                " choose one with --labels (labels= for train)"
            )
        found = found or (names, candidate)
    if found is not None and _sorted_with_brackets(found[0]):
        raise UserError(
            f"{folder / found[1]} is sorted with the [brackets] in the names, which is not the"
            " order of the class numbers; choose the file with that order with --labels (labels="
            " for train)"
        )
    return found


def _sorted_with_brackets(names: tuple[str, ...]) -> bool:
    """Whether names are sorted with their brackets, but not without them.

    Some lists of Something-Something V2 come with such files, while their numbers follow the names
    without brackets. About half of the classes would get a wrong name.
    """
    bare = [without_brackets(name) for name in names]
    return list(names) == sorted(names) and bare != sorted(bare)


def without_brackets(name: str) -> str:
    """A Something-Something template as a class name: "[something]" becomes "something"."""
    return name_of(name.replace("[", "").replace("]", ""))


def read_class_names(path: Path, unique: bool = True) -> tuple[str, ...]:
    """The class names in ``path``, in index order.

    Reads one name per line (from index 0), lines of ``index name`` as in classInd.txt (from 0 or 1)
    or ``index;name``, a csv with the columns id and name (or label), or json: {name: index},
    {index: name} or [names].

    Args:
        path: the file.
        unique: refuse a name that occurs twice.

    Raises:
        UserError: not readable, no names, a name twice, indices that are not 0..K-1 or 1..K.
    """
    if path.suffix.lower() == ".json":
        names = names_of_json(read_json(path), path)
    elif found := header_of(path, {"id", "name"}) or header_of(path, {"id", "label"}):
        delimiter, columns = found
        column = columns.index("name" if "name" in columns else "label")
        pairs = [
            (row[columns.index("id")], row[column])
            for number, row in table(path, delimiter)
            if number > 1 and len(row) >= len(columns)
        ]
        names = _in_order(pairs, path)
    else:
        texts = [text for _, text in lines(path)]
        split = [_NUMBERED.fullmatch(text) for text in texts]
        numbered = [(found[1], found[2].strip('"')) for found in split if found]
        names = (
            _in_order(numbered, path)
            if texts and len(numbered) == len(texts)
            else [name_of(text) for text in texts]
        )
    if not names:
        raise UserError(f"{path} contains no class names")
    if unique and (twins := _twins(names)):
        raise UserError(f"{path}: class name {twins[0]!r} occurs twice")
    return tuple(names)


def tell_twins_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names with the class number appended to those that occur more than once.

    ImageNet has two classes "crane", a bird and a machine, and two "maillot".
    """
    twins = set(_twins(names))
    return tuple(f"{name} ({k})" if name in twins else name for k, name in enumerate(names))


def _twins(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def names_of_json(content: Any, path: Path) -> list[str]:
    """The names in {name: index}, {index: name} (indices may be strings) or [names], in order."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [name_of(name) for name in content]
    if isinstance(content, dict):
        pairs = [(str(index), name) for name, index in content.items()]
        if pairs and all(_is_name_of_number(key, value) for key, value in content.items()):
            pairs = list(content.items())
        return _in_order(pairs, path)
    raise UserError(f"{path}: expected class names as {{name: index}} or a list of names")


def _is_name_of_number(key: str, value: Any) -> bool:
    return isinstance(value, str) and whole_number(value) is None and whole_number(key) is not None


def _in_order(pairs: list[tuple[str, str]], path: Path) -> list[str]:
    by_index: dict[int, str] = {}
    for text, name in pairs:
        index = whole_number(text)
        if index is None or index in by_index:
            reason = "is not a whole number" if index is None else "occurs twice"
            raise UserError(f"{path}: class index {text!r} of {name!r} {reason}")
        by_index[index] = name_of(name)
    first, last = min(by_index, default=0), max(by_index, default=-1)
    if first not in (0, 1) or last != first + len(by_index) - 1:
        raise UserError(
            f"{path}: class indices must run from 0 or 1 without gaps; here {len(by_index)} run"
            f" from {first} to {last}"
        )
    return [by_index[index] for index in sorted(by_index)]
