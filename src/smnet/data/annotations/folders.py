"""A folder per class: ``[split/]class/clip.mp4``, or ``[split/]class/clip/00001.jpg``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from smnet.data.annotations.listing import listing, visible
from smnet.data.annotations.places import Place, holds_frames, is_image, is_video, subfolders
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.rows import SPLIT_WORDS, Hints, Row, assemble
from smnet.data.annotations.text import name_of
from smnet.data.clips import ClipSet
from smnet.errors import UserError

# Recognition looks at this many folders; reading looks at all.
_LOOK = 50


def recognise(data: Path) -> str | None:
    splits = _split_folders(data)
    if splits:
        return f"a folder per class in {' and '.join(f'{s.name}/' for s in splits)}"
    if any(_is_class(folder) for folder in islice(subfolders(data), _LOOK)):
        return "a folder per class"
    return None


def read(data: Path, hints: Hints) -> ClipSet:
    problems = Problems(str(data), hints.found)
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
    # The training classes are the classes; a val class they lack is a problem, not a new class.
    leading = known.get("train") or known.get(None) or [pair for v in known.values() for pair in v]
    classes = sorted({name for name, _ in leading})
    if len(classes) == 1:
        raise UserError(
            f"{data}: there is one folder only ({classes[0]}); a folder for each of at least two"
            " classes is wanted, with the clips in them"
        )
    if all(name.lower() in SPLIT_WORDS for name in classes):
        raise UserError(
            f"{data}: {' and '.join(f'{name}/' for name in classes)} hold clips, but no folder per"
            " class; put the clips of each class into a folder of its own in them"
        )
    index = {name: position for position, name in enumerate(classes)}
    rows: list[Row] = []
    passed_over: list[str] = []
    for split, base in groups:
        # With a training folder alone, the other side is drawn from it.
        side = None if names == ["train"] else split
        _loose(base, problems)
        for name, folder in known[split]:
            found = list(_clips(folder, problems, passed_over))
            if name not in index:
                if found:
                    text = f"there is no training folder {name!r}"
                    problems.add("unknown class", str(folder), text, str(folder))
                continue
            rows += [Row(place, index[name], side, place.path) for place in found]
    why = [str(recognise(data) or "a folder per class")]
    others = [f"{f.name}/" for f in subfolders(data) if splits and f not in splits]
    if others:
        why.append(f"not read, as no split has such a name: {', '.join(others)}")
    if passed_over:
        why.append(f"{len(passed_over)} other files passed over ({passed_over[0]}, ...)")
    return assemble(
        rows,
        data=data,
        root=data,
        name="folders",
        why=why,
        classes=classes,
        problems=problems,
        hints=hints,
    )


def _split_folders(data: Path) -> list[Path]:
    """The folders of ``data`` that are splits by name and hold class folders.

    A folder "train" that holds clips itself is a class of that name.
    """
    named = [folder for folder in subfolders(data) if folder.name.lower() in SPLIT_WORDS]
    return [
        folder
        for folder in named
        if any(_is_class(child) for child in islice(subfolders(folder), _LOOK))
    ]


def _is_class(folder: Path) -> bool:
    """Whether ``folder`` holds video files, or folders of frames."""
    try:
        with os.scandir(folder) as entries:
            if any(visible(e.name) and is_video(e.name) and e.is_file() for e in entries):
                return True
    except OSError:
        return False
    return any(holds_frames(child) for child in islice(subfolders(folder), _LOOK))


def _clips(folder: Path, problems: Problems, passed_over: list[str]) -> Iterator[Place]:
    try:
        listed = sorted(item for item in listing(folder).kinds.items() if visible(item[0]))
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror or error}") from error
    if any(is_image(name) for name, is_dir in listed if not is_dir):
        problems.add(
            "loose frames",
            str(folder),
            "frames lie in the class folder itself; give each clip a folder of its own",
            str(folder),
        )
    for name, is_dir in listed:
        path = folder / name
        if is_dir:
            if holds_frames(path):
                yield Place(str(path), folder=True, exists=True)
            else:
                text = "no jpg or png frame in it"
                problems.add("folder without frames", str(path), text, str(path))
        elif is_video(name):
            yield Place(str(path), folder=False, exists=True)
        elif not is_image(name):
            passed_over.append(str(path))


def _loose(base: Path, problems: Problems) -> None:
    loose = sorted(name for name in listing(base).kinds if visible(name) and is_video(name))
    for name in loose:
        path = str(base / name)
        problems.add("clip without a class", path, "lies outside of any class folder", path)
