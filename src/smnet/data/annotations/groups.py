"""Groups that no column names: files with the same content, takes of one recording by name, and
clips that were found to look alike."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_NAMES = (
    re.compile(r"(v_.+_g\d+)_c\d+"),  # UCF101
    re.compile(r"(.+?)(?:_\d{6}){2}"),  # Kinetics: YouTube id, start, end
    re.compile(r"(.+?)[\s_.-]+(?:c|clip|p|part|s|scene|seg|segment|shot|take)?\d+", re.IGNORECASE),
)
"""The part of a file's name that takes of one recording share."""
_SMALLEST = 1024  # bytes of a file that holds a clip
_LEAST = 3  # groups per class; fewer look like the name of the class with a number


class Row(Protocol):
    """A clip whose group may be set."""

    label: int
    group: str | None

    @property
    def path(self) -> str: ...


def assign_groups(rows: Sequence[Row]) -> list[str]:
    """Set the groups of rows that have none, where files or their names show them.

    Files with the same content are one group. If no row has a group, groups are guessed from names
    such as ``v_Punch_g01_c02`` or ``kitchen_003``: what stands before the last number. The guess is
    used if some group has several clips and every class has several groups.

    Returns:
        What was decided, for the user.
    """
    notes = []
    if all(row.group is None for row in rows):
        guessed = _guess(rows)
        if guessed:
            for row, group in zip(rows, guessed, strict=True):
                row.group = group
            sizes = Counter(guessed)
            notes.append(
                f"{len(sizes)} groups guessed from file names, such as"
                f" {Path(sizes.most_common(1)[0][0]).name} (groups=off ignores them)"
            )
    identical = _identical(rows)
    for members in identical:
        _unite(rows, members)
    if identical:
        count = sum(map(len, identical))
        notes.append(f"{count} files with the content of another are kept with it")
    return notes


def keep_together(rows: Sequence[Row], data: Path, copies: Sequence[Sequence[str]]) -> list[str]:
    """Give the clips of each set one group, and all other clips of their groups too.

    Args:
        rows: the clips.
        data: the data set.
        copies: sets of names as by :func:`name_below`. Names without a clip are left out.

    Returns:
        What was decided, for the user.
    """
    places: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        places.setdefault(name_below(row.path, data), []).append(position)
    count = 0
    for names in copies:
        members = [position for name in names for position in places.get(name, ())]
        if len(members) > 1:
            _unite(rows, members)
            count += len(members)
    return [f"{count} clips that look like copies are kept together"] if count else []


def name_below(path: str, data: str | os.PathLike[str]) -> str:
    """A path as it is seen from a data set, with slashes; the same where both were moved.

    Args:
        path: of a clip.
        data: the folder or the annotation file of the data set.
    """
    folder = Path(data) if Path(data).is_dir() else Path(data).parent
    return os.path.relpath(path, folder).replace(os.sep, "/")


def _guess(rows: Sequence[Row]) -> list[str] | None:
    """The group of each row by its name; None if names do not show groups."""
    groups = []
    for row in rows:
        path = Path(row.path)
        found = next((m for pattern in _NAMES if (m := pattern.fullmatch(path.stem))), None)
        groups.append(str(path.with_name(found[1] if found else path.name)))
    of_class: dict[int, set[str]] = {}
    for row, group in zip(rows, groups, strict=True):
        of_class.setdefault(row.label, set()).add(group)
    clips = Counter(row.label for row in rows)
    several = all(len(of_class[label]) >= min(_LEAST, clips[label]) for label in of_class)
    files = {row.path for row in rows}
    return groups if several and len(set(groups)) < len(files) else None


def _identical(rows: Sequence[Row]) -> list[list[int]]:
    """Positions of rows with different files of the same content."""
    sizes: dict[int, dict[str, list[int]]] = {}
    for position, row in enumerate(rows):
        with suppress(OSError, ValueError):
            path = Path(row.path)
            if path.is_file():
                sizes.setdefault(path.stat().st_size, {}).setdefault(row.path, []).append(position)
    sets = []
    for size, files in sizes.items():
        if len(files) < 2 or size < _SMALLEST:
            continue
        contents: dict[bytes, list[str]] = {}
        for file in files:
            with suppress(OSError):
                contents.setdefault(_digest(Path(file)), []).append(file)
        sets += [[p for f in same for p in files[f]] for same in contents.values() if len(same) > 1]
    return sets


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _unite(rows: Sequence[Row], members: Sequence[int]) -> None:
    """Give rows one group, and all other rows of their groups too."""
    old = {rows[position].group for position in members} - {None}
    name = min((group for group in old if group is not None), default=rows[members[0]].path)
    for row in rows:
        if row.group in old:
            row.group = name
    for position in members:
        rows[position].group = name
