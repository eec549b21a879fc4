"""Where a packed set lies: a local folder, or an address that fsspec knows (s3://, gs://, http)."""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path
from typing import Any

from smnet.errors import UserError, missing_extra
from smnet.files import atomic_path

_BLOCK = 1 << 20  # bytes a remote read asks for: about one packed clip
_BACKENDS = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("http", "https"), "aiohttp requests"),
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
    read at random through fsspec; ``simplecache::s3://...`` keeps whole copies on the local disk.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/") or "/"
        self._remote: Any = None
        self._base = self.place
        if is_url(place):
            self._remote, self._base = _filesystem(self.place)
            if "file" in _protocols(self._remote):
                self._remote = None

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
        try:
            if self._remote is None:
                return Path(self._path(file)).stat().st_size
            return int(self._remote.size(self._path(file)))
        except Exception as error:  # every backend has exceptions of its own
            raise self._unreadable(file, error) from error

    def read(self, file: str, limit: int) -> bytes:
        """All of a file of at most ``limit`` bytes."""
        if (size := self.size(file)) > limit:
            raise UserError(f"{self.name(file)}: {size} bytes, which is no such file of a pack")
        try:
            if self._remote is None:
                return Path(self._path(file)).read_bytes()
            return bytes(self._remote.cat_file(self._path(file)))
        except Exception as error:
            raise self._unreadable(file, error) from error

    def open(self, file: str) -> Any:
        """A pyarrow file for random access."""
        try:
            if self._remote is None:
                return arrow().memory_map(self._path(file), "r")
            opened = self._remote.open(self._path(file), "rb", block_size=_BLOCK)
            return arrow().PythonFile(opened, mode="r")
        except Exception as error:
            raise self._unreadable(file, error) from error

    def open_copy(self, file: str, size: int, sha256: str) -> Any:
        """A pyarrow file mapped into memory: of a remote file, a copy in the local cache.

        The copy is named after its content, so it serves every process and is never stale.
        """
        if self._remote is None:
            return self.open(file)
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        copy = Path(home, "smnet", "packed", f"{sha256}.arrow")
        if not copy.is_file() or copy.stat().st_size != size:
            with atomic_path(copy) as temporary:
                self._fetch(file, temporary, sha256)
        return arrow().memory_map(str(copy), "r")

    def _fetch(self, file: str, target: Path, sha256: str) -> None:
        hasher = hashlib.sha256()
        try:
            with self._remote.open(self._path(file), "rb") as source, target.open("wb") as copy:
                while block := source.read(_BLOCK):
                    hasher.update(block)
                    copy.write(block)
        except Exception as error:
            raise self._unreadable(file, error) from error
        if hasher.hexdigest() != sha256:
            raise UserError(
                f"{self.name(file)}: is not what the manifest says (checksum); it is damaged, or"
                " the set was being written; copy it there again"
            )

    def _path(self, file: str) -> str:
        return f"{self._base.rstrip('/')}/{file}"

    def _unreadable(self, file: str, error: Exception) -> UserError:
        if isinstance(error, UserError):
            return error
        if isinstance(error, FileNotFoundError):
            return UserError(f"{self.name(file)}: no such file")
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return UserError(f"{self.name(file)}: cannot be read ({reason})")


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
