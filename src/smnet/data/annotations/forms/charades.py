"""Charades: ``Charades_v1_train.csv`` and ``_test.csv`` with the actions of each recording.

A row has an id, a subject, and actions ``c092 11.90 21.20;c147 0.00 12.60`` in seconds. Class names
are in ``Charades_v1_classes.txt``. Each action is a clip; actions with the same times are one clip
with several labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.text import header_of, lines, table
from smnet.data.annotations.times import part_of
from smnet.data.clips import ClipSet

_WANTED = {"id", "subject", "actions"}


def recognise(data: Path) -> str | None:
    files = _files(data)
    return f"{' and '.join(f.name for f in files)} with the columns of Charades" if files else None


def read(reading: Reading) -> ClipSet:
    files = chosen(_files(reading.data), reading.data, "csv with the columns of Charades")
    names = _class_names(files[0].parent)
    found = [item for file in files for item in _intervals(file, names, reading.problems)]
    used = {label for item in found for label in item.labels}
    classes = [name for name in names.values() if name in used] if names else None
    return assemble_intervals(
        reading,
        "charades",
        found,
        [str(recognise(reading.data))],
        folder=files[0].parent,
        classes=classes,
        several=True,
    )


def _files(data: Path) -> list[Path]:
    return [file for file in files_of(data, "*.csv") if header_of(file, _WANTED)]


def _class_names(folder: Path) -> dict[str, str]:
    """{"c000": name}; empty without the file of classes."""
    for file in sorted(folder.glob("Charades*classes.txt")):
        pairs = (text.partition(" ") for _, text in lines(file))
        return {code: name for code, _, name in pairs}
    return {}


def _intervals(file: Path, names: dict[str, str], problems: Problems) -> Iterator[Interval]:
    _, columns = header_of(file, _WANTED) or ("", [])
    split = next((s for s in ("train", "test") if s in file.stem.lower()), None)
    for number, fields in list(table(file, ","))[1:]:
        source = f"{file.name}:{number}"
        row = dict(zip(columns, fields, strict=False))
        for action in filter(None, row.get("actions", "").split(";")):
            code, *times = action.split()
            borders = dict(zip((("s", "start"), ("s", "end")), times, strict=False))
            part, wrong = part_of(borders)
            if part is None or len(times) != 2 or (names and code not in names):
                problems.add("malformed row", source, f"{action!r}: {wrong or 'unknown'}")
            else:
                label = names.get(code, code)
                yield Interval(row["id"], part, (label,), source, split, row["subject"])


FORM = Form("charades", "Charades_v1_train.csv and _test.csv", 0, recognise, read)
