"""Finding clips on the disk: which files are videos, which folders hold frames, what exists."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

VIDEO_SUFFIXES: tuple[str, ...] = (
    *(".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv"),
    *(".flv", ".3gp", ".ts", ".mts", ".m2ts", ".ogv", ".gif"),
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_PASSED_OVER = {"__MACOSX", "@eaDir", "__pycache__"}


def is_video(name: str) -> bool:
    return name[name.rfind(".") :].lower() in VIDEO_SUFFIXES


def is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES


def visible(name: str) -> bool:
    return not name.startswith(".") and name not in _PASSED_OVER


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in ``folder``, sorted by name; [] where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if visible(e.name) and e.is_dir()]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


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
    _listed: dict[str, dict[str, bool]] = field(default_factory=dict)

    def place(self, root: str | Path, written: str, suffix: str = "") -> Place:
        """The clip that a list calls ``written``, relative to ``root``.

        Tried in turn: the path itself; the path with a video suffix appended, where it has none
        (lists of TDN and of many others leave it out); both with forward slashes, where the list
        was made on Windows. Where none is there (or nothing is looked up), the place is the path
        with ``suffix`` appended, which is what the format says.
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
            if not is_video(spelling):
                for ending in VIDEO_SUFFIXES:
                    if self._kind(spelling + ending) is False:
                        return Place(spelling + ending, folder=False, exists=True)
        return Place(expected, folder=not is_video(expected), exists=False)

    def _kind(self, path: str) -> bool | None:
        """True = a folder, False = a file, None = not there."""
        parent, _, name = path.rpartition(os.sep)
        parent = parent or os.sep
        if parent not in self._listed:
            self._listed[parent] = _list(parent)
        return self._listed[parent].get(name)


def _join(root: str | Path, written: str) -> str:
    # Ten times as fast as Path(root, written), which was a third of the time for a long list.
    return os.path.normpath(os.path.join(root, written))  # noqa: PTH118


def _list(folder: str) -> dict[str, bool]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_dir() for entry in entries if _there(entry)}
    except (OSError, ValueError):
        return {}


def _there(entry: os.DirEntry[str]) -> bool:
    """False for a link that leads nowhere."""
    return entry.is_dir() or entry.is_file()


# Folders beside the clips in which the official annotations are commonly unpacked.
ANNOTATION_FOLDERS = (
    "annotations",
    "annotation",
    "labels",
    "lists",
    "splits",
    "ucfTrainTestlist",
    "testTrainMulti_7030_splits",
    "test_train_splits",
)


def annotation_folders(data: Path) -> list[Path]:
    """``data`` and the folders in it that may hold annotations; [] for a file."""
    if not data.is_dir():
        return []
    return [data, *(data / name for name in ANNOTATION_FOLDERS if (data / name).is_dir())]


def clip_root(
    data: Path,
    hint: Path | None,
    clips: Sequence[T],
    place: Callable[[Path, T], Place],
) -> Path:
    """The folder in which the clips of an official annotation lie.

    That is ``hint`` if given; else, of ``data``, the folders in it, and (where ``data`` is a folder
    of annotations) the folders beside it, the one in which ``place`` finds most of ``clips``.
    A few dozen of them, drawn from the whole list, are tried.
    """
    if hint is not None:
        return hint
    sample = clips[:: max(len(clips) // 40, 1)]
    candidates = [data, *subfolders(data)]
    if data.name in ANNOTATION_FOLDERS:
        candidates += [data.parent, *subfolders(data.parent)]
    best, most = data, 0
    for candidate in candidates[:200]:
        score = sum(place(candidate, clip).exists for clip in sample)
        if score > most:
            best, most = candidate, score
        if most == len(sample):
            break
    return best
