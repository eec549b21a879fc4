"""Results of earlier checks, so that clips that have not changed are not decoded again.

One SQLite table, written while the clips are checked, so an interrupted check is resumed. A clip
has not changed if the size and the modification time of its file (of all its images, for a folder)
are the same. Results of other versions of this package or of PyAV are not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from smnet.data.checks.inspection import Facts, Inspection, inspect_clip
from smnet.data.clips import Clip
from smnet.data.packed.read import is_packed, shard_of
from smnet.errors import UserError

_APPLICATION = 0x534D4E54  # marks the file as ours
_EARLIER = b'{"format": "smnet-check"'  # how the text files of earlier versions begin
_PAUSE = 5.0  # seconds between writes
_TABLE = """
CREATE TABLE IF NOT EXISTS clips (
    path BLOB, decoded INTEGER, stamp TEXT, problems TEXT, digest BLOB,
    PRIMARY KEY (path, decoded)
)"""


@dataclass(frozen=True, slots=True)
class Looked:
    """A clip that was inspected, or whose earlier inspection still holds.

    Attributes:
        inspection: what was found.
        stamp: see :func:`stamp`; "" where the clip changed meanwhile, so nothing is remembered.
        remembered: whether the clip was not opened.
    """

    inspection: Inspection
    stamp: str
    remembered: bool


def look(item: tuple[Clip, Looked | None], *, decode: bool) -> Looked:
    """Inspect a clip unless an earlier result still holds. Runs in worker processes."""
    clip, known = item
    before = stamp(clip)
    if known is not None and before and known.stamp == before:
        return known
    found = inspect_clip(clip, decode=decode)
    return Looked(found, before if stamp(clip) == before else "", remembered=False)


def stamp(clip: Clip) -> str:
    """A hash of what the findings of a clip depend on, except its bytes; "" = unknown."""
    try:
        path = shard_of(clip.path) if is_packed(clip.path) else clip.path
        if path is None:
            return ""
        found = Path(path).stat()
        versions = version("smnet-video"), version("av")
        facts: list[Any] = [clip.path, clip.num_frames, clip.template, *versions]
        if Path(path).is_dir():
            with os.scandir(path) as entries:
                facts += sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries)
        else:
            facts += [found.st_size, found.st_mtime_ns]
    except (OSError, UserError):
        return ""
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


class Memory:
    """An open memory of checks: see :func:`open_memory`."""

    def __init__(self, database: sqlite3.Connection | None, decode: bool) -> None:
        self._database = database
        self._decode = decode
        self._rows: list[tuple[bytes, bool, str, str, bytes]] = []
        self._written = time.monotonic()
        self._known: dict[bytes, tuple[str, str, bytes]] = {}
        if database is not None:
            query = "SELECT path, stamp, problems, digest FROM clips WHERE decoded = ?"
            self._known = {path: row for path, *row in database.execute(query, (decode,))}

    def of(self, clip: Clip) -> Looked | None:
        """The earlier result of a clip."""
        row = self._known.get(os.fsencode(clip.path))
        if row is None:
            return None
        stamp, found, digest = row
        values = json.loads(found)
        if not isinstance(values, dict):  # of an earlier version
            return None
        facts = Facts(**values["facts"]) if values["facts"] else None
        problems = tuple((kind, text) for kind, text in values["problems"])
        return Looked(Inspection(facts, problems, digest), stamp, remembered=True)

    def add(self, clip: Clip, looked: Looked) -> None:
        """Remember a result. It is written within seconds."""
        if self._database is None or looked.remembered or not looked.stamp:
            return
        found = looked.inspection
        facts = asdict(found.facts) if found.facts else None
        problems = json.dumps({"problems": found.problems, "facts": facts})
        row = (os.fsencode(clip.path), self._decode, looked.stamp, problems, found.digest)
        self._rows.append(row)
        if time.monotonic() - self._written > _PAUSE:
            self.flush()

    def flush(self) -> None:
        """Write the results that are not yet written."""
        if self._database is not None:
            with self._database as transaction:
                insert = "INSERT OR REPLACE INTO clips VALUES (?, ?, ?, ?, ?)"
                transaction.executemany(insert, self._rows)
        self._rows.clear()
        self._written = time.monotonic()


@contextmanager
def open_memory(path: str | os.PathLike[str] | None, *, decode: bool) -> Iterator[Memory]:
    """Open or create a memory; None remembers nothing.

    Args:
        path: the file.
        decode: whether clips are decoded; the results of both kinds of check are kept apart.

    Raises:
        UserError: the file is not a memory of checks, or cannot be read or written.
    """
    if path is None:
        yield Memory(None, decode)
        return
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if _is_earlier(place):
            place.unlink()
        with closing(sqlite3.connect(place)) as database:
            _prepare(database)
            memory = Memory(database, decode)
            try:
                yield memory
            finally:
                memory.flush()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # full disk, no permission, locked
            raise UserError(f"cannot write {place}: {error}") from error
        raise UserError(
            f"{place}: not the memory of an earlier smnet data check ({error}); choose another file"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error


def _is_earlier(place: Path) -> bool:
    """Whether a file is the memory of an earlier version of this package."""
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(len(_EARLIER)) == _EARLIER


def _prepare(database: sqlite3.Connection) -> None:
    """Create the table; refuse the database of another program."""
    tables = database.execute("SELECT name FROM sqlite_master").fetchall()
    application = database.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != _APPLICATION:
        raise sqlite3.DatabaseError("it belongs to another program")
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(_TABLE)
    database.commit()
