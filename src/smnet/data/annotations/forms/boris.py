"""BORIS: aggregated events as csv or tsv, and lists of events as they are pasted into BORIS.

Aggregated: a row per event with the columns ``Behavior``, ``Behavior type``, ``Start (s)``,
``Stop (s)``, and the recording in ``Media file name`` or ``Source``. Point events have no duration
and are left out. Pasted: no header, tab-separated rows of time, subject and code; a state begins
and ends with a row each. The recording has the name of the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from smnet.data.annotations.columns import split_header
from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.text import head, table
from smnet.data.annotations.times import part_of, seconds
from smnet.data.clips import ClipSet, Part

_WANTED = {"Behavior", "Behavior type", "Start (s)", "Stop (s)"}
_MEDIA = ("Media file name", "Media file path", "Media file", "Source")


def recognise(data: Path) -> str | None:
    if files := _aggregated(data):
        return f"{files[0].name} with aggregated events of BORIS"
    files = _pasted(data)
    return f"{files[0].name} with rows of time, subject, code, as for BORIS" if files else None


def read(reading: Reading) -> ClipSet:
    files, read_rows = _aggregated(reading.data), _events
    if not files:
        files, read_rows = _pasted(reading.data), _states
    chosen(files, reading.data, "list of events of BORIS")
    points: list[str] = []
    found = [i for file in files for i in read_rows(file, reading.problems, points)]
    why = [str(recognise(reading.data))]
    if points:
        why.append(f"point events left out, as they have no duration: {len(points)}")
    folder = files[0].parent
    return assemble_intervals(reading, "boris", found, why, folder=folder, several=True)


def _aggregated(data: Path) -> list[Path]:
    files = files_of(data, "*.csv", "*.tsv")
    return [f for f in files if any(set(names) >= _WANTED for names in split_header(f).values())]


def _pasted(data: Path) -> list[Path]:
    return [file for file in files_of(data, "*.tsv", "*.txt") if _is_pasted(file)]


def _is_pasted(file: Path) -> bool:
    rows = [row.split("\t") for row in head(file, 20)]
    return bool(rows) and all(
        len(row) > 2 and seconds(row[0]) is not None and row[2] and seconds(row[2]) is None
        for row in rows
    )


def _events(file: Path, problems: Problems, points: list[str]) -> Iterator[Interval]:
    delimiter, names = next((d, n) for d, n in split_header(file).items() if set(n) >= _WANTED)
    media = next((name for name in _MEDIA if name in names), None)
    for number, fields in islice(table(file, delimiter), 1, None):
        source = f"{file.name}:{number}"
        row = dict(zip(names, fields, strict=False))
        # "player #1:videos/a.mp4;"
        video = re.sub(r"^player #\d+:|;$", "", row.get(media or "", ""))
        video = video or row.get("Observation id", "")
        part, wrong = part_of({("s", "start"): row["Start (s)"], ("s", "end"): row["Stop (s)"]})
        if "POINT" in row["Behavior type"].upper():
            points.append(source)
        elif wrong or part is None or not video or not row["Behavior"]:
            text = wrong or "expected a recording, a behavior, its start and its stop"
            problems.add("malformed row", source, text)
        else:
            yield Interval(video, part, (row["Behavior"],), source)


def _states(file: Path, problems: Problems, points: list[str]) -> Iterator[Interval]:
    begun: dict[tuple[str, str], tuple[float, str]] = {}
    for number, fields in table(file, "\t"):
        source = f"{file.name}:{number}"
        time = seconds(fields[0]) if len(fields) > 2 else None
        if time is None:
            problems.add("malformed row", source, "expected time, subject and code")
            continue
        key = fields[1], fields[2]
        if key not in begun:
            begun[key] = time, source
            continue
        start, first = begun.pop(key)
        if time <= start:
            text = f"{fields[2]!r} stops at {time:g} s, not after its start at {start:g} s"
            problems.add("malformed row", source, text)
        else:
            yield Interval(file.stem, Part(start, time), (fields[2],), first)
    for (_, code), (start, source) in begun.items():
        problems.add("malformed row", source, f"{code!r} starts at {start:g} s and does not stop")


FORM = Form(
    "boris",
    "BORIS: aggregated events (csv, tsv), or rows of time, subject, code",
    0,
    recognise,
    read,
)
