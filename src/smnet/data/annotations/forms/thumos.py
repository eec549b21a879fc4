"""THUMOS14 as a csv: ``val_Annotation.csv`` and ``test_Annotation.csv``, as for AFSD and TadTR.

Columns are video, type, start and end in seconds, optionally split and group, among others. The
validation recordings are the training set, as in all work on this data set; the test recordings are
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from smnet.data.annotations.columns import columns_from
from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS
from smnet.data.annotations.text import header_of, table
from smnet.data.annotations.times import part_of
from smnet.data.clips import ClipSet

_WANTED = {"video", "type", "start", "end"}


def recognise(data: Path) -> str | None:
    files = _files(data)
    return f"{' and '.join(f.name for f in files)} with the columns of THUMOS" if files else None


def read(reading: Reading) -> ClipSet:
    files = chosen(
        _files(reading.data), reading.data, "csv with the columns video, type, start, end"
    )
    found = [item for file in files for item in _intervals(file, reading.problems)]
    why = [str(recognise(reading.data)), "val is used for training"]
    folder = files[0].parent
    return assemble_intervals(reading, "thumos", found, why, folder=folder, several=True)


def _files(data: Path) -> list[Path]:
    return [file for file in files_of(data, "*.csv") if header_of(file, _WANTED)]


def _intervals(file: Path, problems: Problems) -> Iterator[Interval]:
    delimiter, columns = header_of(file, _WANTED) or (",", [])
    name = file.stem.lower()
    split = "val" if "test" in name else "train" if "val" in name or "train" in name else None
    others = columns_from(columns, delimiter)
    for number, fields in list(table(file, delimiter))[1:]:
        source = f"{file.name}:{number}"
        row = dict(zip(columns, fields, strict=False))
        part, wrong = part_of({("s", side): row.get(side, "") for side in ("start", "end")})
        if part is None or not row.get("type") or len(fields) < len(columns):
            problems.add("malformed row", source, wrong or "expected a type, a start and an end")
            continue
        others.check(f"{file}:{number}", fields)
        given = others.value("split", fields)
        side = SPLIT_WORDS.get(given.lower()) if given else split
        if given and side is None:
            problems.add("malformed row", source, f"split {given!r} is not train, val or test")
            continue
        group = others.value("group", fields) or None
        yield Interval(row["video"], part, (row["type"],), source, side, group)


FORM = Form("thumos", "csv files of THUMOS14 with video, type, start, end", 0, recognise, read)
