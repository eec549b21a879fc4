"""EPIC-KITCHENS-100: ``EPIC_100_train.csv`` and ``EPIC_100_validation.csv``.

The option ``target`` chooses the classes: ``verb``, ``noun``, or ``action`` (both; the default).
Recordings are ``<video_id>.MP4``, also in folders of participants. Participants are groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS
from smnet.data.annotations.text import header_of, table
from smnet.data.annotations.times import part_of
from smnet.data.clips import ClipSet
from smnet.errors import UserError

_TIMES = {("s", "start"): "start_timestamp", ("s", "end"): "stop_timestamp"}
_WANTED = {"narration_id", "participant_id", "video_id", "verb", "noun", *_TIMES.values()}
TARGETS = ("action", "verb", "noun")


def recognise(data: Path) -> str | None:
    files = _files(data)
    return f"{' and '.join(f.name for f in files)} of EPIC-KITCHENS" if files else None


def read(reading: Reading) -> ClipSet:
    files = chosen(_files(reading.data), reading.data, "csv with the columns of EPIC-KITCHENS")
    target = reading.source.target or "action"
    if target not in TARGETS:
        raise UserError(f"{reading.data}: target is {target}; use {', '.join(TARGETS)}")
    found = [item for file in files for item in _intervals(file, target, reading.problems)]
    why = [f"{recognise(reading.data)}, classes by {target}"]
    folder = files[0].parent
    return assemble_intervals(reading, "epic-kitchens", found, why, folder=folder)


def _files(data: Path) -> list[Path]:
    return [file for file in files_of(data, "*.csv") if header_of(file, _WANTED)]


def _intervals(file: Path, target: str, problems: Problems) -> Iterator[Interval]:
    _, columns = header_of(file, _WANTED) or ("", [])
    word = re.search(r"train|validation|val|test", file.stem.lower())
    for number, fields in list(table(file, ","))[1:]:
        source = f"{file.name}:{number}"
        row = dict(zip(columns, fields, strict=False))
        part, wrong = part_of({key: row.get(name, "") for key, name in _TIMES.items()})
        if part is None or len(fields) < len(columns):
            problems.add("malformed row", source, wrong or "fewer fields than the header")
            continue
        label = f"{row['verb']} {row['noun']}" if target == "action" else row[target]
        split = SPLIT_WORDS[word[0]] if word else None
        yield Interval(row["video_id"], part, (label,), source, split, row["participant_id"])


FORM = Form("epic-kitchens", "EPIC_100_train.csv and EPIC_100_validation.csv", 0, recognise, read)
