"""The columns of a csv: which holds the path, the label, a time, and which cannot be ignored."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from smnet.data.annotations.text import head
from smnet.data.annotations.times import part_of
from smnet.data.clips import Part
from smnet.errors import UserError

# The accepted names of each column. Where a header has several of them, the first is taken.
ROLES: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "video_path", "clip_path", "file_path", "filepath", "file_name", "filename"),
        *("file", "video", "clip", "video_name", "clip_name", "video_file", "video_id"),
        *("videoname", "clipname", "video_filename"),
    ),
    "label": (
        *("label", "class", "class_name", "label_name", "action", "category", "labels", "target"),
        *("activity", "action_name", "class_label", "classname"),
    ),
    "split": ("split", "subset", "partition", "usage", "phase", "set"),
    "frames": ("frames", "num_frames", "n_frames", "frame_count", "total_frames"),
    "group": (
        *("group", "recording", "source_group"),
        *("person", "subject", "signer", "camera"),
    ),
    "fold": ("fold",),
    "fps": ("fps", "frame_rate", "framerate"),
}

_WHEN = r"((t|time|clip|segment|action|event|frame)_?)?(start|begin|onset|end|stop|{})"
_UNIT = r"(_?(time|frames?|s|secs?|seconds?|ms|milliseconds?))?(_?(s|secs?|seconds?|ms))?"
_TIME = re.compile(_WHEN.format("offset(?=_?(time|frames?|s|secs?|seconds?|ms))") + _UNIT)
_LABELS = re.compile(r"(label|class|action|category)_?(s|\d+|names|ids)|(label|action)s_.*")
# Columns that change the meaning of a row, and what to do about them.
_MEANING: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(rf"{_WHEN.format('offset')}{_UNIT}s?|times?(_?stamps?)?|timestamps?"),
        "means a part of the file, but is not read. Name the columns start and end (seconds), or"
        " start_frame and end_frame (numbers from 0, end not included)",
    ),
    (
        re.compile(r"fps|frame_?rate"),
        "asks for a frame rate, but files are read at their own. Convert the files",
    ),
    (
        _LABELS,
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
        borders: (unit, "start" or "end") -> position, with the units "s", "ms" and "frames".
    """

    delimiter: str
    names: tuple[str, ...]
    index: dict[str, int]
    borders: dict[tuple[str, str], int]

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

    def check(self, source: str, fields: Sequence[str], labels: bool = True) -> None:
        """Refuse a row with a value in a column that changes its meaning and is not read.

        Args:
            source: the file and the line.
            fields: of the row.
            labels: whether the labels of the row are used.

        Raises:
            UserError: it has one.
        """
        for position, name, meaning in self._decisive:
            unused = not labels and _LABELS.fullmatch(name)
            if fields[position] and not unused:
                raise UserError(
                    f"{source}: the column {name!r} {meaning}, or delete the column if it does not"
                    " matter"
                )

    def value(self, role: str, fields: Sequence[str]) -> str:
        """The field of a role; empty without such a column."""
        return fields[self.index[role]] if role in self.index else ""

    def part(self, fields: Sequence[str]) -> tuple[Part | None, str]:
        """The part of a row, and what is wrong with it; see :func:`part_of`.

        Raises:
            IndexError: the row is too short.
        """
        return part_of({key: fields[position] for key, position in self.borders.items()})

    @cached_property
    def _decisive(self) -> list[tuple[int, str, str]]:
        """(position, name, meaning) of columns that may not be ignored where they have a value."""
        meanings = ((i, name, self.meaning(name)) for i, name in enumerate(self.names))
        others = set(self._others())
        return [(i, name, text) for i, name, text in meanings if text and name in others]

    def _others(self) -> list[str]:
        used = {*self.index.values(), *self.borders.values()}
        return [name for i, name in enumerate(self.names) if i not in used]

    @staticmethod
    def meaning(name: str) -> str | None:
        return next((text for pattern, text in _MEANING if pattern.fullmatch(name)), None)


def time_column(name: str) -> tuple[str, str] | None:
    """("s", "ms" or "frames", "start" or "end") of a column with a border of a part."""
    found = _TIME.fullmatch(name)
    if found is None:
        return None
    side = "start" if found[3] in ("start", "begin", "onset") else "end"
    if "frame" in name:
        return "frames", side
    return "ms" if name.endswith(("ms", "milliseconds", "millisecond")) else "s", side


def columns_of(file: Path, wanted: Set[str] = frozenset(("path", "label"))) -> Columns | None:
    """The columns of a csv whose first line is a header; None if it lacks a wanted role.

    Raises:
        UserError: a column that is used has the same name as another.
    """
    headers = (columns_from(names, mark) for mark, names in split_header(file).items())
    found = max(headers, key=lambda c: len(c.index), default=None)
    if found is None or not wanted <= found.index.keys():
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


def columns_from(fields: Sequence[str], delimiter: str = ",") -> Columns:
    """The columns of a header."""
    names = tuple(re.sub(r"[\s()\[\]-]+", "_", field.lower()).strip("_") for field in fields)
    borders: dict[tuple[str, str], int] = {}
    for position, name in enumerate(names):
        if border := time_column(name):
            borders.setdefault(border, position)
    index: dict[str, int] = {}
    for role, accepted in ROLES.items():
        taken = next((name for name in accepted if name in names), None)
        if taken is not None:
            index[role] = names.index(taken)
    return Columns(delimiter, names, index, borders)
