"""CreateML's json for action classifiers: objects with video, label, start and end.

Times are seconds, or texts such as ``01:03.5``. The keys split and group are read too. The same
columns as a csv are read by ``csv``.
"""

from __future__ import annotations

from pathlib import Path

from smnet.data.annotations.columns import columns_from
from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.annotations.rows import SPLIT_WORDS
from smnet.data.annotations.text import begins_with, read_json
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
    objects = [entry if isinstance(entry, dict) else {} for entry in content]
    names = list(dict.fromkeys(name for row in objects for name in row))
    columns = columns_from(names)
    intervals = []
    for number, row in enumerate(objects, start=1):
        source = f"{files[0].name}: entry {number}"
        fields = ["" if row.get(name) is None else str(row[name]) for name in names]
        columns.check(f"{files[0]}: entry {number}", fields)
        video, label = row.get("video"), row.get("label")
        part, wrong = columns.part(fields)
        given = columns.value("split", fields)
        split = SPLIT_WORDS.get(given.lower())
        if given and split is None:
            wrong = f"split {given!r} is not train, val or test"
        if not isinstance(video, str) or not isinstance(label, str) or not video or not label:
            reading.problems.add("malformed row", source, "expected video and label")
        elif wrong:
            reading.problems.add("malformed row", source, wrong, video)
        else:
            group = columns.value("group", fields) or None
            intervals.append(Interval(video, part, (label,), source, split, group))
    why = [str(recognise(files[0]))]
    return assemble_intervals(reading, "createml", intervals, why, folder=files[0].parent)


def _files(data: Path) -> list[Path]:
    words = ('"video"', '"label"', '"start"', '"end"')
    return [file for file in files_of(data, "*.json") if begins_with(file, *words)]


FORM = Form(
    "createml", "a json with a list of video, label, start, end (seconds)", 1, recognise, read
)
