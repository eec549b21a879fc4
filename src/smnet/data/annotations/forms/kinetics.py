"""Kinetics-400, -600 and -700: the official csv and clips named ``<id>_<start>_<end>.mp4``.

The csv has the columns label, youtube_id, time_start, time_end and split; the test list of some
releases has no label. Clips are flat, by split, or by class (with blanks or underscores): they are
found by name, down to three folders below the root. Many of the videos are
lost; see ``missing`` of ``read_clips``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.listing import listing, visible
from smnet.data.annotations.names import read_class_names
from smnet.data.annotations.places import (
    Place,
    annotation_folders,
    is_video,
    subfolders,
    visible_files,
)
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS, Row, assemble
from smnet.data.annotations.text import header_of, name_of, table
from smnet.data.clips import ClipSet
from smnet.errors import UserError

_WANTED = {"youtube_id", "time_start", "time_end"}
_STEM = re.compile(r".{11}_[0-9]{6}_[0-9]{6}")
_NAMED = re.compile("kinetics", re.IGNORECASE)
_DEPTH = 3
_Item = tuple[str, str, str, str]  # stem, class name or "", split, source


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
        classes = tuple(sorted({name for _, name, _, _ in items if name}))
    index = {name: position for position, name in enumerate(classes)}
    root = reading.root or (data if data.is_dir() else data.parent)
    clips = _clips(root) if reading.finder.check else {}
    rows: list[Row] = []
    for stem, name, split, source in items:
        label = index.get(name) if name else -1
        if label is None:
            problems.add("unknown label", source, f"{name!r} is not in {reading.labels}")
            continue
        places = _of_class(clips.get(stem, []), name)
        if len(places) > 1:
            text = f"{places[0].path} and {places[1].path}"
            problems.add("two files", source, text, places[1].path)
        expected = Place(str(root / name / f"{stem}.mp4"), False, exists=not reading.finder.check)
        rows.append(Row(places[0] if places else expected, label, split, source))
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
    word = re.findall(r"train|val|test", file.stem.lower())
    items: list[_Item] = []
    for number, fields in list(table(file, delimiter))[1:]:
        source = f"{file.name}:{number}"
        if len(fields) < len(columns):
            text = f"{len(fields)} fields, but the header has {len(columns)}"
            problems.add("malformed row", source, text)
            continue
        row = dict(zip(columns, fields, strict=False))
        start, end = _second(row["time_start"]), _second(row["time_end"])
        split = SPLIT_WORDS.get((row.get("split") or (word[0] if word else "")).lower())
        name = name_of(row.get("label", ""))
        if start is None or end is None or not row["youtube_id"]:
            problems.add("malformed row", source, "expected an id and two times in seconds")
        elif split is None:
            problems.add("malformed row", source, "no split in the row or the file name")
        elif not name and split != "test":
            problems.add("malformed row", source, "the label is empty")
        else:
            items.append((f"{row['youtube_id']}_{start:06d}_{end:06d}", name, split, source))
    return items


def _second(text: str) -> int | None:
    return int(float(text)) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]*)?", text) else None


def _clips(root: Path, depth: int = _DEPTH) -> dict[str, list[Place]]:
    """{clip name without suffix: its places} of the videos and frame folders below ``root``."""
    found: dict[str, list[Place]] = {}
    level = [str(root)]
    for step in range(depth + 1):
        deeper: list[str] = []
        for folder in level:
            try:
                listed = sorted(listing(folder).kinds.items())
            except OSError as error:
                raise UserError(f"cannot list {folder}: {error.strerror or error}") from error
            for name, is_dir in listed:
                path = f"{folder}{os.sep}{name}"
                stem = name if is_dir else Path(name).stem
                if _STEM.fullmatch(stem) and (is_dir or (is_dir is False and is_video(name))):
                    found.setdefault(stem, []).append(Place(path, bool(is_dir), exists=True))
                elif is_dir and visible(name) and step < depth:
                    deeper.append(path)
        level = deeper
    return found


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
