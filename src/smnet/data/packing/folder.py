"""The folder that a packed set is written to: the checks before it is used, and its lock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smnet.data.packed.layout import MANIFEST, MANIFEST_LIMIT, PARTS, PLAN, Manifest
from smnet.errors import UserError
from smnet.files import lock_file, sweep, write_text

_LOCK = "lock"


@contextmanager
def own_folder(folder: Path, plan: str, data: str | os.PathLike[str]) -> Iterator[Manifest | None]:
    """Lock a folder while a set is written to it.

    Args:
        folder: created if it does not exist.
        plan: hash of the set to write; a set that is already there must have the same.
        data: the data set that is packed.

    Yields:
        The manifest if the set is complete already, else None.

    Raises:
        UserError: the folder holds something else, lies inside the data, cannot be written, or
            another process is writing to it.
    """
    if folder.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{folder}: lies inside the data set; choose a folder outside it")
    notes = folder / PARTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(entry.name for entry in folder.iterdir())
        complete = MANIFEST in there
        begun = (notes / PLAN).is_file()
        if there and not complete and not begun and not _only_locked(there, notes):
            raise UserError(
                f"{folder}: holds other files, such as {there[0]!r}; give a new or empty folder"
            )
        if complete:
            text = (folder / MANIFEST).read_bytes()[:MANIFEST_LIMIT]
            manifest = Manifest.from_json(str(folder / MANIFEST), text)
            _same(folder, manifest.plan, plan)
            if begun:  # by a run that was killed at its very end
                shutil.rmtree(notes, ignore_errors=True)
            yield manifest
            return
        notes.mkdir(exist_ok=True)
        with (notes / _LOCK).open("w") as lock:
            try:
                lock_file(lock.fileno())
            except BlockingIOError as error:
                raise UserError(f"{folder}: another process is packing into it") from error
            if begun:
                _same(folder, (notes / PLAN).read_text(encoding="utf-8"), plan)
            else:
                write_text(notes / PLAN, plan)
            sweep(folder)
            sweep(notes)
            yield None
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or folder}: {error.strerror or error}"
        ) from error


def _only_locked(there: list[str], notes: Path) -> bool:
    """Whether an earlier run was killed before it wrote its plan."""
    return there == [PARTS] and all(
        entry.name == _LOCK or entry.name.startswith(".plan.") for entry in notes.iterdir()
    )


def _same(folder: Path, found: str, plan: str) -> None:
    if found != plan:
        raise UserError(
            f"{folder}: holds a packed set of other clips or with other settings; give another"
            " folder, or delete this one"
        )
