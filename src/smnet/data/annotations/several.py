"""Several labels per clip, as in Charades or multi-label lists of mmaction2: refused.

A clip has one label here. Without the check, ``clip.mp4 3 7`` would be read as 3 frames of class 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from smnet.data.annotations.places import is_video
from smnet.errors import UserError

_NUMBERS = re.compile(r"(?P<between>[\s,;|\"']+)(?P<run>[0-9]+(?:[\s,;|]+[0-9]+)*)[\"']?$")
_JOINED = re.compile(r"[0-9]+(?:[\s,;|]+[0-9]+)+")
_NAMES = re.compile(r"\s*[,;|]\s*")


def is_several(label: str) -> bool:
    """Whether a field holds several numbers, such as "3,7"."""
    return _JOINED.fullmatch(label) is not None


def check_lines(file: str, rows: Sequence[tuple[int, str, str]], frames_form: bool) -> None:
    """Refuse a list without a header in which lines end in several labels.

    Args:
        file: its path.
        rows: (line number, text, last field).
        frames_form: whether the list is read as path, number of frames, label.

    Raises:
        UserError: the first such line.
    """
    pairs: list[tuple[int, list[str]]] = []
    singles = 0
    for number, text, label in rows:
        if is_several(label):
            raise _refusal(f"{file}:{number}", _numbers(label))
        found = _NUMBERS.search(text)
        if found is None or not is_video(text[: found.start()]):
            continue  # the name of a folder may end in numbers
        numbers = _numbers(found["run"])
        inside = set(re.sub(r"[0-9]", "", found["run"]))
        joined = bool(inside & set(",;|")) and not inside & set(found["between"])
        if joined or len(numbers) > 1 + frames_form:
            raise _refusal(f"{file}:{number}", numbers)
        if len(numbers) == 2:
            pairs.append((number, numbers))
        else:
            singles += 1
    # Two numbers after a video: frames and label, or two labels? Labels are sorted, often 0, and
    # not every clip has two.
    sorted_ = len(pairs) > 3 and all(int(first) < int(last) for _, (first, last) in pairs)
    zero = any(int(first) == 0 for _, (first, _) in pairs)
    if pairs and (10 * singles > len(rows) or sorted_ or zero):
        number, labels = pairs[0]
        raise UserError(
            f"{_refusal(f'{file}:{number}', labels)}. If the first number is the number of frames,"
            " remove it: frames of video files are counted"
        )


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
            raise _refusal(source, _numbers(label))
        if len(parts) > 1 and known.issuperset(parts):
            raise _refusal(source, parts)


def _refusal(where: str, labels: Iterable[str]) -> UserError:
    return UserError(
        f"{where}: several labels for one clip ({', '.join(labels)}), but a clip has one label"
        " here. Keep one label per line, or cut the clip: one file per action"
    )


def _numbers(text: str) -> list[str]:
    return re.findall("[0-9]+", text)
