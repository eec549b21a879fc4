"""Folder listings, cached while one data set is recognised and read.

Every form looks for its own files, and there may be a million clips beside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path

_SKIPPED = {"__MACOSX", "@eaDir", "__pycache__"}
_kept: ContextVar[dict[str, Listing] | None] = ContextVar("_kept", default=None)


def visible(name: str) -> bool:
    return not name.startswith(".") and name not in _SKIPPED


class Listing:
    """The names in a folder; see :func:`listing`.

    Attributes:
        kinds: {name: True for a folder, False for a file, None for a broken link}.
    """

    def __init__(self, folder: str) -> None:
        with os.scandir(folder) as entries:
            self.kinds = {entry.name: _is_folder(entry) for entry in entries}

    @cached_property
    def folders(self) -> list[str]:
        """The visible folders, sorted."""
        return sorted(name for name, is_dir in self.kinds.items() if is_dir and visible(name))

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """The visible files by suffix, such as ".csv", sorted."""
        found: dict[str, list[str]] = {}
        for name, is_dir in self.kinds.items():
            if is_dir is False and visible(name):
                found.setdefault(name[name.rfind(".") :], []).append(name)
        return {suffix: sorted(names) for suffix, names in found.items()}


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    return entry.is_dir() or (False if entry.is_file() else None)


def listing(folder: str | Path) -> Listing:
    """The listing of a folder; cached within :func:`listing_once`.

    Raises:
        OSError: the folder cannot be listed.
    """
    kept = _kept.get()
    if kept is None:
        return Listing(str(folder))
    found = kept.get(str(folder))
    if found is None:
        found = kept[str(folder)] = Listing(str(folder))
    return found


@contextmanager
def listing_once() -> Iterator[None]:
    """Lists every folder at most once; later changes are not seen."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)
