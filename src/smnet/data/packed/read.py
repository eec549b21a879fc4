"""Read packed sets: clips from an index that stays on the disk, frames from the shards.

A packed clip has the path ``<folder>/index.arrow#<row>``, which ``open_video`` opens like any other
path. Only the requested frames are decoded. The folder may be an address such as s3://bucket/set.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from PIL import Image

from smnet.data.addresses import is_url
from smnet.data.clips import Clip, Part
from smnet.data.packed.layout import (
    INDEX,
    MANIFEST,
    MANIFEST_LIMIT,
    Manifest,
    Shard,
    index_schema,
    shard_name,
    shard_schema,
)
from smnet.data.packed.remote import open_storage
from smnet.data.packed.storage import Storage, arrow
from smnet.data.video.base import Frames, Video, VideoInfo, check_size, scaled_size
from smnet.data.video.jpeg import decode_jpeg
from smnet.errors import UserError

_ADDRESS = re.compile(rf"^(.+)[/\\]{re.escape(INDEX)}#([0-9]+|skipped:.+)$", re.DOTALL)
_OPEN_SHARDS = 64  # files a process keeps open
_OPEN_SETS = 8
_MEND = "it is damaged or was cut short; copy it again, or pack the set again"


def is_packed(path: str) -> bool:
    """Whether ``path`` names a clip in a packed set."""
    return f"{INDEX}#" in path and _ADDRESS.match(path) is not None


def clip_path(place: str, row: int) -> str:
    """The path of the clip in one row of the index."""
    return f"{place}/{INDEX}#{row}"


def skipped_path(place: str, path: str) -> str:
    """The path of a clip that could not be packed. Opening it raises an error with the reason."""
    return f"{place}/{INDEX}#skipped:{path}"


def shard_of(path: str) -> str | None:
    """The local file with the frames of a packed clip; None if it is not on this machine."""
    address = _ADDRESS.match(path)
    if address is None or is_url(address[1]) or not address[2].isdecimal():
        return None
    found = open_packed(address[1])
    number = int(address[2])
    if number >= found.index.num_rows:
        return None
    return found.storage.name(shard_name(found.row(number, "shard")["shard"]))


def frames_kept(path: str) -> int | None:
    """The number of frames stored per clip in the packed set of ``path``; None if all frames were
    stored, and for other paths."""
    address = _ADDRESS.match(path)
    found = None if address is None else open_packed(address[1])
    return None if found is None or not found.thinned else found.manifest.settings["frames"]


def origin(clip: Clip) -> tuple[str, Part | None]:
    """The recording and the part that a clip was, before it was packed.

    The path is relative to the folder of the data set if it lay there. That of other clips is
    unchanged.
    """
    address = _ADDRESS.match(clip.path)
    if address is None:
        return clip.path, clip.part
    if not address[2].isdecimal():
        return address[2].removeprefix("skipped:"), None
    return open_packed(address[1]).origin(int(address[2]))


class PackedSet:
    """An open packed set; see :func:`open_packed`."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.place = storage.place
        text = storage.read(MANIFEST, MANIFEST_LIMIT)
        self.manifest = Manifest.from_json(storage.name(MANIFEST), text)
        self.index = self._read_index()
        self._readers: OrderedDict[int, Any] = OrderedDict()

    @property
    def thinned(self) -> bool:
        """Whether any clip had more frames than are stored."""
        stored, there = (
            self.index.column(name).to_numpy() for name in ("num_frames", "source_frames")
        )
        return bool((stored < there).any())

    def clip(self, number: int) -> Clip:
        """The clip in one row of the index."""
        path = clip_path(self.place, number)
        if self.manifest.version == 1:
            row = self.row(number, "label", "source", "num_frames")
            return Clip(path, row["label"], row["source"], row["num_frames"])
        row = self.row(number, "label", "source", "num_frames", "labels", "group", "fold")
        recording, part = self.origin(number)
        return Clip(
            *(path, row["label"], row["source"], row["num_frames"]),
            labels=tuple(row["labels"]),
            # Clips of one recording have different paths in the set.
            group=row["group"] or (None if part is None else recording),
            fold=row["fold"],
        )

    def origin(self, number: int) -> tuple[str, Part | None]:
        """The recording and the part that the clip in one row of the index was."""
        if self.manifest.version == 1:
            return self.row(number, "path")["path"], None
        row = self.row(number, "path", "start", "end", "unit")
        whole = row["start"] is None and row["end"] is None
        return row["path"], None if whole else Part(row["start"], row["end"], row["unit"])

    @property
    def several(self) -> bool:
        """Whether a clip has several labels."""
        if self.manifest.version == 1:
            return False
        lengths = self.index.column("labels").combine_chunks().value_lengths().to_numpy(False)
        return bool((lengths > 1).any())

    def row(self, number: int, *columns: str) -> dict[str, Any]:
        """Values in one row of the index, of all columns if none is named."""
        names = columns or self.index.column_names
        return {name: self.index.column(name)[number].as_py() for name in names}

    def frames(self, shard: int, row: int) -> Any:
        """The record batch of a clip: columns jpeg and crc32, one row per frame.

        Raises:
            UserError: the shard is missing or damaged. The message starts with its name.
        """
        pa = arrow()
        if not 0 <= shard < len(self.manifest.shards):
            raise UserError(f"{self.storage.name(INDEX)}: names shard {shard}; {_MEND}")
        reader = self._readers.get(shard)
        if reader is None:
            reader = self._open(shard_name(shard), self.manifest.shards[shard], shard_schema())
            self._readers[shard] = reader
            if len(self._readers) > _OPEN_SHARDS and not self.storage.remote:
                self._readers.popitem(last=False)
        else:
            self._readers.move_to_end(shard)
        name = self.storage.name(shard_name(shard))
        try:
            if not 0 <= row < reader.num_record_batches:
                raise UserError(f"{name}: has no clip {row}; {_MEND}")
            batch = reader.get_batch(row)
            batch.validate(full=True)  # offsets beyond the data would crash, not raise
        except (pa.ArrowException, OSError, EOFError) as error:
            raise UserError(f"{name}: clip {row} cannot be read; {_MEND} ({error})") from error
        return batch

    def _open(self, file: str, facts: Shard, schema: Any) -> Any:
        pa = arrow()
        name = self.storage.name(file)
        try:
            if file == INDEX:
                source = self.storage.open_index(file, facts.bytes, facts.sha256)
                reader = pa.ipc.open_file(source)
            else:
                reader = self.storage.open_shard(file, facts.bytes)
            if not reader.schema.equals(schema):
                raise UserError(f"{name}: has other columns than a packed set; {_MEND}")
            return reader.read_all() if file == INDEX else reader
        except UserError:
            raise
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            raise UserError(f"{name}: {_MEND} ({error})") from error

    def _read_index(self) -> Any:
        manifest, name = self.manifest, self.storage.name(INDEX)
        table = self._open(INDEX, manifest.index, index_schema(manifest.version))
        try:
            table.validate(full=True)
        except arrow().ArrowException as error:
            raise UserError(f"{name}: {_MEND} ({error})") from error
        if table.num_rows != sum(manifest.splits.values()):
            raise UserError(f"{name}: {table.num_rows} clips, unlike the manifest; {_MEND}")
        labels = table.column("label").to_numpy()
        if len(labels) and not -1 <= labels.min() <= labels.max() < len(manifest.classes):
            raise UserError(f"{name}: has labels beyond the classes of the manifest; {_MEND}")
        return table


_sets: OrderedDict[tuple[Any, ...], PackedSet] = OrderedDict()


def open_packed(place: str) -> PackedSet:
    """Open the packed set in a folder or at an address, once per process.

    Raises:
        UserError: nothing there, damaged, or an optional library is missing.
    """
    storage = open_storage(place)
    # A file opened by a parent process must not be read by two of its children.
    key = (os.getpid(), storage.place, storage.stamp(MANIFEST))
    found = _sets.get(key)
    if found is None:
        found = _sets[key] = PackedSet(storage)
        if len(_sets) > _OPEN_SETS:
            _sets.popitem(last=False)
    else:
        _sets.move_to_end(key)
    return found


class PackedClips(Sequence[Clip]):
    """The clips of one split, each created on access."""

    def __init__(self, place: str, rows: range) -> None:
        self._place, self._rows = place, rows
        self._set = open_packed(place)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> Clip: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Clip]: ...

    def __getitem__(self, number: int | slice) -> Clip | Sequence[Clip]:
        if isinstance(number, slice):
            return PackedClips(self._place, self._rows[number])
        return self._set.clip(self._rows[number])

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedClips, (self._place, self._rows)


class PackedVideo(Video):
    """A clip of a packed set; see :func:`smnet.data.open.open_video`."""

    def __init__(self, path: str) -> None:
        self.path = path
        address = _ADDRESS.match(path)
        if address is None:
            raise UserError(f"{path}: not a clip of a packed set")
        if not address[2].isdecimal():
            raise UserError(f"{path}: was unreadable when the set was packed, so it is left out")
        self._set = open_packed(address[1])
        number, count = int(address[2]), self._set.index.num_rows
        if number >= count:
            raise UserError(f"{path}: the set has the clips 0 to {count - 1}")
        row = self._set.row(number)
        self._name, self._shard, self._row = row["path"], row["shard"], row["row"]
        self._damage: int = row["damage"]
        check_size(path, row["width"], row["height"])
        self._info = VideoInfo(
            num_frames=row["num_frames"],
            width=row["width"],
            height=row["height"],
            fps=row["fps"],
            duration=row["duration"],
            codec="jpeg",
            rotation=0,
            container="packed",
        )
        self._batch: Any = None

    @property
    def num_frames(self) -> int:
        return self._info.num_frames

    @property
    def info(self) -> VideoInfo:
        return self._info

    @property
    def damage(self) -> int:
        """Damage of the packed video, as far as its stored frames go."""
        return self._damage

    def close(self) -> None:
        self._batch = None

    @property
    def stored_bytes(self) -> int:
        """Size of all stored frames."""
        return int(self._stored().column(0).nbytes)

    def jpeg(self, index: int) -> bytes:
        """A frame as it is stored, its checksum verified."""
        batch = self._stored()
        data = batch.column(0)[index].as_py()
        if data is None or zlib.crc32(data) != batch.column(1)[index].as_py():
            raise self._damaged(f"frame {index} is not what was written; {_MEND}")
        return bytes(data)

    def _stored(self) -> Any:
        if self._batch is None:
            batch = self._set.frames(self._shard, self._row)
            if batch.num_rows != self.num_frames:
                text = f"{batch.num_rows} frames where the index says {self.num_frames}"
                raise self._damaged(f"{text}; {_MEND}")
            self._batch = batch
        return self._batch

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        stored = self._info.width, self._info.height
        size = scaled_size(*stored, short_side)
        for index in wanted:
            data = self.jpeg(index)
            try:
                frame = _decode(data, stored, size)
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise self._damaged(f"frame {index} does not decode ({error}); {_MEND}") from error
            yield index, frame

    def _damaged(self, what: str) -> UserError:
        shard = self._set.storage.name(shard_name(self._shard))
        return UserError(f"{self.path}: {shard}, clip {self._row} ({self._name}): {what}")


def _decode(data: bytes, stored: tuple[int, int], size: tuple[int, int]) -> Frames:
    """Decode a JPEG that must have the size ``stored``, and scale it to ``size``."""
    if size == stored and (frame := decode_jpeg(data, stored)) is not None:
        return frame
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if image.size != stored:
            found = f"{image.size[0]}x{image.size[1]}"
            raise ValueError(f"{found} pixels where the index says {stored}")
        if size != stored:
            image.draft("RGB", (2 * size[0], 2 * size[1]))
        picture: Image.Image = image.convert("RGB")
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)
