"""Write shards: whole, verified and noted, so that a killed run can be resumed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smnet.data.packed.layout import PARTS, Shard, shard_name, shard_schema
from smnet.data.packed.storage import arrow, sha256_of
from smnet.data.packing.encode import PackedClip, PackedFacts, Unreadable
from smnet.errors import UserError
from smnet.files import atomic_path, write_text


@dataclass(frozen=True)
class Part:
    """A finished shard: its file, and the facts or the error of each clip in its part of the
    list."""

    shard: Shard
    clips: tuple[PackedFacts | Unreadable, ...]

    @property
    def whole(self) -> bool:
        return not any(isinstance(clip, Unreadable) for clip in self.clips)


def note_path(folder: Path, number: int) -> Path:
    return folder / PARTS / f"shard-{number:05d}.json"


def write_part(folder: Path, number: int, results: Sequence[PackedClip | Unreadable]) -> Part:
    """Write a shard, verify it, and write a note of its contents.

    Raises:
        UserError: it cannot be written, or differs when it is read back.
    """
    target = folder / shard_name(number)
    packed = [result for result in results if isinstance(result, PackedClip)]
    write_arrow(target, shard_schema(), (_batch(clip) for clip in packed))
    _verify(target, packed)
    shard = Shard(len(packed), target.stat().st_size, sha256_of(target))
    part = Part(
        shard,
        tuple(result.facts if isinstance(result, PackedClip) else result for result in results),
    )
    clips = [asdict(clip) for clip in part.clips]
    write_text(note_path(folder, number), json.dumps({"shard": asdict(shard), "clips": clips}))
    return part


def read_part(folder: Path, number: int) -> Part | None:
    """A shard that an earlier run finished; None if there is none, or it is damaged."""
    try:
        values = json.loads(note_path(folder, number).read_text(encoding="utf-8"))
        part = Part(
            Shard(**values["shard"]),
            tuple(
                Unreadable(**clip) if "reason" in clip else PackedFacts(**clip)
                for clip in values["clips"]
            ),
        )
        target = folder / shard_name(number)
        if target.stat().st_size != part.shard.bytes or sha256_of(target) != part.shard.sha256:
            return None
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return part


def write_arrow(target: Path, schema: Any, batches: Iterator[Any]) -> None:
    """Write record batches as an Arrow IPC file, whole or not at all."""
    with (
        atomic_path(target) as temporary,
        temporary.open("wb") as file,
        _closing(arrow().ipc.new_file(file, schema)) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


@contextmanager
def _closing(writer: Any) -> Iterator[Any]:
    yield writer
    writer.close()  # not after an error: the disk that refused a batch would refuse the footer


def _batch(clip: PackedClip) -> Any:
    if sum(map(len, clip.jpegs)) >= 2**31:
        raise UserError("a clip with more than 2 GB of frames; store fewer with --frames")
    sums = np.array([zlib.crc32(jpeg) for jpeg in clip.jpegs], dtype=np.uint32)
    return arrow().record_batch([clip.jpegs, sums], schema=shard_schema())


def _verify(target: Path, packed: Sequence[PackedClip]) -> None:
    """Check that every byte reads back, and that the first and the last frame decode."""
    pa = arrow()
    try:
        with pa.memory_map(str(target), "r") as file:
            reader = pa.ipc.open_file(file)
            same = reader.num_record_batches == len(packed) and all(
                reader.get_batch(row).equals(_batch(clip)) for row, clip in enumerate(packed)
            )
            if not same:
                raise UserError(f"{target}: differs from what was written; the disk may be failing")
            for row, frame in ((0, 0), (len(packed) - 1, -1)) if packed else ():
                facts = packed[row].facts
                jpegs = reader.get_batch(row).column(0)
                data = jpegs[frame % len(jpegs)].as_buffer()
                with Image.open(pa.BufferReader(data), formats=("JPEG",)) as image:
                    image.load()
                    if image.size != (facts.width, facts.height):
                        raise UserError(f"{target}: a frame has another size than was written")
    except (pa.ArrowException, OSError, SyntaxError) as error:
        raise UserError(
            f"{target}: cannot be read back ({error}); the disk may be failing"
        ) from error
