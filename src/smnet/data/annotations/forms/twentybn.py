"""Something-Something V1 and V2, and Jester, in their official form.

V2: json. ``*labels.json`` maps class names to numbers. ``*train.json`` and ``*validation.json``
list clips with bracketed templates, ``*test.json`` clips only. Clips are ``<id>.webm``.
V1 and Jester: ``*labels.csv`` has one class name per line, ``*train.csv`` and ``*validation.csv``
have lines of ``id;class name``, ``*test.csv`` ids only. Clips are folders ``<id>/%05d.jpg``.

The class order of V1 is that of the labels csv. Checkpoints of TSM, TEA and TDN use the
alphabetical order instead, so classes are matched by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.names import names_of_json, read_class_names, without_brackets
from smnet.data.annotations.places import (
    Finder,
    Place,
    annotation_folders,
    clip_root,
    visible_files,
)
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS, Row, assemble
from smnet.data.annotations.text import head, lines, name_of, read_json
from smnet.data.clips import ClipSet
from smnet.errors import UserError

# (id, class name or None, source, split)
_Item = tuple[str, str | None, str, str]
_SMALL = 1 << 20
_LISTS = {"train", "validation"}


def _recognise_json(data: Path) -> str | None:
    for files in _sets(data, "json"):
        labels = files["labels"]
        if labels.stat().st_size < _SMALL and '"' in "".join(head(labels, 3)):
            try:
                names_of_json(read_json(labels), labels)
            except UserError:
                continue
            return _reason(files)
    return None


def _read_json(reading: Reading) -> ClipSet:
    files = _only(reading.data, "json")
    names = [
        without_brackets(name)
        for name in names_of_json(read_json(files["labels"]), files["labels"])
    ]
    lists = {SPLIT_WORDS[key]: file for key, file in files.items() if key != "labels"}
    items = [item for split in lists for item in _entries(lists[split], split, reading.problems)]
    return _clips(reading, "something-v2", files, names, items, suffix=".webm")


def _recognise_csv(data: Path, jester: bool) -> str | None:
    if _recognise_json(data):
        return None  # the same clips in both forms; the json has more information
    for files in _sets(data, "csv"):
        first = head(files.get("train") or files["validation"], 1)
        named = "jester" in f"{data.name}/{files['labels'].name}".lower()
        if named == jester and first and re.match(r"[0-9]+;", first[0]):
            return _reason(files)
    return None


def _read_csv(reading: Reading, name: str) -> ClipSet:
    files = _only(reading.data, "csv")
    names = list(read_class_names(files["labels"]))
    lists = {SPLIT_WORDS[key]: file for key, file in files.items() if key != "labels"}
    items = [item for split in lists for item in _lines(lists[split], split, reading.problems)]
    return _clips(reading, name, files, names, items, suffix="")


def _sets(data: Path, ending: str) -> list[dict[str, Path]]:
    """The groups of files with a common prefix before "labels", "train", ..."""
    for folder in annotation_folders(data):
        groups: dict[str, dict[str, Path]] = {}
        for path in visible_files(folder, f"*.{ending}"):
            found = re.fullmatch(r"(.*?)(labels|train|validation|test)", path.stem)
            if found:
                groups.setdefault(found[1], {})[found[2]] = path
        complete = [g for g in groups.values() if "labels" in g and g.keys() & _LISTS]
        if complete:
            return complete
    return []


def _only(data: Path, ending: str) -> dict[str, Path]:
    groups = _sets(data, ending)
    if not groups:
        raise UserError(
            f"{data}: no *labels.{ending} beside *train.{ending} or *validation.{ending}"
        )
    if len(groups) > 1:
        found = ", ".join(group["labels"].name for group in groups)
        raise UserError(f"{data}: several annotations: {found}; keep one of them in the folder")
    return groups[0]


def _reason(files: dict[str, Path]) -> str:
    others = " and ".join(path.name for key, path in files.items() if key != "labels")
    return f"{files['labels'].name} beside {others}"


def _entries(file: Path, split: str, problems: Problems) -> Iterator[_Item]:
    content: Any = read_json(file)
    if not isinstance(content, list):
        raise UserError(f"{file}: expected a list of clips at the top level")
    for number, entry in enumerate(content, start=1):
        source = f"{file.name}: entry {number}"
        clip = entry.get("id") if isinstance(entry, dict) else None
        template = entry.get("template") if isinstance(entry, dict) else None
        if not isinstance(clip, str | int) or not str(clip).strip():
            problems.add("malformed row", source, "no id")
        elif template is None and split == "test":
            yield str(clip), None, source, split
        elif not isinstance(template, str):
            problems.add("malformed row", source, "no template")
        else:
            yield str(clip), without_brackets(template), source, split


def _lines(file: Path, split: str, problems: Problems) -> Iterator[_Item]:
    for number, text in lines(file):
        source = f"{file.name}:{number}"
        clip, _, name = text.partition(";")
        if name.strip():
            yield clip.strip(), name_of(name), source, split
        elif split == "test" and clip.strip():
            yield clip.strip(), None, source, split
        else:
            problems.add("malformed row", source, f"{text[:80]!r} is not id;class name")


def _clips(
    reading: Reading,
    name: str,
    files: dict[str, Path],
    names: list[str],
    items: list[_Item],
    suffix: str,
) -> ClipSet:
    index = {class_name: position for position, class_name in enumerate(names)}
    finder, data = reading.finder, reading.data
    ids = [clip for clip, *_ in items]
    root = clip_root(data, reading.root, ids, lambda base, clip: finder.place(base, clip, suffix))
    rows: list[Row] = []
    template: str | None = None
    for clip, class_name, source, split in items:
        label = -1 if class_name is None else index.get(class_name)
        if label is None:
            text = f"{class_name!r} is not in {files['labels'].name}"
            reading.problems.add("unknown label", source, text, clip)
            continue
        place = finder.place(root, clip, suffix)
        if template is None and place.folder and place.exists:
            template = _template(place, finder)
        rows.append(Row(place, label, split, source, template=template or None))
    why = [_reason(files)]
    if root != data:
        why.append(f"clips in {root}")
    if names != sorted(names):
        why.append(f"classes in the order of {files['labels'].name}, which is not alphabetical")
    return assemble(reading, name, rows, names, why, root=root)


def _template(place: Place, finder: Finder) -> str:
    """The official frame names if the first folder has them; "" = look into each folder."""
    return "%05d.jpg" if finder.place(place.path, "00001.jpg").exists else ""


SOMETHING_V2 = Form(
    "something-v2",
    "labels.json beside train.json and validation.json, clips <id>.webm",
    0,
    _recognise_json,
    _read_json,
)
SOMETHING_V1 = Form(
    "something-v1",
    "labels.csv beside train.csv and validation.csv with lines of id;class, frame folders",
    0,
    partial(_recognise_csv, jester=False),
    partial(_read_csv, name="something-v1"),
)
JESTER = Form(
    "jester",
    "jester-v1-labels.csv beside jester-v1-train.csv and -validation.csv, frame folders",
    0,
    partial(_recognise_csv, jester=True),
    partial(_read_csv, name="jester"),
)
