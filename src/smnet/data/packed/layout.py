"""The files of a packed set: their names, their columns, and the manifest.

    manifest.json      classes, settings, checksums, and the clips that could not be packed
    index.arrow        one row per clip, in the order of the splits
    shard-00000.arrow  frames of the first ``clips_per_shard`` clips, one record batch per clip
    ...

The files are plain Arrow IPC and JSON, readable without this package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from smnet.data.packed.storage import arrow
from smnet.errors import UserError

FORMAT = "smnet-packed"
VERSION = 2
"""Of version 1, without parts, groups and several labels, are sets of smnet 0.2 and before."""
MANIFEST = "manifest.json"
INDEX = "index.arrow"
PARTS = "parts"
"""Folder of notes on finished shards, while a set is being written."""
PLAN = "plan.json"
"""A file in it: the hash of what the set will hold."""
MANIFEST_LIMIT = 1 << 29


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.arrow"


@cache
def index_schema(version: int = VERSION) -> Any:
    """One row per clip.

    ``path`` is relative to the folder of the data set if it lay there. ``split``, ``label``,
    ``source``, ``start``, ``end``, ``unit``, ``labels``, ``group``, ``fold``: see
    :class:`smnet.data.clips.Clip`; of a part, only its frames are stored. ``shard``, ``row``: where
    its record batch is. The others: see :class:`smnet.data.packing.encode.PackedFacts`.
    """
    pa = arrow()
    later = [
        *((name, pa.float64()) for name in ("start", "end")),
        ("unit", pa.string()),
        ("labels", pa.list_(pa.int32())),
        *((name, pa.string()) for name in ("group", "fold")),
    ]
    return pa.schema(
        [
            *((name, pa.string()) for name in ("path", "source")),
            ("split", pa.string()),
            *((name, pa.int32()) for name in ("label", "shard", "row")),
            *((name, pa.int32()) for name in ("num_frames", "source_frames")),
            *((name, pa.float64()) for name in ("fps", "duration")),
            *((name, pa.int32()) for name in ("width", "height", "damage")),
            *(later if version > 1 else ()),
        ]
    )


@cache
def shard_schema() -> Any:
    """One row per frame: the image, and the CRC-32 of its bytes."""
    pa = arrow()
    return pa.schema([("jpeg", pa.binary()), ("crc32", pa.uint32())])


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its number of clips, its size in bytes, its checksum."""

    clips: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        counts = (self.clips, self.bytes)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"a shard of {self.clips!r} clips in {self.bytes!r} bytes")
        if not (isinstance(self.sha256, str) and re.fullmatch("[0-9a-f]{64}", self.sha256)):
            raise ValueError(f"{self.sha256!r} is not a checksum")  # it names a file in the cache


@dataclass(frozen=True, slots=True)
class Skipped:
    """A listed clip that could not be packed, with the reason."""

    split: str
    path: str
    label: int
    source: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The contents of a packed set.

    Attributes:
        classes: class names in index order.
        splits: number of clips of each split, in the order of the index.
        settings: ``short_side``, ``quality``, ``frames`` (None is all), ``clips_per_shard``.
        source_format, source_why: format of the packed annotation and how it was recognised.
        plan: hash of the list of clips and the settings; a resumed run must have the same.
        index: the file of the index.
        shards: the files of frames, in order.
        skipped: listed clips that could not be packed.
        version: of the layout.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, int]
    settings: Mapping[str, int | None]
    source_format: str
    source_why: str
    plan: str
    index: Shard
    shards: tuple[Shard, ...]
    skipped: tuple[Skipped, ...]
    version: int = VERSION

    def to_json(self) -> str:
        values = {"format": FORMAT, **asdict(self)}
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, name: str, text: bytes) -> Manifest:
        """Parse the output of :meth:`to_json`.

        Raises:
            UserError: the text is something else, damaged, or of a later version. The message
                starts with ``name``.
        """
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r}")
            version = int(values["version"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{name}: not the manifest of a packed set, or damaged ({error})"
            ) from error
        if version > VERSION:
            raise UserError(f"{name}: packed by a later version of smnet; update smnet")
        try:
            return cls(
                classes=tuple(map(str, values["classes"])),
                splits={str(split): int(count) for split, count in values["splits"].items()},
                settings=dict(values["settings"]),
                source_format=str(values["source_format"]),
                source_why=str(values["source_why"]),
                plan=str(values["plan"]),
                index=Shard(**values["index"]),
                shards=tuple(Shard(**shard) for shard in values["shards"]),
                skipped=tuple(Skipped(**clip) for clip in values["skipped"]),
                version=version,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{name}: damaged ({type(error).__name__}: {error})") from error
