"""Where a packed set lies: a local folder, or an address that fsspec knows (s3://, gs://, http)."""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from pathlib import Path
from typing import Any

from smnet.errors import UserError, missing_extra
from smnet.files import atomic_path

_BLOCK = 1 << 22  # bytes of one request, of files that are read as a whole
_CHUNK = 1 << 16  # bytes of an answer at a time
_TIMEOUT = 30.0  # seconds for one request
_WAITS = (0.5, 2.0, 5.0)  # seconds before each further try of a request that failed
_REST = 10.0  # seconds in which a place that failed in every try is not asked again
_PASSING = (408, 425, 429)  # of the HTTP states 400 to 499, those worth another try
_BACKENDS = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("http", "https"), "'smnet-video[remote]'"),
    **dict.fromkeys(("az", "abfs", "adl"), "adlfs"),
}


def is_url(place: str) -> bool:
    """Whether ``place`` is an address such as ``s3://bucket/folder`` and not a local path."""
    return "://" in place


def arrow() -> Any:
    """pyarrow, or the error that says how to install it."""
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra("pyarrow", "shards") from error
    return pyarrow


class Storage:
    """The files of one folder, for reading.

    Local files are mapped into memory: what several workers read is in memory once. Remote ones are
    read in pieces through fsspec, under a time limit, and again where that failed;
    ``simplecache::s3://...`` keeps whole copies on the local disk.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/") or "/"
        self._remote: Any = None
        self._base = self.place
        self._failed: tuple[float, Exception] | None = None
        if is_url(place):
            self._remote, self._base = _filesystem(self.place)
            if "file" in _protocols(self._remote):
                self._remote = None

    @property
    def remote(self) -> bool:
        """Whether it is at an address, and its files can be had in pieces only."""
        return self._remote is not None

    def name(self, file: str) -> str:
        """The full name of a file, for people."""
        return f"{self.place}/{file}"

    def stamp(self, file: str) -> tuple[int, int]:
        """Changes when a local file is replaced; constant for remote ones."""
        if self._remote is not None:
            return (0, 0)
        try:
            found = Path(self._path(file)).stat()
        except OSError as error:
            raise self._unreadable(file, error) from error
        return (found.st_mtime_ns, found.st_ino)

    def size(self, file: str) -> int:
        """Bytes.

        Raises:
            UserError: there is no such file, or it cannot be reached.
        """
        if self._remote is None:
            try:
                return Path(self._path(file)).stat().st_size
            except OSError as error:
                raise self._unreadable(file, error) from error
        size = self._request(file, "info").get("size")
        if not isinstance(size, int):
            raise UserError(f"{self.name(file)}: the server does not tell its size; {self._copy}")
        return size

    def read(self, file: str, limit: int) -> bytes:
        """All of a file of at most ``limit`` bytes."""
        if (size := self.size(file)) > limit:
            raise UserError(f"{self.name(file)}: {size} bytes, which is no such file of a pack")
        return self.read_range(file, 0, size)

    def read_range(self, file: str, start: int, stop: int) -> bytes:
        """The bytes ``start`` to ``stop``, all of them.

        Raises:
            UserError: it cannot be read, or is shorter.
        """
        if self._remote is not None:
            return self._request(file, "cat_file", start, stop) if start < stop else b""
        try:
            with Path(self._path(file)).open("rb") as opened:
                opened.seek(start)
                found = opened.read(stop - start)
        except OSError as error:
            raise self._unreadable(file, error) from error
        if len(found) < stop - start:
            raise UserError(f"{self.name(file)}: ends before its byte {stop}; {self._copy}")
        return found

    def open(self, file: str) -> Any:
        """A local file for pyarrow, mapped into memory."""
        try:
            return arrow().memory_map(self._path(file), "r")
        except OSError as error:
            raise self._unreadable(file, error) from error

    def open_verified(self, file: str, size: int, sha256: str) -> Any:
        """A pyarrow file mapped into memory, its checksum verified: of a remote file, a copy in the
        local cache.

        The copy is named after its content, so it serves every process and is never stale.

        Raises:
            UserError: it cannot be read, or has another checksum.
        """
        if self._remote is None:
            opened = self.open(file)
            if sha256_of(self._path(file)) != sha256:
                raise self._other_content(file)
            return opened
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        copy = Path(home, "smnet", "packed", f"{sha256}.arrow")
        if not copy.is_file() or copy.stat().st_size != size or sha256_of(copy) != sha256:
            with atomic_path(copy) as temporary:
                self._fetch(file, temporary, size, sha256)
        return arrow().memory_map(str(copy), "r")

    def _fetch(self, file: str, target: Path, size: int, sha256: str) -> None:
        hasher = hashlib.sha256()
        with target.open("wb") as copy:
            for start in range(0, size, _BLOCK):
                block = self.read_range(file, start, min(start + _BLOCK, size))
                hasher.update(block)
                copy.write(block)
        if hasher.hexdigest() != sha256:
            raise self._other_content(file)

    def _other_content(self, file: str) -> UserError:
        return UserError(
            f"{self.name(file)}: is not what the manifest says (checksum); it is damaged, or the"
            " set was being written; copy it there again"
        )

    def _request(self, file: str, what: str, *piece: int) -> Any:
        """Ask the remote file system, again where the failure may pass. Where it did not, the other
        clips of a batch are not to wait for as long."""
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._unreadable(file, self._failed[1]) from self._failed[1]
        for wait in (*_WAITS, None):
            try:
                found = _call(self._remote, what, self._path(file), *piece)
                if piece and len(found) != piece[1] - piece[0]:
                    raise self._wrong_length(file, piece, len(found))
                self._failed = None
                return found
            except UserError:
                raise
            except Exception as error:  # every backend has exceptions of its own
                final = _is_final(error)
                if wait is None and not final:
                    self._failed = (time.monotonic() + _REST, error)
                if wait is None or final:
                    raise self._unreadable(file, error) from error
                time.sleep(wait)
        return None

    def _wrong_length(self, file: str, piece: tuple[int, ...], found: int) -> Exception:
        wanted = f"{piece[1] - piece[0]} bytes from {piece[0]} on asked for, {found} came"
        if found < piece[1] - piece[0]:
            return EOFError(wanted)
        return UserError(f"{self.name(file)}: the server sends no parts of files; {self._copy}")

    @property
    def _copy(self) -> str:
        return f"simplecache::{self.place} reads copies of whole files, or copy the set here"

    def _path(self, file: str) -> str:
        return f"{self._base.rstrip('/')}/{file}"

    def _unreadable(self, file: str, error: Exception) -> UserError:
        if isinstance(error, UserError):
            return error
        cause = _cause(error)
        if isinstance(cause, FileNotFoundError) or _status(cause) == 404:
            return UserError(f"{self.name(file)}: no such file")
        if isinstance(cause, TimeoutError):
            cause = TimeoutError(f"no answer within {_TIMEOUT:g} s")
        reason = getattr(cause, "strerror", None) or f"{type(cause).__name__}: {cause}"
        return UserError(f"{self.name(file)}: cannot be read ({' '.join(reason.split())})")


def _call(filesystem: Any, what: str, path: str, *piece: int) -> Any:
    asyn = importlib.import_module("fsspec.asyn")
    if piece and "http" in _protocols(filesystem):
        return asyn.sync(filesystem.loop, _http_piece, filesystem, path, *piece, timeout=_TIMEOUT)
    if isinstance(filesystem, asyn.AsyncFileSystem):
        work = getattr(filesystem, f"_{what}")
        # By name: s3fs has another argument before these.
        named = dict(zip(("start", "end"), piece, strict=False))
        return asyn.sync(filesystem.loop, work, path, **named, timeout=_TIMEOUT)
    if not piece:
        return getattr(filesystem, what)(path)
    # Not cat_file, with which file systems that cache ask the one below.
    with filesystem.open(path, "rb") as opened:
        opened.seek(piece[0])
        return opened.read(piece[1] - piece[0])


async def _http_piece(filesystem: Any, path: str, start: int, stop: int) -> bytes:
    """Bytes of a file, of which a server that sends no parts, or no end, may send more; but no
    more of that is taken than tells."""
    how = dict(filesystem.kwargs)
    asked = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    headers = {**how.pop("headers", {}), **asked}
    session = await filesystem.set_session()
    found = bytearray()
    async with session.get(filesystem.encode_url(path), headers=headers, **how) as answer:
        answer.raise_for_status()
        async for block in answer.content.iter_chunked(_CHUNK):
            found += block
            if len(found) > stop - start:
                break
    return bytes(found)


def _cause(error: BaseException) -> BaseException:
    """What fsspec hides: over HTTP it calls everything that goes wrong a missing file."""
    cause = error.__cause__
    of_http = cause is not None and type(cause).__module__.partition(".")[0] == "aiohttp"
    return cause if cause is not None and of_http else error


def _status(error: BaseException) -> int | None:
    """The HTTP state in the exception of a backend, if there is one."""
    found = getattr(error, "status", None)
    return found if isinstance(found, int) else None


def _is_final(error: BaseException) -> bool:
    """Whether asking again is of no use."""
    cause = _cause(error)
    status = _status(cause)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING
    return isinstance(cause, FileNotFoundError | PermissionError | ImportError | ValueError)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Of a local file, as it stands on the disk."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _protocols(filesystem: Any) -> tuple[str, ...]:
    named = filesystem.protocol
    return (named,) if isinstance(named, str) else tuple(named)


def _filesystem(place: str) -> tuple[Any, str]:
    """(fsspec's file system, the path in it)."""
    protocol = place.rpartition("::")[2].partition("://")[0]
    try:
        core = importlib.import_module("fsspec.core")
    except ImportError as error:
        raise UserError(
            f"{place}: reading {protocol}:// needs fsspec, which is not installed; install it with:"
            " pip install fsspec"
        ) from error
    try:
        filesystem, path = core.url_to_fs(place)
    except ImportError as error:
        needed = _BACKENDS.get(protocol)
        how = f"; install it with: pip install {needed}" if needed else f" ({error})"
        raise UserError(
            f"{place}: reading {protocol}:// needs a library that is not installed{how}"
        ) from error
    except Exception as error:
        raise UserError(f"{place}: not an address that can be read ({error})") from error
    return filesystem, str(path)
