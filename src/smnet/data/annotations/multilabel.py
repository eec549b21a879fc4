"""Lists of several labels for one clip, as of Charades or MMAction2's multi-label sets: refused.

A clip has one label here. Read as what they are not, such lists give wrong labels without any
error: of ``clip.mp4 3 7`` the 3 would pass for a number of frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from smnet.data.annotations.places import is_video
from smnet.data.annotations.text import head
from smnet.errors import UserError

_NUMBERS = re.compile(r"(?P<between>[\s,;|\"']+)(?P<run>[0-9]+(?:[\s,;|]+[0-9]+)*)[\"']?$")
_JOINED = re.compile(r"[0-9]+(?:[\s,;|]+[0-9]+)+")
_NAMES = re.compile(r"\s*[,;|]\s*")
_HEADERS = (("path", "labels"), ("id", "actions"))
_FEW = 3  # rows that may go up by accident


def refusal(where: str, labels: Iterable[str]) -> UserError:
    """The one line that says what was found, where, and what to do."""
    return UserError(
        f"{where}: several labels for one clip ({', '.join(labels)}), but a clip has one here; keep"
        " one label a line, or cut the clip so that each piece shows one action"
    )


def is_several(label: str) -> bool:
    """Whether a field holds several numbers, "3,7"."""
    return _JOINED.fullmatch(label) is not None


def column_of_several(path: Path) -> str | None:
    """The name of the column with several labels, where the first line has one; else None."""
    columns = {column for line in head(path, 1) for column in re.split(r"[\s,;]+", line.lower())}
    return next((last for first, last in _HEADERS if {first, last} <= columns), None)


def check_lines(
    name: str,
    rows: Sequence[tuple[int, str, str]],
    frames_form: bool,
    exists: Callable[[str], bool],
    read_as: Callable[[str], str],
) -> None:
    """Refuse a list without a header whose lines end in several labels.

    Args:
        name: of the file.
        rows: (line number, text, what is read as the label).
        frames_form: the list is read as path, number of frames, label.
        exists: whether there is a clip of this name.
        read_as: the path in a line, as the list is read.

    Raises:
        UserError: such a line, by its number.
    """
    pairs: list[tuple[int, list[str]]] = []
    alone = 0
    for number, text, label in rows:
        if is_several(label):
            raise refusal(f"{name}:{number}", _numbers(label))
        found = _NUMBERS.search(text)
        if found is None:
            continue
        path, numbers = text[: found.start()], _numbers(found["run"])
        inside = set(re.sub(r"[0-9]", "", found["run"]))
        joined = bool(inside & set(",;|")) and not inside & set(found["between"])
        if is_video(path):
            if joined or len(numbers) > 2 or (len(numbers) == 2 and not frames_form):
                raise refusal(f"{name}:{number}", numbers)
            if len(numbers) == 2:
                pairs.append((number, numbers))
            else:
                alone += 1
        elif len(numbers) > 1 + frames_form and exists(path) and not exists(read_as(text)):
            raise refusal(f"{name}:{number}", numbers[frames_form:])
    # Two numbers behind a video: frames and label, or two labels?
    rising = len(pairs) > _FEW and all(int(first) < int(last) for _, (first, last) in pairs)
    zero = any(int(first) == 0 for _, (first, _) in pairs)
    if pairs and (10 * alone > len(rows) or rising or zero):
        number, labels = pairs[0]
        raise UserError(
            f"{refusal(f'{name}:{number}', labels)}; if the first number is that of the frames,"
            " leave it out: of video files they are counted"
        )


def check_labels(rows: Iterable[tuple[str, str]], names: Iterable[str]) -> None:
    """Refuse a column of labels that holds several in one field.

    Args:
        rows: (source, label) of each row.
        names: the class names; none where they are what the column holds.

    Raises:
        UserError: such a row, by its source.
    """
    rows, names = list(rows), set(names)
    known = names or {label for _, label in rows}
    for source, label in rows:
        parts = [part for part in _NAMES.split(label) if part]
        if label in names:
            continue
        if is_several(label):
            raise refusal(source, _numbers(label))
        if len(parts) > 1 and known.issuperset(parts):
            raise refusal(source, parts)


def _numbers(text: str) -> list[str]:
    return re.findall("[0-9]+", text)
