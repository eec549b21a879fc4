"""CreateML's json for action classifiers: objects with video, label, start and end.

Times are seconds, or texts such as ``01:03.5``. The same columns as a csv are read by ``csv``.
"""

from __future__ import annotations

from pathlib import Path

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.annotations.text import begins_with, read_json
from smnet.data.annotations.times import part_of
from smnet.data.clips import ClipSet
from smnet.errors import UserError


def recognise(data: Path) -> str | None:
    files = _files(data)
    return f"{files[0].name} with video, label, start and end" if files else None


def read(reading: Reading) -> ClipSet:
    files = chosen(
        _files(reading.data), reading.data, "json of video, label, start and end", one=True
    )
    content = read_json(files[0])
    if not isinstance(content, list):
        raise UserError(f"{files[0]}: expected a list of objects with video and label")
    intervals = []
    for number, entry in enumerate(content, start=1):
        source = f"{files[0].name}: entry {number}"
        row = entry if isinstance(entry, dict) else {}
        video, label = row.get("video"), row.get("label")
        borders = {("s", side): str(row.get(side, "")) for side in ("start", "end")}
        part, wrong = part_of(borders)
        if not isinstance(video, str) or not isinstance(label, str) or not video or not label:
            reading.problems.add("malformed row", source, "expected video and label")
        elif wrong:
            reading.problems.add("malformed row", source, wrong, video)
        else:
            intervals.append(Interval(video, part, (label,), source))
    why = [str(recognise(files[0]))]
    return assemble_intervals(reading, "createml", intervals, why, folder=files[0].parent)


def _files(data: Path) -> list[Path]:
    words = ('"video"', '"label"', '"start"', '"end"')
    return [file for file in files_of(data, "*.json") if begins_with(file, *words)]


FORM = Form(
    "createml", "a json with a list of video, label, start, end (seconds)", 1, recognise, read
)
