"""The files of a packed set in a local folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from smnet.errors import UserError, missing_extra


def arrow(extra: str = "shards") -> Any:
    """The pyarrow module.

    Raises:
        UserError: it is not installed; names the extra that brings it.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra("pyarrow", extra) from error
    return pyarrow


class Storage:
    """The files of one folder, mapped into memory: processes that read a file share its pages."""

    remote = False

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/") or "/"

    def name(self, file: str) -> str:
        """The full name of a file, for messages."""
        return f"{self.place}/{file}"

    def stamp(self, file: str) -> tuple[int, int]:
        """Changes when the file is replaced."""
        try:
            stat = Path(self.name(file)).stat()
        except OSError as error:
            raise self._unreadable(file, error) from error
        return (stat.st_mtime_ns, stat.st_ino)

    def read(self, file: str, limit: int) -> bytes:
        """All of a file of at most ``limit`` bytes.

        Raises:
            UserError: it cannot be read, or is larger.
        """
        if (size := self._size(file)) > limit:
            raise UserError(f"{self.name(file)}: {size} bytes, too large for a packed set")
        try:
            return Path(self.name(file)).read_bytes()
        except OSError as error:
            raise self._unreadable(file, error) from error

    def open_index(self, file: str, size: int, sha256: str) -> Any:
        """The index as a pyarrow file, its checksum verified.

        Args:
            file: its name.
            size: in bytes, by the manifest.
            sha256: by the manifest.

        Raises:
            UserError: it cannot be read, or is not the file that the manifest names.
        """
        opened = self._map(file, size)
        if sha256_of(self.name(file)) != sha256:
            raise wrong_checksum(self.name(file))
        return opened

    def open_shard(self, file: str, size: int) -> Any:
        """A shard as a ``pyarrow.ipc.RecordBatchFileReader``.

        The checksum of the shard is not verified, which would read all of it. Each frame has its
        checksum in the shard.
        """
        pa = arrow()
        options = pa.ipc.IpcReadOptions(use_threads=False)
        return pa.ipc.open_file(self._map(file, size), options=options)

    def _unreadable(self, file: str, error: Exception) -> UserError:
        if isinstance(error, FileNotFoundError):
            return UserError(f"{self.name(file)}: no such file")
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return UserError(f"{self.name(file)}: cannot be read ({' '.join(reason.split())})")

    def _size(self, file: str) -> int:
        try:
            return Path(self.name(file)).stat().st_size
        except OSError as error:
            raise self._unreadable(file, error) from error

    def _map(self, file: str, size: int) -> Any:
        if (found := self._size(file)) != size:
            raise UserError(
                f"{self.name(file)}: {found} bytes where the manifest says {size}; it is damaged"
                " or was cut short; copy it again, or pack the set again"
            )
        try:
            return arrow().memory_map(self.name(file), "r")
        except OSError as error:
            raise self._unreadable(file, error) from error


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a local file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong_checksum(name: str) -> UserError:
    return UserError(
        f"{name}: does not match its checksum in the manifest; it is damaged or incomplete, copy it"
        " again"
    )
