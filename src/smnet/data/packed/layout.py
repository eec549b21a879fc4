"""The files of a packed set: their names, their columns, and the manifest that ties them together.

    manifest.json      classes, settings, checksums, and the clips that could not be packed
    index.arrow        a row a clip, in the order of the splits
    shard-00000.arrow  the frames of the first ``clips_per_shard`` clips, a record batch a clip
    ...

All of it is plain Arrow IPC and JSON: readable without this package.
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
VERSION = 1
MANIFEST = "manifest.json"
INDEX = "index.arrow"
PARTS = "parts"
"""Folder of notes on finished shards, while a set is being written."""
PLAN = "plan.json"
"""In it: what the set will hold, as a hash."""
MANIFEST_LIMIT = 1 << 29


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.arrow"


@cache
def index_schema() -> Any:
    """A row a clip. ``path``: as it was packed, below the data set's folder where it lay there;
    ``split``, ``label``, ``source``: see :class:`smnet.data.clips.Clip`; ``shard``, ``row``: its
    record batch; ``num_frames``: stored, of ``source_frames``; ``fps``: of the stored frames;
    ``duration``: seconds; ``damage``: frames lost or marred in the source."""
    pa = arrow()
    return pa.schema(
        [
            *((name, pa.string()) for name in ("path", "source")),
            ("split", pa.string()),
            *((name, pa.int32()) for name in ("label", "shard", "row")),
            *((name, pa.int32()) for name in ("num_frames", "source_frames")),
            *((name, pa.float64()) for name in ("fps", "duration")),
            *((name, pa.int32()) for name in ("width", "height", "damage")),
        ]
    )


@cache
def shard_schema() -> Any:
    """A row a frame: the image, and the CRC-32 of its bytes."""
    pa = arrow()
    return pa.schema([("jpeg", pa.binary()), ("crc32", pa.uint32())])


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of frames: clips in it, its size in bytes, its checksum."""

    clips: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        counts = (self.clips, self.bytes)
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"a shard of {self.clips!r} clips in {self.bytes!r} bytes")
        if not (isinstance(self.sha256, str) and re.fullmatch("[0-9a-f]{64}", self.sha256)):
            raise ValueError(f"{self.sha256!r} is no checksum")  # files are named after it


@dataclass(frozen=True, slots=True)
class Skipped:
    """A listed clip that could not be packed, and why."""

    split: str
    path: str
    label: int
    source: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What a packed set is.

    Attributes:
        classes: class names in index order.
        splits: clips of each split, in the order of the index.
        settings: ``short_side`` and ``quality``, ``frames`` (None = all), ``clips_per_shard``.
        source_format, source_why: of the annotation, as it was read.
        plan: hash of the list of clips and the settings: who resumes must have the same.
        index: of the index, as of a shard.
        shards: in order.
        skipped: listed clips that are not here.
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

    def to_json(self) -> str:
        values = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, name: str, text: bytes) -> Manifest:
        """Parse what :meth:`to_json` wrote.

        Raises:
            UserError: it is something else, damaged, or of a later version; starts with ``name``.
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
            raise UserError(f"{name}: packed by a later version of smnet; update this one")
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
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{name}: damaged ({type(error).__name__}: {error})") from error
