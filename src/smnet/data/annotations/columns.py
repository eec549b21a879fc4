"""The columns of a csv: which holds the path, the label, the split, and which cannot be ignored."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from smnet.data.annotations.text import head
from smnet.errors import UserError

# The accepted names of each column. Where a header has several of them, the first is taken.
ROLES: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "video_path", "clip_path", "file_path", "filepath", "file_name", "filename"),
        *("file", "video", "clip", "video_name", "clip_name", "video_file", "video_id"),
    ),
    "label": ("label", "class", "class_name", "label_name", "action", "category", "labels"),
    "split": ("split", "subset", "partition", "usage", "phase", "set"),
    "frames": ("frames", "num_frames", "n_frames", "frame_count", "total_frames"),
}

_WHEN = r"(start|begin|onset|end|stop|offset)"
_UNIT = r"(time|frame|sec|secs|second|seconds|s|ms)"
# Columns that change the meaning of a row, and what to do about them.
_MEANING: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(rf"((t|time|frame|clip|segment)_?)?{_WHEN}(_?{_UNIT})?s?|timestamps?"),
        "means a part of the file, but whole files are read. Cut the clips into files of their own",
    ),
    (
        re.compile(r"fps|frame_?rate"),
        "asks for a frame rate, but files are read at their own. Convert the files",
    ),
    (
        re.compile(r"(label|class|action|category)_?(s|\d+|names|ids)|(label|action)s_.*"),
        "means further labels, but a clip has one label. Keep one label per row",
    ),
    (
        re.compile(r"bbox|box|[xy](_?min|_?max|[12])|crop"),
        "means a part of the picture, but whole frames are read. Crop the clips",
    ),
)


@dataclass(frozen=True)
class Columns:
    """The header of a csv.

    Attributes:
        delimiter: comma, semicolon or tab.
        names: the column names in lower case, blanks as underscores.
        index: role -> position of its column; roles without a column are absent.
    """

    delimiter: str
    names: tuple[str, ...]
    index: dict[str, int]

    @property
    def synonyms(self) -> list[str]:
        """Which columns are read under another name, for the user."""
        return [
            f"{self.names[position]} is read as {role}"
            for role, position in self.index.items()
            if self.names[position] != role
        ]

    @property
    def ignored(self) -> list[str]:
        """Columns without a role that may be ignored."""
        return [n for n in self._others() if n and self.meaning(n) is None]

    @property
    def decisive(self) -> list[tuple[int, str, str]]:
        """(position, name, meaning) of columns that may not be ignored where they have a value."""
        meanings = ((i, name, self.meaning(name)) for i, name in enumerate(self.names))
        others = set(self._others())
        return [(i, name, text) for i, name, text in meanings if text and name in others]

    def _others(self) -> list[str]:
        return [name for i, name in enumerate(self.names) if i not in self.index.values()]

    @staticmethod
    def meaning(name: str) -> str | None:
        return next((text for pattern, text in _MEANING if pattern.fullmatch(name)), None)


def columns_of(file: Path) -> Columns | None:
    """The columns of a csv whose first line is a header; None if it names no path or no label.

    Raises:
        UserError: a column that is used has the same name as another.
    """
    found = max(map(_columns, split_header(file).items()), key=lambda c: len(c.index), default=None)
    if found is None or not {"path", "label"} <= found.index.keys():
        return None
    for position in found.index.values():
        if found.names.count(found.names[position]) > 1:
            raise UserError(f"{file}:1: two columns are named {found.names[position]!r}")
    return found


def split_header(file: Path) -> dict[str, list[str]]:
    """{delimiter: fields of the first line}, for the delimiters that separate at least two."""
    first = head(file, 1)
    fields = {}
    for delimiter in ",;\t":
        try:
            row = next(csv.reader(first, delimiter=delimiter), [])
        except csv.Error:
            continue
        if len(row) > 1:
            fields[delimiter] = [field.strip() for field in row]
    return fields


def _columns(header: tuple[str, list[str]]) -> Columns:
    delimiter, fields = header
    names = tuple(re.sub(r"[\s-]+", "_", field.lower()) for field in fields)
    index = {}
    for role, accepted in ROLES.items():
        name = next((name for name in accepted if name in names), None)
        if name is not None:
            index[role] = names.index(name)
    return Columns(delimiter, names, index)
