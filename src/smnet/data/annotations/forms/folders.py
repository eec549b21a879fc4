"""A folder per class: ``[split/]class/clip.mp4``, or ``[split/]class/clip/00001.jpg``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from smnet.data.annotations.advice import unread_annotation
from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.listing import listing, visible
from smnet.data.annotations.places import Place, holds_frames, is_image, is_video, subfolders
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS, Row, assemble
from smnet.data.annotations.text import name_of
from smnet.data.clips import ClipSet
from smnet.errors import UserError

_LOOK = 50  # folders that recognition looks into; reading looks into all


def recognise(data: Path) -> str | None:
    splits = _split_folders(data)
    if splits:
        return f"a folder per class in {' and '.join(f'{s.name}/' for s in splits)}"
    if any(_is_class(folder) for folder in islice(subfolders(data), _LOOK)):
        return "a folder per class"
    return None


def read(reading: Reading) -> ClipSet:
    data, problems = reading.data, reading.problems
    splits = _split_folders(data)
    groups: list[tuple[str | None, Path]] = [(SPLIT_WORDS[s.name.lower()], s) for s in splits]
    groups = groups or [(None, data)]
    names = [split for split, _ in groups]
    for split in {s for s in names if names.count(s) > 1}:
        both = " and ".join(f"{folder.name}/" for s, folder in groups if s == split)
        raise UserError(f"{data}: {both} both mean {split!r}; keep one of them")
    known = {
        split: [(name_of(folder.name), folder) for folder in subfolders(base)]
        for split, base in groups
    }
    # The training folders are the classes. A val folder without one is a problem, not a new class.
    leading = known.get("train") or known.get(None) or [pair for v in known.values() for pair in v]
    classes = sorted({name for name, _ in leading})
    if len(classes) == 1:
        unread = unread_annotation(data)
        raise UserError(
            f"{data}: only one class folder ({classes[0]}); put the clips of each of at least two"
            f" classes into a folder of their own{f'. Not read: {unread}' if unread else ''}"
        )
    if all(name.lower() in SPLIT_WORDS for name in classes):
        raise UserError(
            f"{data}: {' and '.join(f'{name}/' for name in classes)} contain clips, but no folder"
            " per class; put the clips of each class into a folder of their own"
        )
    index = {name: position for position, name in enumerate(classes)}
    rows: list[Row] = []
    skipped: list[str] = []
    for split, base in groups:
        # With a training folder alone, "val" is drawn from it.
        side = None if names == ["train"] else split
        _loose(base, problems)
        for name, folder in known[split]:
            found = list(_clips(folder, problems, skipped))
            if name not in index:
                if found:
                    text = f"there is no training folder {name!r}"
                    problems.add("unknown class", str(folder), text, str(folder))
                continue
            rows += [Row(place, index[name], side, place.path) for place in found]
    why = [recognise(data) or "a folder per class"]
    others = [f"{f.name}/" for f in subfolders(data) if splits and f not in splits]
    if others:
        why.append(f"not read, as their names are not names of splits: {', '.join(others)}")
    if skipped:
        why.append(f"{len(skipped)} other files skipped ({skipped[0]}, ...)")
    return assemble(reading, "folders", rows, classes, why, root=data)


def _split_folders(data: Path) -> list[Path]:
    """The folders of ``data`` that are splits by name and contain class folders.

    A folder "train" that contains clips itself is a class of that name.
    """
    named = [folder for folder in subfolders(data) if folder.name.lower() in SPLIT_WORDS]
    return [
        folder
        for folder in named
        if any(_is_class(child) for child in islice(subfolders(folder), _LOOK))
    ]


def _is_class(folder: Path) -> bool:
    """Whether ``folder`` contains video files, or folders of frames."""
    try:
        with os.scandir(folder) as entries:
            if any(visible(e.name) and is_video(e.name) and e.is_file() for e in entries):
                return True
    except OSError:
        return False
    return any(holds_frames(child) for child in islice(subfolders(folder), _LOOK))


def _clips(folder: Path, problems: Problems, skipped: list[str]) -> Iterator[Place]:
    try:
        listed = sorted(item for item in listing(folder).kinds.items() if visible(item[0]))
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror or error}") from error
    if any(is_image(name) for name, is_dir in listed if not is_dir):
        text = "frames are in the class folder itself; put those of each clip into its own folder"
        problems.add("loose frames", str(folder), text, str(folder))
    for name, is_dir in listed:
        path = folder / name
        if is_dir:
            if holds_frames(path):
                yield Place(str(path), folder=True, exists=True)
            else:
                text = "no jpg or png frame in it"
                problems.add("folder without frames", str(path), text, str(path))
        elif is_video(name) or (is_dir is None and "." not in name):
            # A link to nowhere is a missing clip, of frames if its name has no suffix.
            yield Place(str(path), folder=not is_video(name), exists=is_dir is not None)
        elif not is_image(name):
            skipped.append(str(path))


def _loose(base: Path, problems: Problems) -> None:
    loose = sorted(name for name in listing(base).kinds if visible(name) and is_video(name))
    for name in loose:
        path = str(base / name)
        problems.add("clip without a class", path, "is outside of the class folders", path)


FORM = Form(
    "folders", "a folder per class, with or without train/ and val/ above", 3, recognise, read
)
