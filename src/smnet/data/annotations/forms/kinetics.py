"""Kinetics-400, -600 and -700: the official csv and clips named ``<id>_<start>_<end>.mp4``.

Of a whole video, ``<id>.mp4``, the part between the times is the clip.

The csv has the columns label, youtube_id, time_start, time_end and split; the test list of some
releases has no label. Clips are flat, by split, or by class (with blanks or underscores): they are
found by name, down to three folders below the root. Many of the videos are
lost; see ``missing`` of ``read_clips``.
"""

from __future__ import annotations

import re
from pathlib import Path

from smnet.data.annotations.columns import columns_from
from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.names import read_class_names
from smnet.data.annotations.places import (
    Place,
    annotation_folders,
    clips_below,
    subfolders,
    visible_files,
)
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS, Row, assemble
from smnet.data.annotations.text import header_of, name_of, table
from smnet.data.clips import ClipSet, Part
from smnet.errors import UserError

_WANTED = {"youtube_id", "time_start", "time_end"}
_NAMED = re.compile("kinetics", re.IGNORECASE)
_Item = tuple[str, Part, str, str, str]  # id, times, class name or "", split, source


def recognise(data: Path) -> str | None:
    files = _files(data)
    return _reason(files) if files else None


def read(reading: Reading) -> ClipSet:
    data, problems = reading.data, reading.problems
    files = _files(data)
    if not files:
        raise UserError(f"{data}: no csv with the columns youtube_id, time_start, time_end")
    items = [item for file in files for item in _items(file, problems)]
    if reading.labels is not None:
        classes = read_class_names(reading.labels)
    else:
        classes = tuple(sorted({name for _, _, name, _, _ in items if name}))
    index = {name: position for position, name in enumerate(classes)}
    root = reading.root or (data if data.is_dir() else data.parent)
    clips = clips_below(root) if reading.finder.check else {}
    rows: list[Row] = []
    for video, part, name, split, source in items:
        stem = f"{video}_{int(part.start or 0):06d}_{int(part.end or 0):06d}"
        label = index.get(name) if name else -1
        if label is None:
            problems.add("unknown label", source, f"{name!r} is not in {reading.labels}")
            continue
        places = _of_class(clips.get(stem, []), name)
        whole = [] if places else clips.get(video, [])
        places = places or whole
        if len(places) > 1:
            text = f"{places[0].path} and {places[1].path}"
            problems.add("two files", source, text, places[1].path)
        expected = Place(str(root / name / f"{stem}.mp4"), False, exists=not reading.finder.check)
        place = places[0] if places else expected
        rows.append(
            Row(
                place,
                label,
                split,
                source,
                part=part if whole else None,
            )
        )
    return assemble(reading, "kinetics", rows, classes, [_reason(files)], root=root)


def _reason(files: list[Path]) -> str:
    return f"{' and '.join(f.name for f in files)} with the columns of Kinetics"


def _files(data: Path) -> list[Path]:
    if data.is_file():
        return [data] if header_of(data, _WANTED) else []
    # The annotations of Kinetics-700 unpack into a folder kinetics700_2020/.
    for folder in [*annotation_folders(data), *subfolders(data, _NAMED)]:
        files = [path for path in visible_files(folder, "*.csv") if header_of(path, _WANTED)]
        if files:
            return files
    return []


def _items(file: Path, problems: Problems) -> list[_Item]:
    header = header_of(file, _WANTED)
    if header is None:
        return []
    delimiter, columns = header
    others = columns_from(columns, delimiter)
    word = re.findall(r"train|val|test", file.stem.lower())
    items: list[_Item] = []
    for number, fields in list(table(file, delimiter))[1:]:
        source = f"{file.name}:{number}"
        if len(fields) < len(columns):
            text = f"{len(fields)} fields, but the header has {len(columns)}"
            problems.add("malformed row", source, text)
            continue
        others.check(f"{file}:{number}", fields)
        row = dict(zip(columns, fields, strict=False))
        start, end = _second(row["time_start"]), _second(row["time_end"])
        split = SPLIT_WORDS.get((row.get("split") or (word[0] if word else "")).lower())
        name = name_of(row.get("label", ""))
        if start is None or end is None or start >= end or not row["youtube_id"]:
            problems.add("malformed row", source, "expected an id and two times in seconds")
        elif split is None:
            problems.add("malformed row", source, "no split in the row or the file name")
        elif not name and split != "test":
            problems.add("malformed row", source, "the label is empty")
        else:
            items.append((row["youtube_id"], Part(start, end), name, split, source))
    return items


def _second(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]*)?", text) else None


def _of_class(places: list[Place], name: str) -> list[Place]:
    """The places in a folder of the class, if there are any; otherwise all."""
    if len(places) < 2:
        return places
    inside = [p for p in places if _plain(Path(p.path).parent.name) == _plain(name)]
    return inside or places


def _plain(name: str) -> str:
    """The letters and digits of a name: copies differ in blanks, brackets and quotes."""
    return re.sub(r"[\W_]+", "", name.lower())


FORM = Form(
    "kinetics",
    "the official csv of Kinetics-400/600/700, clips <id>_<start>_<end>.mp4 in any folder",
    0,
    recognise,
    read,
)
