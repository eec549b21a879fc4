"""Explains data that no form recognises: what is there, the nearest form, the change it needs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from smnet.console import printable
from smnet.data.annotations.columns import ROLES, Columns, split_header
from smnet.data.annotations.listing import listing, visible
from smnet.data.annotations.places import holds_frames, is_image, is_video, subfolders
from smnet.data.annotations.text import lines, read_json
from smnet.errors import UserError

_ANNOTATIONS = (".csv", ".tsv", ".txt", ".lst", ".list", ".json", ".eaf")
_LOOK = 20  # folders, and files in them


def nothing_recognised(path: Path) -> str:
    """One message for the user; ``path`` is a file or folder that no form recognises."""
    says = _of_folder(path) if path.is_dir() else _of_file(path)
    return printable(f"{path}: no annotation recognised: {says}")


def unread_annotation(folder: Path) -> str | None:
    """What is wrong with the first file in ``folder`` that could be an annotation; None without."""
    for name, is_dir in sorted(listing(folder).kinds.items()):
        annotation = Path(name).suffix.lower() in _ANNOTATIONS and visible(name) and not is_dir
        if annotation and not name.lower().startswith(("readme", "license")):
            return printable(f"{name}: {_of_file(folder / name)}")
    return None


def _of_file(file: Path) -> str:
    if is_video(file.name):
        return (
            "it is a video, not a data set. smnet predict classifies it; to train, point at the"
            " folder with one folder per class, or at a csv"
        )
    try:
        first = next(lines(file), (0, ""))[1]
    except UserError as error:
        return str(error).removeprefix(f"{file} ").removeprefix(f"{file}:")
    if not first:
        return "the file is empty"
    if file.suffix.lower() == ".json":
        return _of_json(file)
    headers = split_header(file)
    fields = max(headers.values(), key=len, default=first.split())
    if any(is_video(field) or "/" in field for field in fields) and headers:
        return (
            f"its first line, {first[:80]!r}, is a clip, not a header, and the last field is no"
            " class number. If the fields are path and label, add the first line: path,label"
        )
    if not headers:
        return (
            f"its first line is {first[:80]!r}. A list has lines of path and class number, such as"
            " clips/1.mp4 0; a csv has a first line path,label"
        )
    for field in fields:
        if meaning := Columns.meaning(field.lower()):
            return f"its columns are {', '.join(fields)}, and {field!r} {meaning}"
    names = [field.lower().replace(" ", "_").replace("-", "_") for field in fields]
    has = {role: next((n for n in ROLES[role] if n in names), None) for role in ("path", "label")}
    lacks = [role for role, name in has.items() if name is None]
    known = "; ".join(f"{role}: {', '.join(ROLES[role])}" for role in lacks)
    found = "".join(f", {name} is read as {role}" for role, name in has.items() if name)
    return (
        f"its columns are {', '.join(fields)}{found}, but none is named {' or '.join(lacks)}."
        f" Rename the column (names that are read as {known})"
    )


def _of_json(file: Path) -> str:
    try:
        content = read_json(file)
    except UserError as error:
        return str(error).removeprefix(f"{file}:")
    entry = content[0] if isinstance(content, list) and content else content
    keys = ", ".join(list(map(str, entry))[:8]) if isinstance(entry, dict) else "none"
    return (
        f"json with the keys {keys}. Json is read of Something-Something V2, Diving48, ActivityNet,"
        " CreateML (video, label, start, end) and Label Studio; write other annotations as a csv"
        " with the columns path,label"
    )


def _of_folder(folder: Path) -> str:
    kinds = {name: kind for name, kind in sorted(listing(folder).kinds.items()) if visible(name)}
    files = [name for name, is_dir in kinds.items() if not is_dir]
    if annotation := unread_annotation(folder):
        return f"it contains {_names(kinds)}. {annotation}"
    if not kinds:
        return "the folder is empty"
    seen = f"it contains {_names(kinds)}. "
    inside = list(islice(subfolders(folder), _LOOK))
    videos = list(filter(is_video, files))
    if videos:
        return (
            seen + "Nothing gives the class of these videos: move them into a folder per class, or"
            " write a csv with the columns path,label"
        )
    if any(map(is_image, files)):
        return (
            seen + "A folder of images is one clip, which smnet predict classifies. To train, give"
            f" each class a folder with a folder of frames per clip: class/{folder.name}/{files[0]}"
        )
    for child in inside:
        if holds_frames(child):
            return (
                seen + f"{child.name}/ contains images. If it is a class, put the frames of each"
                f" clip into a folder of their own ({child.name}/clip/00001.jpg); if it is a clip,"
                f" move it into the folder of its class (class/{child.name}/)"
            )
    for deep in _clips_below(inside):
        below = deep.relative_to(folder)
        return (
            seen + f"The videos are one folder deeper than in a folder per class: {below} instead"
            f" of {below.parts[0]}/{below.name}. If {below.parts[0]} is the class, move its videos"
            f" up; if {below.parts[-2]} is the class, point at {below.parts[0]}/ or name the"
            " folders above the classes train and val"
        )
    return seen + "There is no video, no folder of frames and no annotation file in it"


def _clips_below(folders: list[Path]) -> Iterator[Path]:
    """Videos two folders below the data."""
    for folder in folders:
        for child in islice(subfolders(folder), _LOOK):
            names = sorted(filter(is_video, listing(child).kinds))
            yield from (child / name for name in names[:1])


def _names(kinds: dict[str, bool | None]) -> str:
    names = [name + "/" * bool(is_dir) for name, is_dir in kinds.items()]
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
