"""Several labels per clip in lists and columns, as in multi-label lists of mmaction2.

Without the check, ``clip.mp4 3 7`` would be read as 3 frames of class 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from smnet.data.annotations.places import is_video
from smnet.data.annotations.text import whole_number
from smnet.errors import UserError

_JOINED = re.compile(r"[0-9]+(?:[\s,;|]+[0-9]+)+")
_NAMES = re.compile(r"\s*[,;|]\s*")


class Line(NamedTuple):
    """A line of a list whose clips have several labels.

    Attributes:
        behind: fields after the path.
        frames: number of frames; None if it is not given.
        labels: numbers of classes, each once.
    """

    behind: int
    frames: int | None
    labels: tuple[int, ...]


def is_several(label: str) -> bool:
    """Whether a field holds several numbers, such as "3,7"."""
    return _JOINED.fullmatch(label) is not None


def several_labels(
    file: str, rows: Sequence[tuple[int, list[str]]], frames_form: bool
) -> dict[int, Line]:
    """The lines of a list without a header in which clips have several labels, by number.

    Labels are joined (``clip.mp4 3,7``), or follow a video file (``clip.mp4 3 7``). The first of
    the numbers after a video is the number of frames if every line has two numbers or more, and the
    first one is larger than the others.

    Args:
        file: its path.
        rows: (line number, fields).
        frames_form: whether the list is read as path, number of frames, label.

    Returns:
        Empty if each clip has one label.

    Raises:
        UserError: two numbers after each video may be frames and label, or two labels.
    """
    joined = any(is_several(fields[-1]) for _, fields in rows if fields)
    runs = {number: _run(fields) for number, fields in rows}
    videos = [run for run in runs.values() if run]
    longest = max(map(len, videos), default=0)
    singles = sum(len(run) == 1 for run in videos)
    frames = all(run[0] > max(run[1:], default=run[0]) for run in videos)
    if not joined and (longest < 2 or (longest == 2 and 10 * singles <= len(rows))):
        pairs = [(number, run) for number, run in runs.items() if len(run) == 2]
        if not any(run[0] == 0 for _, run in pairs):
            if len(pairs) > 3 and all(run[0] < run[1] for _, run in pairs):
                number, (first, second) = pairs[0]
                raise UserError(
                    f"{file}:{number}: {first} and {second} may be frames and label, or two labels."
                    f" Write two labels as {first}|{second}; remove the number of frames, as frames"
                    " of video files are counted"
                )
            return {}
    found: dict[int, Line] = {}
    for number, fields in rows:
        run = runs[number]
        if fields and (is_several(fields[-1]) or (joined and not run)):
            count = whole_number(fields[-2]) if frames_form and len(fields) > 2 else None
            labels = tuple(map(int, re.findall("[0-9]+", fields[-1])))
            if labels:
                found[number] = Line(1 + (count is not None), count, labels)
        elif run:
            count = run[0] if frames and len(run) > 1 else None
            labels = tuple(run[1:] if count is not None else run)
            found[number] = Line(len(run), count, labels)
    return {n: line._replace(labels=tuple(dict.fromkeys(line.labels))) for n, line in found.items()}


def _run(fields: list[str]) -> list[int]:
    """The numbers after the path of a video; [] for other paths, which may end in numbers."""
    numbers: list[int] = []
    for place in range(len(fields) - 1, 0, -1):
        number = whole_number(fields[place])
        if number is None:
            return []
        numbers.insert(0, number)
        if is_video(fields[place - 1]):
            return numbers
    return []


def check_labels(rows: Iterable[tuple[str, str]], names: Iterable[str]) -> None:
    """Refuse a column of labels in which a field holds several.

    Args:
        rows: (source, label) of each row.
        names: the class names; empty where the column itself gives them.

    Raises:
        UserError: the first such row.
    """
    rows, names = list(rows), set(names)
    known = names or {label for _, label in rows}
    for source, label in rows:
        parts = [part for part in _NAMES.split(label) if part]
        if label in names:
            continue
        if is_several(label):
            raise _refusal(source, re.findall("[0-9]+", label))
        if len(parts) > 1 and known.issuperset(parts):
            raise _refusal(source, parts)


def _refusal(where: str, labels: Sequence[str]) -> UserError:
    return UserError(
        f"{where}: several labels for one clip ({', '.join(labels)}); separate them by a bar:"
        f" {'|'.join(labels)}"
    )
