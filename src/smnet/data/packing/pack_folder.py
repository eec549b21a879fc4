"""The folder that a packed set is written into: whose it is, and how far an earlier run came."""

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
    """Make a folder ours while it is written.

    Args:
        folder: made where it does not exist.
        plan: what is to be written; an unfinished or finished set there must be of the same.
        data: what is packed.

    Yields:
        The manifest, where the set is complete already.

    Raises:
        UserError: it holds something else, lies inside the data, cannot be written, or another
            process is writing it.
    """
    if folder.resolve().is_relative_to(Path(data).resolve()):
        raise UserError(f"{folder}: lies inside the data, which is not touched; choose another")
    notes = folder / PARTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(entry.name for entry in folder.iterdir())
        complete = MANIFEST in there
        begun = (notes / PLAN).is_file()
        if there and not complete and not begun and not _only_locked(there, notes):
            raise UserError(
                f"{folder}: holds other things, such as {there[0]!r}; give a new or empty folder"
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
            sweep(folder, "shard-*", "index", "manifest")
            sweep(notes, "shard-*")
            yield None
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or folder}: {error.strerror or error}"
        ) from error


def _only_locked(there: list[str], notes: Path) -> bool:
    """Whether an earlier run was killed before it could say what it would write."""
    return there == [PARTS] and all(
        entry.name == _LOCK or entry.name.startswith(".plan.") for entry in notes.iterdir()
    )


def _same(folder: Path, found: str, plan: str) -> None:
    if found != plan:
        raise UserError(
            f"{folder}: holds a pack of another list of clips or with other settings; give another"
            " folder, or delete that one"
        )
