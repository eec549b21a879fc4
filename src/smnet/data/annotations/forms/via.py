"""VIA 3 (VGG Image Annotator): its csv with temporal segments.

Rows are metadata_id, file_list, flags, temporal_coordinates, spatial_coordinates, metadata; a
comment ``# ATTRIBUTE = {...}`` names the attributes and their options.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen, interval
from smnet.data.annotations.places import files_of
from smnet.data.annotations.text import head, lines
from smnet.data.clips import ClipSet
from smnet.errors import UserError


def recognise(data: Path) -> str | None:
    files = _files(data)
    return f"{files[0].name} of VIA 3" if files else None


def read(reading: Reading) -> ClipSet:
    files = chosen(_files(reading.data), reading.data, "csv of VIA 3", one=True)
    rows = list(_segments(files[0], reading))
    names = sorted({attribute for _, values in rows for attribute in values})
    target = reading.source.target or (names[0] if len(names) == 1 else None)
    if target is None or target not in names:
        raise UserError(
            f"{files[0]}: the attributes of segments are {', '.join(names) or 'none'}; choose the"
            " one with the classes with --target NAME (target= for train)"
        )
    found = [
        Interval(item.video, item.part, tuple(values[target].split(",")), item.source)
        for item, values in rows
        if values.get(target)
    ]
    why = [f"{recognise(files[0])}, attribute {target}"]
    return assemble_intervals(reading, "via", found, why, folder=files[0].parent, several=True)


def _files(data: Path) -> list[Path]:
    files = files_of(data, "*.csv")
    return [f for f in files if any("CSV_HEADER = metadata_id" in line for line in head(f, 12))]


def _segments(file: Path, reading: Reading) -> Iterator[tuple[Interval, dict[str, str]]]:
    """Segments without labels, and {attribute: value} of each."""
    attributes: dict[str, Any] = {}
    for number, text in lines(file):
        source = f"{file.name}:{number}"
        if text.startswith("#"):
            key, _, value = text.partition("=")
            if key.strip() in ("# ATTRIBUTE", "# ATTRIBUTES"):
                attributes = _json(value)
            continue
        row = next(csv.reader([text]), [])
        videos, times, values = (_json(row[i]) if len(row) > 5 else None for i in (1, 3, 5))
        if not videos or not isinstance(times, list) or not isinstance(values, dict):
            reading.problems.add("malformed row", source, "expected the six fields of VIA")
        elif len(times) == 2:  # one number is a still frame, none is the file
            part = interval(*times)
            if part is None:
                text = f"{times[0]} to {times[1]} s is not a part"
                reading.problems.add("malformed row", source, text)
            else:
                yield Interval(videos[0], part, (), source), _named(values, attributes)


def _named(values: dict[str, Any], attributes: dict[str, Any]) -> dict[str, str]:
    """{attribute: value} with names in place of numbers."""
    named = {}
    for number, value in values.items():
        about = attributes.get(number)
        about = about if isinstance(about, dict) else {"aname": about or number}
        options = about.get("options") or {}
        chosen = [str(options.get(one, one)) for one in str(value).split(",")]
        named[str(about.get("aname", number))] = ",".join(chosen)
    return named


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


FORM = Form("via", "the csv of VIA 3 with temporal segments", 0, recognise, read)
