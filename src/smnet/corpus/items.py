"""The files of a corpus, listed one after another: folders, patterns, lists, manifests, shards."""

from __future__ import annotations

import csv
import glob
import hashlib
import os
import pickle
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from numpy.typing import NDArray

from smnet.data.addresses import cause_of, fetched, filesystem_of, is_url
from smnet.data.annotations.columns import Columns, time_column
from smnet.data.annotations.places import is_image, is_video
from smnet.data.annotations.times import part_of
from smnet.data.clips import Part
from smnet.data.packed.storage import arrow
from smnet.errors import UserError
from smnet.inference.sources import Source, address_videos, walk

COLUMNS = ("path", "video", "file", "filename", "url", "uri")
"""Columns of a manifest that may hold the file, best first."""
_ROWS = 4096  # of a Parquet manifest that are in memory at once


@dataclass(frozen=True, slots=True)
class Item:
    """One video of a corpus.

    Attributes:
        path: its absolute path or its address; ``shard.tar/name.mp4`` in a shard.
        size: in bytes; of a folder of frames, the number of its entries. -1 if not known.
        stamp: changes with its content: modification time in ns, or the entity tag of an address.
        archive: the tar file that holds it.
        offset: of its first byte in the archive.
        part: of the recording; None is all of it.
    """

    path: str
    size: int
    stamp: str
    archive: str = ""
    offset: int = 0
    part: Part | None = None

    @property
    def key(self) -> bytes:
        """16 bytes that identify path, size, stamp and part."""
        text = f"{self.path}\0{self.size}\0{self.stamp}"
        if self.part is not None:
            text += f"\0{self.part.start}\0{self.part.end}\0{self.part.unit}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()

    @property
    def whole(self) -> bytes:
        """:attr:`key` of all of the file."""
        return self.key if self.part is None else replace(self, part=None).key

    def share(self, count: int) -> int:
        """The number, below ``count``, of the share of the corpus that it is always in."""
        digest = hashlib.blake2b(self.path.encode("utf-8", "surrogateescape"), digest_size=8)
        return int.from_bytes(digest.digest()) % count

    @contextmanager
    def readable(self) -> Iterator[str | NDArray[Any]]:
        """A local path that holds the video.

        Raises:
            UserError: it is gone, no regular file, or cannot be fetched.
        """
        if self.archive:
            with fetched(self.archive, self.offset, self.size) as copy:
                try:
                    yield copy
                except UserError as error:
                    raise UserError(str(error).replace(copy, self.path)) from None
            return
        with Source.of(self.path).readable() as content:
            yield content


class ItemList:
    """Items in a temporary file, so that a list of any length can be read several times."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._file = NamedTemporaryFile(prefix="smnet-")  # noqa: SIM115, kept as long as the list
        self._count = 0
        for item in items:
            # A tuple of its fields is read back in a third of the time.
            fields = (item.path, item.size, item.stamp, item.archive, item.offset, item.part)
            pickle.dump(fields, self._file)
            self._count += 1
        self._file.flush()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        with Path(self._file.name).open("rb") as file:
            for _ in range(self._count):
                yield Item(*pickle.load(file))


def list_items(words: Sequence[str]) -> Iterator[Item]:
    """List the videos that words stand for, one after another and never all in memory.

    A word is a video, a folder, a pattern, an address, ``@list.txt``, a manifest (``.csv``,
    ``.tsv`` or ``.parquet`` with a column ``path``; columns ``start`` and ``end`` name parts, see
    ``docs/datasets.md``), or a ``.tar`` shard. Paths in lists and
    manifests are relative to their folder. A path that does not exist is an item too.

    Raises:
        UserError: a word that stands for nothing, or a list that cannot be read.
    """
    for word in words:
        if not word:
            raise UserError("an empty name was given for a video or a folder")
        path = word[1:] if word.startswith("@") else word
        suffix = path[path.rfind(".") :].lower()
        if suffix == ".tar":
            for archive in _matches(path):
                yield from _in_tar(archive)
        elif suffix in (".csv", ".tsv", ".parquet") or word.startswith("@"):
            yield from _in_manifest(path, suffix)
        elif is_url(path):
            for address in address_videos(path):
                yield _remote(address)
        else:
            yield from map(_local, _videos(path))


def _matches(path: str) -> list[str]:
    """The files of a pattern, local or at an address; the path itself if it is none."""
    if not glob.has_magic(path):
        return [path]
    if is_url(path):
        filesystem, pattern = filesystem_of(path)
        found = [filesystem.unstrip_protocol(name) for name in filesystem.glob(pattern)]
    else:
        found = glob.glob(path, recursive=True)
    if not found:
        raise UserError(f"{path}: no file matches this pattern")
    return sorted(found)


def _videos(path: str) -> Iterator[str]:
    if Path(path).is_dir():
        yield from walk(path)
    elif glob.has_magic(path) and not Path(path).exists():
        count = 0
        for match in glob.iglob(path, recursive=True):
            if Path(match).is_dir():
                # A recursive pattern matches the files below by itself, but not folders of frames.
                found = walk(match) if "**" not in path else islice(walk(match), 1)
                for video in found:
                    if "**" not in path or video == match:
                        count += 1
                        yield video
            elif is_video(match):
                count += 1
                yield match
        if not count:
            raise UserError(f"{path}: no video matches this pattern")
    else:
        yield path


def _local(path: str) -> Item:
    path = os.path.abspath(path)  # noqa: PTH100, which resolves no links
    try:
        facts = os.stat(path)  # noqa: PTH116, a million times
    except OSError:
        return Item(path, -1, "")
    if stat.S_ISDIR(facts.st_mode):
        names = [name for name in os.listdir(path) if is_image(name)]
        return Item(path, len(names), str(facts.st_mtime_ns))
    return Item(path, facts.st_size, str(facts.st_mtime_ns))


def _remote(address: str) -> Item:
    try:
        filesystem, path = filesystem_of(address)
        facts = filesystem.info(path)
    except UserError:
        raise
    except Exception:  # reported when it is read
        return Item(address, -1, "")
    tags = (facts.get(k) for k in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created"))
    size = facts.get("size")
    return Item(address, -1 if size is None else int(size), str(next(filter(None, tags), "")))


def _in_tar(archive: str) -> Iterator[Item]:
    """The videos of an uncompressed tar file, read where they lie."""
    whole = _remote(archive) if is_url(archive) else _local(archive)
    archive = whole.path
    try:
        with _opened(archive) as file, tarfile.open(fileobj=file, mode="r:") as members:
            for member in members:
                if member.isreg() and is_video(member.name):
                    yield Item(
                        path=f"{archive}/{member.name}",
                        size=member.size,
                        stamp=f"{whole.stamp}+{member.offset_data}",
                        archive=archive,
                        offset=member.offset_data,
                    )
                members.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UserError(
            f"{archive}: cannot be read as an uncompressed tar file ({error})"
        ) from None


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    if not is_url(path):
        with Path(path).open("rb") as file:
            yield file
        return
    filesystem, name = filesystem_of(path)
    try:
        with filesystem.open(name, "rb") as file:
            yield file
    except (UserError, OSError, tarfile.TarError):
        raise
    except Exception as caught:  # every file system has its own exceptions
        raise UserError(f"{path}: cannot be read ({cause_of(caught)})") from None


def _in_manifest(path: str, suffix: str) -> Iterator[Item]:
    base = path.rpartition("/")[0]
    rows = _parquet_rows(path) if suffix == ".parquet" else _text_rows(path, suffix)
    empty = True
    for name, part in rows:
        empty = False
        if is_url(name):
            item = _remote(name)
        elif is_url(path):
            item = _remote(f"{base}/{name}")
        else:
            item = _local(str(Path(base, name)))
        yield replace(item, part=part)
    if empty:
        raise UserError(f"{path}: an empty list")


class _Header:
    """Which columns of a manifest hold the path and the borders of a part.

    Raises:
        UserError: no column of a path, or one that changes the meaning of a row and is not read.
    """

    def __init__(self, path: str, names: Sequence[str]) -> None:
        lower = {name.strip().lower().replace(" ", "_"): name for name in names}
        self.file = path
        self.path = next((lower[known] for known in COLUMNS if known in lower), "")
        if not self.path:
            seen = ", ".join(map(repr, names[:6]))
            known = f"{', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}"
            raise UserError(f"{path}: no column {known}; it has {seen}")
        self.borders = {key: lower[n] for n in lower if (key := time_column(n)) is not None}
        for name in lower.keys() - set(self.borders.values()):
            if time_column(name) is None and (meaning := Columns.meaning(name)):
                raise UserError(f"{path}: column {name!r} {meaning}")

    @property
    def names(self) -> list[str]:
        return [self.path, *self.borders.values()]

    def read(self, row: Mapping[str, Any]) -> tuple[str, Part | None]:
        """The path and the part of a row.

        Raises:
            UserError: no part of a recording.
        """
        fields = {k: "" if row[n] is None else str(row[n]) for k, n in self.borders.items()}
        part, wrong = part_of(fields)
        if wrong:
            raise UserError(f"{self.file}: {row[self.path]}: {wrong}")
        return row[self.path], part


def _text_rows(path: str, suffix: str) -> Iterator[tuple[str, Part | None]]:
    """(path, part) of the lines of a list, or of the rows of a table."""
    try:
        with _opened(path) as raw:
            lines = (line.decode("utf-8-sig" if n == 0 else "utf-8") for n, line in enumerate(raw))
            if suffix not in (".csv", ".tsv"):
                yield from ((line, None) for line in filter(None, map(str.strip, lines)))
                return
            rows = csv.DictReader(lines, delimiter="\t" if suffix == ".tsv" else ",")
            header = _Header(path, rows.fieldnames or ())
            yield from (header.read(row) for row in rows if row[header.path])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a list of videos ({error})") from None


def _parquet_rows(path: str) -> Iterator[tuple[str, Part | None]]:
    arrow()
    import pyarrow.parquet as pq
    from pyarrow import ArrowInvalid

    try:
        with _opened(path) as raw, pq.ParquetFile(raw) as table:
            header = _Header(path, table.schema_arrow.names)
            for batch in table.iter_batches(_ROWS, columns=header.names):
                yield from (header.read(row) for row in batch.to_pylist() if row[header.path])
    except (OSError, ArrowInvalid) as error:
        raise UserError(f"{path}: cannot be read as a Parquet table ({error})") from None
