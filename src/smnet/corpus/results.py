"""The results of a corpus in a folder: Parquet parts, what is done, and the merged tables.

    out/predictions.parquet     every row once, of the last complete run (or embeddings.parquet)
    out/unreadable.parquet      every file without a result, with stage and reason
    out/<run>/run.json          checkpoint, its hash, settings
    out/<run>/part-*.parquet    rows as they were written; never changed
    out/<run>/lost-*.parquet    the same of unreadable files

``<run>`` is a hash of checkpoint and settings, so results of another checkpoint do not mix with
these. A part is renamed into place when it is complete. What is done is read from the parts, so
a run that was killed loses the rows of the part in progress and nothing else.
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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.console import json_text, printable
from smnet.corpus.items import Item
from smnet.data.addresses import is_url
from smnet.data.packed.storage import arrow
from smnet.errors import UserError
from smnet.files import alone_in, atomic_path, check_outputs, write_text

ROWS = 2000
"""Rows of a part."""
SECONDS = 60.0
"""A part is written at the latest after so many seconds."""
LOST = "unreadable.parquet"

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
        run: the folder of this checkpoint and these settings.
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
            place: the folder of the corpus.
            table: file name of the merged table.
            settings: checkpoint, its hash and whatever changes a row, as plain values; and under
                "place" where the checkpoint was, which changes none.
            columns: pyarrow fields of the rows beside those that identify them.
            name: of this process among those that write here at the same time.

        Raises:
            UserError: the folder has tables of another program, or cannot be written.
        """
        pa = arrow()
        folder = Path(place)
        if is_url(str(place)):
            raise UserError(f"{place}: results are written to a local folder; copy it afterwards")
        text = json_text(dict(settings), indent=1)
        identity = {key: value for key, value in settings.items() if key != "place"}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder, self.run, self.name = folder, folder / digest[:12], name
        marks = {"written_by": "written by smnet", "settings": text}
        self.schema = pa.schema([*item_columns(), *columns], metadata=marks)
        reason = [pa.field("stage", pa.string()), pa.field("reason", pa.string())]
        self.lost_schema = pa.schema([*item_columns(), *reason], metadata=marks)
        self._tables = (("part", table, self.schema), ("lost", LOST, self.lost_schema))
        if not any(folder.glob("*/run.json")):
            outputs = (table, LOST, "summary.html")
            check_outputs({f"--out {name}": folder / name for name in outputs}, ())
        self._rows: dict[str, list[dict[str, Any]]] = {"part": [], "lost": []}
        self._written = time.monotonic()
        self._settings = text

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the run's folder under this name; write what is left at the end.

        Raises:
            UserError: another process holds it.
        """
        with alone_in(self.run / f"writer-{self.name}"):
            if not (self.run / "run.json").exists():
                write_text(self.run / "run.json", self._settings)
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
                _write(self.run / name, [table], schema)
                self._rows[kind] = []
        self._written = time.monotonic()

    def done(self, lost: bool = True) -> Keys:
        """The keys of the rows that the parts hold.

        Args:
            lost: also those of unreadable files; otherwise these are tried again.
        """
        kinds = ("part", "lost") if lost else ("part",)
        return Keys.read(path for kind in kinds for path in self._parts(kind))

    def merge(self, items: Iterable[Item]) -> dict[str, int]:
        """Write the merged tables: each of ``items`` once, in the order of the parts.

        Returns:
            Rows per table, by its name, and ``"missing"``: items in neither.
        """
        wanted = Keys(_joined(item.key for item in items))
        seen = np.zeros(len(wanted), bool)
        counts: dict[str, int] = {}
        for kind, name, schema in self._tables:
            before = int(seen.sum())
            _write(self.folder / name, self._wanted(self._parts(kind), wanted, seen), schema)
            counts[name] = int(seen.sum()) - before
        counts["missing"] = int((~seen).sum())
        return counts

    def _wanted(self, parts: Iterable[Path], wanted: Keys, seen: NDArray[np.bool_]) -> Any:
        import pyarrow.parquet as pq

        for path in parts:
            table = pq.read_table(path)
            rows = []
            for row, place in enumerate(wanted.find(_keys_of(table))):
                if place >= 0 and not seen[place]:
                    seen[place] = True
                    rows.append(row)
            yield table.take(arrow().array(rows, arrow().int64()))

    def _flush_if_due(self) -> None:
        full = sum(map(len, self._rows.values())) >= ROWS
        if full or time.monotonic() - self._written > SECONDS:
            self.flush()

    def _parts(self, kind: str) -> list[Path]:
        return sorted(self.run.glob(f"{kind}-*.parquet"))


class Keys:
    """A set of keys in 16 bytes each."""

    def __init__(self, keys: NDArray[Any]) -> None:
        self._keys = np.unique(keys)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Keys:
        """The keys in the tables at ``paths``.

        Raises:
            UserError: a damaged table.
        """
        import pyarrow.parquet as pq
        from pyarrow import ArrowException

        found = [np.empty(0, _KEY)]
        for path in paths:
            try:
                found.append(_keys_of(pq.read_table(path, columns=["key"])))
            except (ArrowException, OSError, KeyError) as error:
                raise UserError(
                    f"{path}: cannot be read ({error}); remove it, and its rows are made again"
                ) from None
        return cls(np.concatenate(found))

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        return bool(self.find(_joined([key]))[0] >= 0)

    def find(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """The places of keys in this set; -1 for a key that is not in it."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, places, -1)


def _keys_of(table: Any) -> NDArray[Any]:
    return _joined(table.column("key").to_pylist())


def _joined(keys: Iterable[bytes]) -> NDArray[Any]:
    buffer = bytearray()
    for key in keys:
        buffer += key
    return np.frombuffer(buffer, _KEY)


def _write(path: Path, tables: Iterable[Any], schema: Any) -> None:
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for table in tables:
            if len(table):
                writer.write_table(table)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
