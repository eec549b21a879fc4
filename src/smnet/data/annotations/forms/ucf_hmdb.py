"""UCF101 and HMDB51: three official splits (folds) into training and test clips.

UCF101: ``trainlist01.txt`` (``Class/clip.avi index``, counting from 1), ``testlist01.txt`` (paths
only), ``classInd.txt``. HMDB51: ``<class>_test_split1.txt`` with ``clip.avi flag`` (1 training,
2 test, 0 neither), or the same two lists as UCF101 with paths only. ``fold`` selects the split.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.names import find_class_names
from smnet.data.annotations.places import (
    Finder,
    Place,
    annotation_folders,
    clip_root,
    is_video,
    visible_files,
)
from smnet.data.annotations.rows import Row, assemble
from smnet.data.annotations.text import head, lines, whole_number
from smnet.data.clips import ClipSet
from smnet.errors import UserError

_UCF_CLIP = re.compile(r"\w+/v_\w+_g[0-9]+_c[0-9]+")
_FLAGS = {"0": "", "1": "train", "2": "test"}
_Item = tuple[str, str, str, str]  # class name, clip file, split, source


def recognise_ucf(data: Path) -> str | None:
    folder = _with_lists(data)
    return _reason(folder) if folder and _is_ucf(folder) else None


def recognise_hmdb(data: Path) -> str | None:
    folder = _with_flags(data)
    if folder:
        return f"files <class>_test_split<n>.txt in {folder.name}/"
    folder = _with_lists(data)
    return _reason(folder) if folder and not _is_ucf(folder) else None


def _with_lists(data: Path) -> Path | None:
    for folder in annotation_folders(data):
        if all(visible_files(folder, f"{side}list0[123].txt") for side in ("train", "test")):
            return folder
    return None


def _with_flags(data: Path) -> Path | None:
    for folder in annotation_folders(data):
        for path in visible_files(folder, "*_test_split[123].txt"):
            if re.search(r"\s[012]$", "".join(head(path, 1))):
                return folder
    return None


def _is_ucf(folder: Path) -> bool:
    first = head(visible_files(folder, "trainlist0[123].txt")[0], 1)
    return bool(first) and _UCF_CLIP.match(first[0]) is not None


def _reason(folder: Path) -> str:
    return f"trainlist and testlist files in {folder.name}/"


def _read(reading: Reading, name: str) -> ClipSet:
    data, problems, finder = reading.data, reading.problems, reading.finder
    flags = _with_flags(data) if name == "hmdb51" else None
    folder = flags or _with_lists(data)
    if folder is None:
        raise UserError(f"{data}: no trainlist01.txt and testlist01.txt, nor {name}'s own files")
    items = _flagged(folder, reading) if flags else _listed(folder, reading)
    named = find_class_names(folder, reading.labels)
    classes = named[0] if named else tuple(sorted({item[0] for item in items}))
    names_file = named[1] if named else "the list"
    # In some copies of UCF101, folder and class name differ in case.
    index = {class_name.lower(): position for position, class_name in enumerate(classes)}
    root = clip_root(data, reading.root, items, lambda base, item: _place(finder, base, *item[:2]))
    rows: list[Row] = []
    unused = 0
    for class_name, file, split, source in items:
        label = index.get(class_name.lower())
        if label is None:
            problems.add("unknown label", source, f"{class_name!r} is not in {names_file}")
        elif split:
            rows.append(Row(_place(finder, root, class_name, file), label, split, source))
        else:
            unused += 1
    why = [
        _reason(folder) if not flags else str(recognise_hmdb(data)),
        f"fold {reading.source.fold}",
    ]
    if unused:
        why.append(f"{unused} clips are neither in train nor in test")
    if named:
        why.append(f"class names of {names_file}")
    return assemble(reading, name, rows, classes, why, root=root)


def _listed(folder: Path, reading: Reading) -> list[_Item]:
    fold, problems = reading.source.fold or 1, reading.problems
    items: list[_Item] = []
    numbers: list[tuple[int, str, str]] = []
    for split in ("train", "test"):
        file = folder / f"{split}list{fold:02d}.txt"
        if not file.is_file():
            raise UserError(f"{folder}: there is no {file.name}; fold is 1, 2 or 3")
        for number, text in lines(file):
            source = f"{file.name}:{number}"
            path, _, last = text.rpartition(" ")
            index = whole_number(last) if path else None
            path = path if index is not None else text
            class_name, slash, clip = path.strip().replace("\\", "/").rpartition("/")
            if not slash or not clip or not class_name:
                problems.add("malformed row", source, f"{text[:80]!r} is not Class/clip")
                continue
            items.append((PurePosixPath(class_name).name, clip, split, source))
            if index is not None:
                numbers.append((index, items[-1][0], source))
    named = find_class_names(folder, reading.labels)
    for index, class_name, source in numbers if named else ():
        names = named[0] if named else ()
        if not 1 <= index <= len(names):
            problems.add("label out of range", source, f"{index} is not in 1..{len(names)}")
        elif names[index - 1].lower() != class_name.lower():
            text = f"class {index} is {names[index - 1]!r}, but the folder is {class_name!r}"
            problems.add("contradiction", source, text)
    return items


def _flagged(folder: Path, reading: Reading) -> list[_Item]:
    items: list[_Item] = []
    ending = f"_test_split{reading.source.fold}.txt"
    files = visible_files(folder, f"*{ending}")
    if not files:
        raise UserError(f"{folder}: there is no *{ending}; fold is 1, 2 or 3")
    for file in files:
        for number, text in lines(file):
            source = f"{file.name}:{number}"
            clip, _, flag = text.rpartition(" ")
            if flag in _FLAGS and clip.strip():
                class_name = file.name.removesuffix(ending)
                items.append((class_name, clip.strip(), _FLAGS[flag], source))
            else:
                text = f"{text[:80]!r} is not a clip and 0, 1 or 2"
                reading.problems.add("malformed row", source, text)
    return items


def _place(finder: Finder, root: Path, class_name: str, file: str) -> Place:
    """The clip in its class folder or without one, with the listed or another suffix, or frames."""
    written = finder.place(root, f"{class_name}/{file}")
    stem = str(PurePosixPath(file).with_suffix("")) if is_video(file) else file
    for other in (f"{class_name}/{stem}", file, stem):
        if written.exists:
            return written
        place = finder.place(root, other)
        if place.exists:
            return place
    return written


UCF101 = Form(
    "ucf101",
    "trainlist01.txt and testlist01.txt (fold 1, 2 or 3), classInd.txt",
    0,
    recognise_ucf,
    partial(_read, name="ucf101"),
)
HMDB51 = Form(
    "hmdb51",
    "<class>_test_split1.txt (fold 1, 2 or 3), or lists as for ucf101",
    0,
    recognise_hmdb,
    partial(_read, name="hmdb51"),
)
