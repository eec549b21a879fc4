"""Finding clips on the disk: which files are videos, which folders hold frames, what exists."""

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

T = TypeVar("T")

VIDEO_SUFFIXES: tuple[str, ...] = (
    *(".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv"),
    *(".flv", ".3gp", ".ts", ".mts", ".m2ts", ".ogv", ".gif"),
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def is_video(name: str) -> bool:
    return name[name.rfind(".") :].lower() in VIDEO_SUFFIXES


def is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def subfolders(folder: Path, named: re.Pattern[str] | None = None) -> list[Path]:
    """The visible folders in ``folder``, of those ``named`` like this, sorted by name; [] where it
    cannot be listed."""
    try:
        names = listing(folder).folders
    except OSError:
        return []
    return [folder / name for name in names if named is None or named.search(name)]


def visible_files(folder: Path, *patterns: str) -> list[Path]:
    """The files in ``folder`` with a name as one of the glob ``patterns``, which end in a suffix,
    sorted; not the hidden ones, such as the ``._labels.json`` that a Mac leaves beside
    ``labels.json``."""
    files = listing(folder).files
    wanted = re.compile("|".join(map(fnmatch.translate, patterns))).match
    # The suffix first: there may be 200,000 clips in the folder too.
    endings = {pattern[pattern.rfind(".") :] for pattern in patterns}
    names = sorted(name for ending in endings for name in files.get(ending, ()))
    return [folder / name for name in names if wanted(name)]


def holds_frames(folder: str | Path) -> bool:
    """Whether there is an image in ``folder``; stops at the first."""
    try:
        with os.scandir(folder) as entries:
            return any(visible(entry.name) and is_image(entry.name) for entry in entries)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip is, or where it should be."""

    path: str
    folder: bool
    exists: bool


@dataclass
class Finder:
    """Says whether clips exist, by listing each parent folder once.

    A list of 200,000 clips in one folder costs one listing instead of 200,000 questions, which on
    a network drive is the difference between a second and minutes.

    Attributes:
        check: False = nothing is looked up; whatever has no video suffix counts as a folder.
    """

    check: bool = True
    _listed: dict[str, dict[str, bool | None]] = field(default_factory=dict)

    def place(self, root: str | Path, written: str, suffix: str = "") -> Place:
        """The clip that a list calls ``written``, relative to ``root``.

        Tried in turn: the path itself; its suffix in small or capital letters, where it is that of
        a video; the path with a video suffix appended, where it has none (lists of TDN and of many
        others leave it out); all of them with forward slashes, where the list was made on Windows.
        Where none is there (or nothing is looked up), the place is the path with ``suffix``
        appended, which is what the format says.
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
        """True = a folder, False = a file, None = not there."""
        parent, _, name = path.rpartition(os.sep)
        parent = parent or os.sep
        if parent not in self._listed:
            self._listed[parent] = _kinds(parent)
        if is_packed(path):  # lists of the sound clips of a packed set name rows of its index
            name = name.partition("#")[0]
        return self._listed[parent].get(name)


def _join(root: str | Path, written: str) -> str:
    # Ten times as fast as Path(root, written), which was a third of the time for a long list.
    return os.path.normpath(os.path.join(root, written))  # noqa: PTH118


def _kinds(folder: str) -> dict[str, bool | None]:
    try:
        return listing(folder).kinds
    except (OSError, ValueError):
        return {}


# Folders beside the clips in which annotations are commonly unpacked: annotations/, labels/,
# ucfTrainTestlist/, UCF101TrainTestSplits-RecognitionTask/, testTrainMulti_7030_splits/, ...
_ANNOTATION_FOLDER = re.compile(r"anno|label|list|split", re.IGNORECASE)
_TRIED = 200  # folders in which clips are looked for, at each depth


def annotation_folders(data: Path) -> list[Path]:
    """``data`` and the folders in it, two deep, that by their names may hold annotations; [] for a
    file."""
    if not data.is_dir():
        return []
    inside = subfolders(data, _ANNOTATION_FOLDER)
    deeper = [child for folder in inside for child in subfolders(folder, _ANNOTATION_FOLDER)]
    return [data, *inside, *deeper]


def clip_root(
    data: Path,
    hint: Path | None,
    clips: Sequence[T],
    place: Callable[[Path, T], Place],
) -> Path:
    """The folder in which the clips of an annotation lie.

    That is ``hint`` if given; else, of ``data`` and the folders in it, the one in which ``place``
    finds most of ``clips``. Where none is found there, the folders beside ``data`` follow, if it is
    a folder of annotations, and then the folders inside of all these. A few dozen clips, drawn from
    the whole list, are tried.
    """
    if hint is not None:
        return hint
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
    """The first of the candidates in which most of ``sample`` lies; None = it is in none."""
    best, most = None, 0
    for candidate in candidates:
        score = sum(place(candidate, clip).exists for clip in sample)
        if score > most:
            best, most = candidate, score
        if most == len(sample):
            break
    return best


@dataclass(frozen=True, slots=True)
class Base:
    """Where the clips of a list lie.

    Attributes:
        folder: which the paths are relative to.
        left_out: leading folders of every path, such as "/mnt/data/", that are not here.
        found: whether any of the clips that were tried is there.
    """

    folder: Path
    left_out: str
    found: bool

    def place(self, finder: Finder, written: str) -> Place:
        """The clip that the list calls ``written``."""
        return finder.place(
            self.folder, _slashes(written).removeprefix(self.left_out) if self.left_out else written
        )


def list_base(data: Path, hint: Path | None, written: Sequence[str], finder: Finder) -> Base:
    """Find the clips of a list, see :func:`clip_root`.

    A list made elsewhere begins its paths with folders that are not here. Of those that all its
    paths share, the fewest are left out with which clips are found; as the paths then still
    differ, no clip is taken for another.

    Args:
        written: the paths as they stand in the list.
    """
    sample = written[:: max(len(written) // 40, 1)]
    first: Base | None = None
    for left_out in _shared_beginnings(written):

        def place(folder: Path, path: str, left_out: str = left_out) -> Place:
            return Base(folder, left_out, found=False).place(finder, path)

        tried = Base(clip_root(data, hint, written, place), left_out, found=False)
        if any(tried.place(finder, path).exists for path in sample):
            return replace(tried, found=True)
        first = first or tried
    return first or Base(hint or data, "", found=False)


def notes_on(bases: Sequence[Base], expected: Path) -> list[str]:
    """What people should know: where the clips are, if not in the folder ``expected``."""
    folders = list(dict.fromkeys(str(base.folder) for base in bases))
    left_out = list(dict.fromkeys(base.left_out for base in bases if base.left_out))
    notes = [f"clips in {' and '.join(folders)}"] if folders != [str(expected)] else []
    return notes + ([f"left out of their paths: {' and '.join(left_out)}"] if left_out else [])


def _shared_beginnings(written: Sequence[str]) -> Iterator[str]:
    """Nothing, and the folders with which all paths begin, fewest first."""
    yield ""
    paths = [_slashes(path) for path in written]
    # What the first and the last in alphabetical order share, all between them share.
    first, last = (min(paths), max(paths)) if paths else ("", "")
    for end, (letter, other) in enumerate(zip(first, last, strict=False), start=1):
        if letter != other:
            return
        if letter == "/":
            yield first[:end]


def _slashes(path: str) -> str:
    return path.replace("\\", "/")
