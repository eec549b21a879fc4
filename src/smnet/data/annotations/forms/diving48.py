"""Diving48: ``Diving48_V2_train.json``, ``_test.json`` and ``Diving48_vocab.json``.

Entries are {vid_name, label, start_frame, end_frame}, the label a number into the vocabulary, whose
classes are four words each, joined here with "+". Clips are ``<vid_name>.mp4`` or frame folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.places import annotation_folders, clip_root
from smnet.data.annotations.rows import Row, assemble
from smnet.data.annotations.text import name_of, read_json
from smnet.data.clips import ClipSet, Part
from smnet.errors import UserError

_VOCABULARY = "Diving48_vocab.json"
_VERSIONS = ("Diving48_V2_", "Diving48_")


def recognise(data: Path) -> str | None:
    found = _find(data)
    return _reason(found[1]) if found else None


def read(reading: Reading) -> ClipSet:
    data, problems, finder = reading.data, reading.problems, reading.finder
    found = _find(data)
    if found is None:
        raise UserError(f"{data}: no Diving48_V2_train.json beside {_VOCABULARY}")
    folder, version = found
    classes = _classes(folder / _VOCABULARY)
    entries: list[tuple[str, int, str, str, int | None, Part | None]] = []
    for split in ("train", "test"):
        file = folder / f"{version}{split}.json"
        content = read_json(file) if file.is_file() or split == "train" else []
        if not isinstance(content, list):
            raise UserError(f"{file}: expected a list of clips at the top level")
        for number, entry in enumerate(content, start=1):
            source = f"{file.name}: entry {number}"
            fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
            name, label = fields.get("vid_name"), fields.get("label")
            start, end = fields.get("start_frame", 0), fields.get("end_frame")
            if not isinstance(name, str) or not name or type(label) is not int:
                problems.add("malformed row", source, "expected vid_name and a label number")
            elif not 0 <= label < len(classes):
                text = f"label {label} is not in 0..{len(classes) - 1}"
                problems.add("label out of range", source, text, name)
            else:
                known = type(end) is int and type(start) is int and 0 <= start < end
                frames = end if known and start == 0 else None
                # The files of most entries are cut already: they start at frame 0.
                part = Part(start, end, "frames") if known and start > 0 else None
                entries.append((name, label, split, source, frames, part))
    names = [entry[0] for entry in entries]
    root = clip_root(data, reading.root, names, lambda base, name: finder.place(base, name, ".mp4"))
    rows = [
        Row(finder.place(root, name, ".mp4"), label, split, source, frames, part=part)
        for name, label, split, source, frames, part in entries
    ]
    why = [_reason(version)]
    return assemble(reading, "diving48", rows, classes, why, root=root, allow_idle=True)


def _reason(version: str) -> str:
    return f"{version}train.json beside {_VOCABULARY}"


def _find(data: Path) -> tuple[Path, str] | None:
    for folder in annotation_folders(data):
        for version in _VERSIONS:
            if (folder / f"{version}train.json").is_file() and (folder / _VOCABULARY).is_file():
                return folder, version
    return None


def _classes(file: Path) -> tuple[str, ...]:
    content = read_json(file)
    words = content if isinstance(content, list) else []
    if not words or not all(
        isinstance(entry, list) and entry and all(isinstance(word, str) for word in entry)
        for entry in words
    ):
        raise UserError(f"{file}: expected a list of lists of words, one per class")
    names = tuple(name_of("+".join(entry)) for entry in words)
    if len(set(names)) < len(names):
        raise UserError(f"{file}: a class is listed twice")
    return names


FORM = Form(
    "diving48",
    "Diving48_V2_train.json and _test.json beside Diving48_vocab.json",
    0,
    recognise,
    read,
)
