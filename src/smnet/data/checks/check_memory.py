"""What earlier checks found of clips that have not changed since, to spare decoding them again.

A text file: a header, then one line of json a clip, written as the clips are done, so that what an
interrupted check found is kept. A clip counts as unchanged as long as size and time of change of
its file (of all images, for a folder of frames) are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from smnet.data.annotations.text import raw_lines
from smnet.data.checks.inspection import Inspection, inspect_clip
from smnet.data.clips import Clip
from smnet.data.packed.read import is_packed, shard_of
from smnet.errors import UserError
from smnet.files import write_text

_FORMAT = "smnet-check"
_PROBLEMS = 100  # of one clip; no check finds as many
_PAUSE = 5.0  # seconds between writes
_Key = tuple[str, bool]  # path, whether the clip was decoded


@dataclass(frozen=True, slots=True)
class Known:
    """What was found of a clip: its problems and digest, for as long as its stamp is the same."""

    stamp: str
    problems: tuple[tuple[str, str], ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Looked:
    """A clip looked at, or remembered.

    Attributes:
        stamp: "" where the clip changed or cannot be stamped: nothing to remember.
        remembered: nothing was opened.
    """

    inspection: Inspection
    stamp: str
    remembered: bool


def look(item: tuple[Clip, Known | None], *, decode: bool) -> Looked:
    """Inspect a clip, unless it is known and has not changed: the part that runs in workers."""
    clip, known = item
    before = stamp(clip)
    if known is not None and before and known.stamp == before:
        return Looked(Inspection(None, known.problems, known.digest), before, remembered=True)
    found = inspect_clip(clip, decode=decode)
    return Looked(found, before if stamp(clip) == before else "", remembered=False)


def stamp(clip: Clip) -> str:
    """A hash of all that the findings of a clip depend on, short of its bytes; "" = it has none."""
    try:
        path = shard_of(clip.path) if is_packed(clip.path) else clip.path
        if path is None:
            return ""
        found = Path(path).stat()
        facts: list[Any] = [clip.path, clip.num_frames, clip.template]
        if Path(path).is_dir():
            with os.scandir(path) as entries:
                files = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries)
            facts.append(files)
        else:
            facts += [found.st_size, found.st_mtime_ns]
    except (OSError, UserError):
        return ""
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


class Memory:
    """An open memory of checks: see :func:`open_memory`."""

    def __init__(self, known: Mapping[_Key, Known], file: IO[str] | None, decode: bool) -> None:
        self._known = known
        self._file = file
        self._decode = decode
        self._held: list[str] = []
        self._wrote = time.monotonic()

    def of(self, clip: Clip) -> Known | None:
        """What is known of a clip, if it has not changed."""
        return self._known.get((clip.path, self._decode))

    def add(self, clip: Clip, looked: Looked) -> None:
        """Note what was found; on the disk soon after."""
        if self._file is None or looked.remembered or not looked.stamp:
            return
        found = looked.inspection
        known = Known(looked.stamp, found.problems, found.digest)
        self._held.append(_line((clip.path, self._decode), known))
        if time.monotonic() - self._wrote > _PAUSE:
            self.flush()

    def flush(self) -> None:
        """Write what is held back, whole lines at once."""
        if self._file is not None and self._held:
            self._file.write("".join(self._held))
            self._file.flush()
        self._held.clear()
        self._wrote = time.monotonic()


@contextmanager
def open_memory(path: str | os.PathLike[str] | None, *, decode: bool) -> Iterator[Memory]:
    """Read a memory and go on with it, or begin one; None remembers nothing.

    What another version of this package or of its decoder found is forgotten; what a check of the
    other thoroughness (``decode``) found is kept for the next of its kind.

    Raises:
        UserError: it is another file, or cannot be read or written.
    """
    if path is None:
        yield Memory({}, None, decode)
        return
    place = Path(path)
    header = json.dumps({"format": _FORMAT, "of": _versions()}) + "\n"
    known, tidy = _read(place, header) if place.exists() else ({}, False)
    if not tidy:
        write_text(place, header + "".join(_line(key, row) for key, row in known.items()))
    try:
        with place.open("a", encoding="utf-8") as file:
            memory = Memory(known, file, decode)
            try:
                yield memory
            finally:
                memory.flush()
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error


def _read(place: Path, header: str) -> tuple[dict[_Key, Known], bool]:
    """(what is known, whether the file can be appended to as it is).

    Lines that are no such records, like the last of a run that was killed, are passed over.
    """
    known: dict[_Key, Known] = {}
    tidy = True
    for number, line in enumerate(raw_lines(place), start=1):
        values = _parsed(line)
        if number == 1:
            if not isinstance(values, dict) or values.get("format") != _FORMAT:
                raise UserError(
                    f"{place}: not what an earlier smnet data check remembered; give another file"
                )
            if line != header:
                return {}, False
            continue
        record = _record(values)
        tidy = tidy and record is not None and record[0] not in known and line.endswith("\n")
        if record is not None:
            known[record[0]] = record[1]
    return known, tidy and bool(known)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _line(key: _Key, known: Known) -> str:
    return json.dumps([*key, known.stamp, known.problems, known.digest.hex()]) + "\n"


def _record(values: Any) -> tuple[_Key, Known] | None:
    try:
        path, decoded, stamp, problems, digest = values
        found = tuple((kind, text) for kind, text in problems)
        texts = [path, stamp, digest, *(text for pair in found for text in pair)]
        if not all(isinstance(text, str) for text in texts) or len(found) > _PROBLEMS:
            return None
        return (path, bool(decoded)), Known(stamp, found, bytes.fromhex(digest))
    except (TypeError, ValueError):
        return None


def _versions() -> str:
    found = []
    for name in ("smnet-video", "av"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(name)
    return ", ".join(found)
