"""A packed set at an address that fsspec knows (s3://, gs://, https://, ...).

Of a clip, only its bytes are fetched, in one request. An Arrow IPC file ends in a footer that says
where its record batches are (Arrow columnar format, "IPC File Format"). pyarrow reads the footer
but does not expose it, and when pyarrow reads remote files itself it makes several requests per
clip from threads that neither Ctrl-C nor a time limit ends.
"""

from __future__ import annotations

import hashlib
import struct
import time
from typing import Any

from smnet.data.addresses import FINAL, TIMEOUT, WAITS, cause_of, filesystem_of, is_url, protocols
from smnet.data.packed.storage import Storage, arrow, sha256_of, wrong_checksum
from smnet.errors import UserError
from smnet.files import atomic_path
from smnet.system import cache_folder

_REST = 10.0  # seconds without requests after all tries failed, so that a batch fails at once


def open_storage(place: str) -> Storage:
    """The storage of a local folder or of an address."""
    if not is_url(place):
        return Storage(place)
    filesystem, path = filesystem_of(place.rstrip("/"))
    if "file" in protocols(filesystem):
        return Storage(path)
    return RemoteStorage(place, filesystem, path)


class RemoteStorage(Storage):
    """The files below one address.

    Requests have a time limit and are repeated when the failure may be transient.
    ``simplecache::s3://...`` keeps whole copies on the local disk.
    """

    remote = True

    def __init__(self, place: str, filesystem: Any, base: str) -> None:
        super().__init__(place)
        self._filesystem, self._base = filesystem, base.rstrip("/")
        self._failed: tuple[float, Exception] | None = None
        # cat_file is one request. Over HTTP it would take a whole file from a server that ignores
        # ranges, and caching file systems pass it on to the one below.
        self._has_ranges = filesystem.async_impl and "http" not in protocols(filesystem)

    def stamp(self, file: str) -> tuple[int, int]:
        return (0, 0)

    def read(self, file: str, limit: int) -> bytes:
        size = self._request(file, lambda path: self._filesystem.info(path)).get("size")
        if not isinstance(size, int) or size > limit:
            raise UserError(f"{self.name(file)}: {size} bytes, too large for a packed set")
        return self.read_range(file, 0, size)

    def read_range(self, file: str, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to ``stop``, all of them."""

        def fetch(path: str) -> bytes:
            if self._has_ranges:
                data = self._filesystem.cat_file(path, start=start, end=stop, timeout=TIMEOUT)
            else:
                with self._filesystem.open(path, "rb", size=stop, cache_type="none") as opened:
                    opened.seek(start)
                    data = opened.read(stop - start)
            if len(data) < stop - start:
                raise EOFError(f"{stop - start} bytes from {start} requested, {len(data)} came")
            return bytes(data)

        return self._request(file, fetch) if start < stop else b""

    def open_index(self, file: str, size: int, sha256: str) -> Any:
        """The index, copied to the local cache under its checksum, so that a copy serves every
        process and is never stale."""
        copy = cache_folder("packed") / f"{sha256}.arrow"
        if not copy.is_file() or sha256_of(copy) != sha256:
            data = self.read_range(file, 0, size)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise wrong_checksum(self.name(file))
            with atomic_path(copy) as temporary:
                temporary.write_bytes(data)
        return arrow().memory_map(str(copy), "r")

    def open_shard(self, file: str, size: int) -> Any:
        return RemoteShard(self, file, size)

    def _unreadable(self, file: str, error: Exception) -> UserError:
        if "support range requests" in str(error):
            return UserError(
                f"{self.name(file)}: the server does not support range requests;"
                f" simplecache::{self.place} reads copies of whole files, or copy the set here"
            )
        if isinstance(error, TimeoutError):
            error = TimeoutError(f"no answer within {TIMEOUT:g} s")
        return super()._unreadable(file, error)

    def _request(self, file: str, fetch: Any) -> Any:
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise self._unreadable(file, self._failed[1]) from self._failed[1]
        for wait in (*WAITS, None):
            try:
                result = fetch(f"{self._base}/{file}")
            except Exception as caught:  # every backend has its own exceptions
                error = cause_of(caught)
                final = isinstance(error, FINAL)
                if wait is None and not final:
                    self._failed = (time.monotonic() + _REST, error)
                if wait is None or final:
                    raise self._unreadable(file, error) from caught
                time.sleep(wait)
            else:
                self._failed = None
                return result
        return None


_MAGIC = b"ARROW1"
_TAIL = 1 << 16  # bytes; holds the footers of shards up to 2500 clips
_BLOCK = struct.Struct("<qi4xq")  # offset, bytes of metadata, bytes of the body
_BLOCKS = 3  # field of the footer: version, schema, dictionaries, record batches


class RemoteShard:
    """A shard read by ranges; stands in for ``pyarrow.ipc.RecordBatchFileReader``.

    Raises:
        ValueError: not an Arrow file, or damaged; pyarrow's own exceptions say the same.
        UserError: it cannot be reached.
    """

    def __init__(self, storage: RemoteStorage, file: str, size: int) -> None:
        self._storage, self._file = storage, file
        tail = storage.read_range(file, max(0, size - _TAIL), size)
        if tail[-6:] != _MAGIC:
            raise ValueError("it does not end as an Arrow file does")
        (length,) = struct.unpack("<i", tail[-10:-6])
        if not 0 < length <= size - 10:
            raise ValueError("its footer is larger than the file")
        footer = tail[-10 - length : -10]
        if len(footer) < length:
            footer = storage.read_range(file, size - 10 - length, size - 10)
        self._blocks = _blocks(footer)
        blocks = list(_BLOCK.iter_unpack(self._blocks))
        if any(min(block) < 0 or sum(block) > size for block in blocks):
            raise ValueError("its footer names places outside of it")
        # The schema stands before the first batch.
        stop = blocks[0][0] if blocks else size - 10 - length
        self.schema = arrow().ipc.read_schema(arrow().py_buffer(storage.read_range(file, 8, stop)))

    @property
    def num_record_batches(self) -> int:
        return len(self._blocks) // _BLOCK.size

    def get_batch(self, row: int) -> Any:
        """A record batch, all of it in memory."""
        pa = arrow()
        at, metadata, body = _BLOCK.unpack_from(self._blocks, row * _BLOCK.size)
        data = self._storage.read_range(self._file, at, at + metadata + body)
        return pa.ipc.read_record_batch(pa.py_buffer(data), self.schema)


def _blocks(footer: bytes) -> bytes:
    """The record batches that a footer lists, a :data:`_BLOCK` each.

    The footer is a flatbuffer. A table begins with the distance back to its field list, which gives
    the distance of each field from the table. A field that is a list holds the distance to it.
    """
    try:
        (table,) = struct.unpack_from("<I", footer, 0)
        (back,) = struct.unpack_from("<i", footer, table)
        fields = table - back
        (size,) = struct.unpack_from("<H", footer, fields)
        where = 4 + 2 * _BLOCKS
        (at,) = struct.unpack_from("<H", footer, fields + where) if where < size else (0,)
        if not at:
            return b""
        (on,) = struct.unpack_from("<I", footer, table + at)
        start = table + at + on
        (count,) = struct.unpack_from("<I", footer, start)
        found = footer[start + 4 : start + 4 + count * _BLOCK.size]
        if len(found) != count * _BLOCK.size:
            raise ValueError("its footer is cut short")
        return found
    except struct.error as error:
        raise ValueError(f"its footer is damaged ({error})") from error
