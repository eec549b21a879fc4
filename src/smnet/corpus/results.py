"""The results of a corpus in a folder: Parquet parts, what is done, and the merged tables.

    out/predictions.parquet     every row once, of the last complete run (or embeddings.parquet)
    out/unreadable.parquet      every file without a result, with stage and reason
    out/<run>/run.json          checkpoint, its hash, settings
    out/<run>/part-*.parquet    rows as they were written; never changed
    out/<run>/lost-*.parquet    the same of unreadable files

``<run>`` is a hash of checkpoint and settings, so results of another checkpoint do not mix with
these. A part appears when it is complete. What is done is read from the parts, so a run that was
killed loses the rows of the part in progress and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.console import json_text, printable
from smnet.corpus.folder import Folder
from smnet.corpus.items import Item
from smnet.data.packed.storage import arrow
from smnet.errors import UserError

ROWS = 2000
"""Rows of a part."""
SECONDS = 60.0
"""A part is written at the latest after so many seconds."""
LOST = "unreadable.parquet"
PAGE = "summary.html"

_KEY = np.dtype("S16")  # sortable; all have 16 bytes, so trailing zeros do not matter


def item_columns() -> list[Any]:
    """The columns that identify a row."""
    pa = arrow()
    return [
        pa.field("path", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("stamp", pa.string()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("unit", pa.string()),
        pa.field("key", pa.binary(16)),
    ]


def item_row(item: Item) -> dict[str, Any]:
    path = printable(item.path) if not _is_utf8(item.path) else item.path
    part = asdict(item.part) if item.part else {}
    return {"path": path, "size": item.size, "stamp": item.stamp, **part, "key": item.key}


class Results:
    """The folder of one corpus and one setting.

    Attributes:
        folder: of the corpus.
        run: name of the folder below it, of this checkpoint and these settings.
        schema: of the rows: the columns of :func:`item_columns`, then those of the work.
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        table: str,
        settings: Mapping[str, Any],
        columns: Iterable[Any],
        name: str = "0",
    ) -> None:
        """Open or make the folder.

        Args:
            place: the folder of the corpus, or its address.
            table: file name of the merged table.
            settings: checkpoint, its hash and whatever changes a row, as plain values; and under
                "place" where the checkpoint was, which changes none.
            columns: pyarrow fields of the rows beside those that identify them.
            name: of this process among those that write here at the same time.

        Raises:
            UserError: the folder has tables of another program, or cannot be written.
        """
        pa = arrow()
        text = json_text(dict(settings), indent=1)
        identity = {key: value for key, value in settings.items() if key != "place"}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder, self.run, self.name = Folder(place), digest[:12], name
        marks = {"written_by": "written by smnet", "settings": text}
        self.schema = pa.schema([*item_columns(), *columns], metadata=marks)
        reason = [pa.field("stage", pa.string()), pa.field("reason", pa.string())]
        self.lost_schema = pa.schema([*item_columns(), *reason], metadata=marks)
        self._tables = (("part", table, self.schema), ("lost", LOST, self.lost_schema))
        if not self.folder.names("*/run.json"):
            self.folder.check((table, LOST, PAGE))
        self._rows: dict[str, list[dict[str, Any]]] = {"part": [], "lost": []}
        self._written = time.monotonic()
        self._settings = text

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the run's folder under this name; write what is left at the end.

        Raises:
            UserError: another process holds it.
        """
        with self.folder.hold(f"{self.run}/writer-{self.name}"):
            if not self.folder.names(f"{self.run}/run.json"):
                self.folder.write_text(f"{self.run}/run.json", self._settings)
            try:
                yield
            finally:
                self.flush()

    def add(self, item: Item, values: Mapping[str, Any]) -> None:
        """Keep a row."""
        self._rows["part"].append({**item_row(item), **values})
        self._flush_if_due()

    def add_lost(self, item: Item, stage: str, reason: str) -> None:
        """Keep a file without a result.

        Args:
            item: the file.
            stage: "listing", "reading", "decoding" or "scoring".
            reason: one line.
        """
        self._rows["lost"].append({**item_row(item), "stage": stage, "reason": printable(reason)})
        self._flush_if_due()

    def flush(self) -> None:
        """Write the rows in memory as parts."""
        for kind, _, schema in self._tables:
            if self._rows[kind]:
                name = f"{kind}-{self.name}-{time.time_ns():x}-{uuid.uuid4().hex[:8]}.parquet"
                table = arrow().Table.from_pylist(self._rows[kind], schema=schema)
                self._write(f"{self.run}/{name}", [table], schema)
                self._rows[kind] = []
        self._written = time.monotonic()

    def done(self) -> Keys:
        """The keys of the rows that the parts hold."""
        return self._keys_in("part")

    def lost(self) -> Keys:
        """The keys of the unreadable files that the parts hold."""
        return self._keys_in("lost")

    def merge(self, items: Iterable[Item]) -> dict[str, int]:
        """Write the merged tables: each of ``items`` once, in the order of the parts.

        Returns:
            Rows per table, by its name, and ``"missing"``: items in neither.
        """
        (kind, name, schema), (lost_kind, lost_name, lost_schema) = self._tables
        wanted = Keys(joined(item.key for item in items))
        seen = np.zeros(len(wanted), bool)
        self._write(name, self._wanted(self._parts(kind), wanted, seen), schema)
        left, wholes = bytearray(), bytearray()
        remaining = iter(items)
        while block := list(islice(remaining, 4096)):
            places = wanted.find(joined(item.key for item in block))
            for item in (i for i, done in zip(block, seen[places], strict=True) if not done):
                left += item.key
                wholes += item.whole
        # A part of a recording is unreadable by itself, or with its whole recording.
        keys, parents = np.frombuffer(left, _KEY), np.frombuffer(wholes, _KEY)
        lost = Keys(np.concatenate([keys, parents]))
        found = np.zeros(len(lost), bool)
        self._write(lost_name, self._wanted(self._parts(lost_kind), lost, found), lost_schema)
        known = found[lost.find(keys)] | found[lost.find(parents)]
        missing = len(np.unique(keys[~known]))
        return {name: int(seen.sum()), lost_name: int(found.sum()), "missing": missing}

    def _wanted(self, parts: Iterable[str], wanted: Keys, seen: NDArray[np.bool_]) -> Any:
        for name in parts:
            table = self._read(name)
            rows = []
            for row, place in enumerate(wanted.find(_keys_of(table))):
                if place >= 0 and not seen[place]:
                    seen[place] = True
                    rows.append(row)
            yield table.take(arrow().array(rows, arrow().int64()))

    def _keys_in(self, kind: str) -> Keys:
        keys = (_keys_of(self._read(name, ["key"])) for name in self._parts(kind))
        return Keys(np.concatenate([np.empty(0, _KEY), *keys]))

    def _read(self, name: str, columns: list[str] | None = None) -> Any:
        import pyarrow.parquet as pq
        from pyarrow import ArrowException

        try:
            with self.folder.open(name) as file:
                # pq.read_table imports pyarrow.dataset, which takes longer than the table.
                return pq.ParquetFile(file).read(columns)
        except (ArrowException, OSError, KeyError) as error:
            raise UserError(
                f"{self.folder.path(name)}: cannot be read ({error}); remove it, and its rows are"
                " made again"
            ) from None

    def _write(self, name: str, tables: Iterable[Any], schema: Any) -> None:
        import pyarrow.parquet as pq

        # Vectors repeat nothing, and are read seven times as fast without a dictionary.
        words = [f.name for f in schema if f.type == arrow().string()]
        with (
            self.folder.write(name) as path,
            pq.ParquetWriter(path, schema, use_dictionary=words) as writer,
        ):
            for table in tables:
                if len(table):
                    writer.write_table(table)

    def _flush_if_due(self) -> None:
        full = sum(map(len, self._rows.values())) >= ROWS
        if full or time.monotonic() - self._written > SECONDS:
            self.flush()

    def _parts(self, kind: str) -> list[str]:
        return self.folder.names(f"{self.run}/{kind}-*.parquet")


class Keys:
    """A set of keys in 16 bytes each."""

    def __init__(self, keys: NDArray[Any] | None = None) -> None:
        self._keys = np.unique(np.empty(0, _KEY) if keys is None else keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """The places of keys in this set; -1 for a key that is not in it."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, places, -1)


def _keys_of(table: Any) -> NDArray[Any]:
    return joined(table.column("key").to_pylist())


def joined(keys: Iterable[bytes]) -> NDArray[Any]:
    """Keys as an array for :meth:`Keys.find`."""
    buffer = bytearray()
    for key in keys:
        buffer += key
    return np.frombuffer(buffer, _KEY)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
