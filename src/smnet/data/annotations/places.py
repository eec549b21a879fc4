"""Finds clips on the disk: which files are videos, which folders contain frames, what exists."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from smnet.data.annotations.listing import listing, visible
from smnet.data.packed.read import is_packed
from smnet.errors import UserError

T = TypeVar("T")

VIDEO_SUFFIXES: tuple[str, ...] = (
    *(".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv"),
    *(".flv", ".3gp", ".ts", ".mts", ".m2ts", ".ogv", ".gif", ".webp"),
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def is_video(name: str) -> bool:
    return name[name.rfind(".") :].lower() in VIDEO_SUFFIXES


def is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def subfolders(folder: Path, named: re.Pattern[str] | None = None) -> list[Path]:
    """The visible folders in ``folder`` whose names match ``named``, sorted; [] on errors."""
    try:
        names = listing(folder).folders
    except OSError:
        return []
    return [folder / name for name in names if named is None or named.search(name)]


def visible_files(folder: Path, *patterns: str) -> list[Path]:
    """The files in ``folder`` that match a glob pattern, sorted.

    Patterns end in a suffix. Hidden files are left out, such as the ``._labels.json`` that macOS
    writes beside ``labels.json``.
    """
    files = listing(folder).files
    wanted = re.compile("|".join(map(fnmatch.translate, patterns))).match
    # By suffix first: there may be 200,000 clips in the folder.
    endings = {pattern[pattern.rfind(".") :] for pattern in patterns}
    names = sorted(name for ending in endings for name in files.get(ending, ()))
    return [folder / name for name in names if wanted(name)]


def holds_frames(folder: str | Path) -> bool:
    """Whether there is an image in ``folder``."""
    try:
        with os.scandir(folder) as entries:
            return any(visible(entry.name) and is_image(entry.name) for entry in entries)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Place:
    """The path of a clip, whether it is a folder, and whether it exists."""

    path: str
    folder: bool
    exists: bool


@dataclass
class Finder:
    """Finds clips by listing each parent folder once.

    A list of 200,000 clips in one folder costs one listing instead of 200,000 calls of ``stat``. On
    a network drive that is a second instead of minutes.

    Attributes:
        check: False looks nothing up; a path without a video suffix is taken as a folder.
    """

    check: bool = True
    _listed: dict[str, dict[str, bool | None]] = field(default_factory=dict)

    def place(self, root: str | Path, written: str, suffix: str = "") -> Place:
        """The clip of the path ``written`` in a list, relative to ``root``.

        Tries in turn: the path itself; the path with its video suffix in lower or upper case; the
        path with a video suffix appended, if it has none (TDN and others leave it out); and the
        same with forward slashes, if the list was made on Windows. If no such clip exists, or
        ``check`` is False, the result is the path with ``suffix`` appended.
        """
        path = _join(root, written)
        expected = path + suffix
        if not self.check:
            return Place(expected, folder=not is_video(expected), exists=True)
        spellings = [path]
        if "\\" in written and os.sep == "/":
            spellings.append(_join(root, written.replace("\\", "/")))
        for spelling in spellings:
            folder = self._kind(spelling)
            if folder is not None:
                return Place(spelling, folder, exists=True)
            stem, endings = spelling, VIDEO_SUFFIXES
            if is_video(spelling):
                stem, dot, ending = spelling.rpartition(".")
                endings = (dot + ending.lower(),)
            for ending in (*endings, *map(str.upper, endings)):
                if self._kind(stem + ending) is False:
                    return Place(stem + ending, folder=False, exists=True)
        return Place(expected, folder=not is_video(expected), exists=False)

    def _kind(self, path: str) -> bool | None:
        """True for a folder, False for a file, None if it does not exist."""
        parent, _, name = path.rpartition(os.sep)
        parent = parent or os.sep
        if parent not in self._listed:
            self._listed[parent] = _kinds(parent)
        if is_packed(path):  # a fix list of a packed set names rows of its index
            name = name.partition("#")[0]
        return self._listed[parent].get(name)


def _join(root: str | Path, written: str) -> str:
    # Ten times as fast as Path(root, written), which took a third of the time of a long list.
    return os.path.normpath(os.path.join(root, written))  # noqa: PTH118


def _kinds(folder: str) -> dict[str, bool | None]:
    try:
        return listing(folder).kinds
    except (OSError, ValueError):
        return {}


# Common names of folders of annotations beside the clips: annotations/, labels/,
# ucfTrainTestlist/, UCF101TrainTestSplits-RecognitionTask/, testTrainMulti_7030_splits/, ...
_ANNOTATION_FOLDER = re.compile(r"anno|label|list|split", re.IGNORECASE)
_TRIED = 200  # folders that are searched for clips, at each depth


def annotation_folders(data: Path) -> list[Path]:
    """``data`` and its folders, two deep, that may contain annotations by their names; [] for a
    file.
    """
    if not data.is_dir():
        return []
    inside = subfolders(data, _ANNOTATION_FOLDER)
    deeper = [child for folder in inside for child in subfolders(folder, _ANNOTATION_FOLDER)]
    return [data, *inside, *deeper]


def clip_root(
    data: Path,
    root: Path | None,
    clips: Sequence[T],
    place: Callable[[Path, T], Place],
) -> Path:
    """The folder that the clips of an annotation are in.

    Tries ``data`` and the folders in it, then, if ``data`` is a folder of annotations, the folders
    beside it, then the folders inside all of these. Of these groups, the first with any clip
    decides, by the folder with the most clips. About 40 clips, spread over the list, are tried.

    Args:
        data: the data set.
        root: the folder, if the user gave it.
        clips: the clips as the annotation has them.
        place: (folder, clip) -> the place of the clip.
    """
    if root is not None:
        return root
    sample = clips[:: max(len(clips) // 40, 1)]
    near, beside = [data, *subfolders(data)], []
    outer = data
    while _ANNOTATION_FOLDER.search(outer.name):
        outer = outer.parent
        beside += [outer, *subfolders(outer)]
    inside = (child for folder in (near + beside)[:_TRIED] for child in subfolders(folder))
    for candidates in (near, beside, inside):
        best = _best(islice(candidates, _TRIED), sample, place)
        if best is not None:
            return best
    return data


def _best(
    candidates: Iterable[Path], sample: Sequence[T], place: Callable[[Path, T], Place]
) -> Path | None:
    """The first candidate with the most clips of ``sample``; None if none has any."""
    best, most = None, 0
    for candidate in candidates:
        score = sum(place(candidate, clip).exists for clip in sample)
        if score > most:
            best, most = candidate, score
        if most == len(sample):
            break
    return best


def clips_below(root: Path, depth: int = 3) -> dict[str, list[Place]]:
    """{name without suffix: its places} of the videos and folders of frames below ``root``.

    Folders without an image or a video inside are not clips. Each folder is listed once.
    """
    found: dict[str, list[Place]] = {}
    level = [str(root)]
    for step in range(depth + 1):
        deeper: list[str] = []
        for folder in level:
            try:
                kinds = listing(folder).kinds
            except OSError as error:
                raise UserError(f"cannot list {folder}: {error.strerror or error}") from error
            for name, is_dir in sorted(kinds.items()):
                path = f"{folder}{os.sep}{name}"
                if is_dir and visible(name):
                    if holds_frames(path):
                        found.setdefault(name, []).append(Place(path, True, exists=True))
                    elif step < depth:
                        deeper.append(path)
                elif is_dir is False and is_video(name):
                    found.setdefault(Path(name).stem, []).append(Place(path, False, exists=True))
        level = deeper
    return found


def files_of(data: Path, *patterns: str) -> list[Path]:
    """``data`` if it is a file that matches a pattern; of a folder, the first annotation files that
    do, in it or in a folder of annotations in it."""
    if data.is_file():
        return [data] if any(fnmatch.fnmatch(data.name.lower(), p) for p in patterns) else []
    both = [*patterns, *(pattern.upper() for pattern in patterns)]
    found = (visible_files(folder, *both) for folder in annotation_folders(data))
    return next(filter(None, found), [])


@dataclass(frozen=True, slots=True)
class Base:
    """The folder of the clips of a list.

    Attributes:
        folder: the paths are relative to it.
        left_out: leading folders of every path that do not exist here, such as "/mnt/data/".
        found: whether any of the clips that were tried exists.
    """

    folder: Path
    left_out: str
    found: bool

    def place(self, finder: Finder, written: str) -> Place:
        """The clip of the path ``written`` in the list."""
        return finder.place(
            self.folder, _slashes(written).removeprefix(self.left_out) if self.left_out else written
        )


def list_base(data: Path, root: Path | None, written: Sequence[str], finder: Finder) -> Base:
    """The folder of the clips of a list, see :func:`clip_root`.

    A list made elsewhere begins its paths with folders that do not exist here. The fewest leading
    folders are left out with which clips are found, and only such that all paths share. The
    remaining paths still differ, so no clip is taken for another.

    Args:
        data, root: as for :func:`clip_root`.
        written: the paths in the list.
        finder: finds the clips.
    """
    sample = written[:: max(len(written) // 40, 1)]
    first: Base | None = None
    for left_out in _shared_beginnings(written):

        def place(folder: Path, path: str, left_out: str = left_out) -> Place:
            return Base(folder, left_out, found=False).place(finder, path)

        tried = Base(clip_root(data, root, written, place), left_out, found=False)
        if any(tried.place(finder, path).exists for path in sample):
            return replace(tried, found=True)
        first = first or tried
    return first or Base(root or data, "", found=False)


def notes_on(bases: Sequence[Base], expected: Path) -> list[str]:
    """Notes for the user: the folders of the clips, unless they are in ``expected``."""
    folders = list(dict.fromkeys(str(base.folder) for base in bases))
    left_out = list(dict.fromkeys(base.left_out for base in bases if base.left_out))
    notes = [f"clips in {' and '.join(folders)}"] if folders != [str(expected)] else []
    return notes + ([f"left out of their paths: {' and '.join(left_out)}"] if left_out else [])


def _shared_beginnings(written: Sequence[str]) -> Iterator[str]:
    """ "" and the leading folders that all paths share, fewest first."""
    yield ""
    paths = [_slashes(path) for path in written]
    # All paths share what the first and the last in alphabetical order share.
    first, last = (min(paths), max(paths)) if paths else ("", "")
    for end, (letter, other) in enumerate(zip(first, last, strict=False), start=1):
        if letter != other:
            return
        if letter == "/":
            yield first[:end]


def _slashes(path: str) -> str:
    return path.replace("\\", "/")
