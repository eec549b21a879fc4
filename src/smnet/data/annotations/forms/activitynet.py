"""ActivityNet's json, also of THUMOS, HACS and OpenTAD, and that of BSN (mmaction2).

``{"database": {id: {"subset": "training", "annotations": [...]}}}`` with annotations such as
``{"segment": [1.2, 3.4], "label": "a"}``, in seconds. BSN leaves out ``database`` and ``subset``.
Recordings are ``<id>.mp4`` or ``v_<id>.mp4``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen, interval
from smnet.data.annotations.places import files_of
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS
from smnet.data.annotations.text import begins_with, read_json
from smnet.data.clips import ClipSet
from smnet.errors import UserError


def recognise(data: Path) -> str | None:
    files = _files(data)
    return f"{files[0].name} with segments, as of ActivityNet" if files else None


def read(reading: Reading) -> ClipSet:
    files = chosen(_files(reading.data), reading.data, "json of recordings with segments", one=True)
    content = read_json(files[0])
    entries = content.get("database", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise UserError(f"{files[0]}: expected an object of recordings")
    found = list(_intervals(files[0].name, entries, reading.problems))
    why = [str(recognise(files[0]))]
    if {item.split for item in found} == {"val", "test"}:  # THUMOS
        sides = {"val": "train", "test": "val"}
        found = [replace(item, split=sides[item.split or ""]) for item in found]
        why.append("there is no train; val is used for training, and test as val")
    return assemble_intervals(reading, "activitynet", found, why, folder=files[0].parent)


def _files(data: Path) -> list[Path]:
    return [f for f in files_of(data, "*.json") if begins_with(f, '"segment"', '"annotations"')]


def _intervals(file: str, entries: dict[str, Any], problems: Problems) -> Iterator[Interval]:
    for video, entry in entries.items():
        facts = entry if isinstance(entry, dict) else {}
        subset = facts.get("subset")
        split = SPLIT_WORDS.get(str(subset).lower()) if subset is not None else None
        annotations = facts.get("annotations", [])
        if (subset is not None and split is None) or not isinstance(annotations, list):
            problems.add("malformed row", f"{file}: {video}", f"unknown subset {subset!r}")
            continue
        for number, mark in enumerate(annotations, start=1):
            source = f"{file}: {video} {number}"
            segment = mark.get("segment") if isinstance(mark, dict) else None
            label = mark.get("label") if isinstance(mark, dict) else None
            part = interval(*segment) if isinstance(segment, list) and len(segment) == 2 else None
            if part is None or not isinstance(label, str) or not label.strip():
                problems.add("malformed row", source, "expected a segment of seconds and a label")
            else:
                yield Interval(video, part, (label,), source, split)


FORM = Form(
    "activitynet",
    "a json of recordings with segments: ActivityNet, THUMOS, HACS",
    0,
    recognise,
    read,
)
