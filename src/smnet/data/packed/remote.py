"""A shard that lies elsewhere: of a clip, the bytes that hold it are fetched, in one request.

An Arrow IPC file ends in a footer, which says where its record batches are (Arrow columnar format,
"IPC File Format"). pyarrow reads it but does not tell; and left to read remote files itself, it
asks for several pieces a clip from threads of its own, which neither Ctrl-C nor a time limit ends.
"""

from __future__ import annotations

import struct
from typing import Any

from smnet.data.packed.storage import Storage, arrow

_MAGIC = b"ARROW1"
_TAIL = 1 << 16  # bytes; holds the footers of shards up to 2500 clips
_BLOCK = struct.Struct("<qi4xq")  # where, bytes of metadata, bytes of the body
_BLOCKS = 3  # field of the footer: version, schema, dictionaries, record batches


class RemoteShard:
    """What :class:`pyarrow.ipc.RecordBatchFileReader` is for local shards, as far as needed.

    Raises:
        ValueError: not an Arrow file, or damaged; so do pyarrow's own exceptions.
        UserError: it cannot be reached.
    """

    def __init__(self, storage: Storage, file: str, size: int) -> None:
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
    """The list of record batches in a footer, a :data:`_BLOCK` each.

    A flatbuffer: a table begins with the distance back to its list of fields, which says at what
    distance from the table each field is; a field that is a list, how far on that lies.
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
