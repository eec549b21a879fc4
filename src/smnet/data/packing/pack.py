"""Pack a data set: decode each clip once and store its frames as JPEG in a few large files.

Shard k holds the clips k*n to (k+1)*n of the list and is written whole or not at all. So a killed
run can be resumed and gives the same bytes as an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from smnet.data.annotations.problems import Problems
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import Source, as_source
from smnet.data.clips import Clip, ClipSet
from smnet.data.packed.layout import (
    INDEX,
    MANIFEST,
    PARTS,
    Manifest,
    Shard,
    Skipped,
    index_schema,
)
from smnet.data.packed.read import open_packed
from smnet.data.packed.storage import arrow, sha256_of
from smnet.data.packing.encode import PackedClip, Unreadable, encode_clip
from smnet.data.packing.folder import own_folder
from smnet.data.packing.shards import Part, read_part, write_arrow, write_part
from smnet.data.workers.pool import Lost, ProcessPool
from smnet.errors import UserError
from smnet.files import in_utf8, write_text

_INDEX_ROWS = 1 << 16  # rows of the index in memory at once

_FROM_CLIP = ("label", "start", "end", "unit", "labels", "group", "fold")

Listed = tuple[str, Clip]
"""(split, clip)."""


@dataclass(frozen=True)
class PackReport:
    """The result of packing.

    Attributes:
        folder: the packed set.
        manifest: its manifest; ``manifest.skipped`` lists the clips that could not be packed.
        kept: clips that an earlier, interrupted run packed.
        damaged: packed clips whose source has lost or marred frames.
        bytes: size of the set.
        source_bytes: size of the video files that were packed; 0 for folders of frames.
        seconds: duration of this run.
    """

    folder: Path
    manifest: Manifest
    kept: int
    damaged: int
    bytes: int
    source_bytes: int
    seconds: float

    @property
    def clips(self) -> int:
        return sum(self.manifest.splits.values())


def pack_clips(
    source: Source,
    out: str | os.PathLike[str],
    *,
    short_side: int = 256,
    frames: int | None = 32,
    quality: int = 87,
    clips_per_shard: int = 256,
    on_error: Literal["raise", "skip"] = "raise",
    workers: int | None = None,
    timeout: float | None = 120.0,
    progress: Callable[[int, int, int], None] = lambda done, total, failed: None,
) -> PackReport:
    """Pack a data set into a folder, or resume an interrupted run.

    Args:
        source: the data set, or its path.
        out: a new or empty folder, or the folder of an interrupted run with the same arguments.
        short_side, frames, quality: see :func:`smnet.data.packing.encode.encode_clip`.
        clips_per_shard: more clips make fewer and larger files; a kill then costs more work.
        on_error: "raise": an error at the end names the clips that cannot be read. The other clips
            are kept, so repairing these and packing again completes the set. "skip": they are
            listed in the manifest and count as missing.
        workers: number of processes; None is one per core.
        timeout: seconds for one clip; None is no limit.
        progress: called with (clips done, clips to do, unreadable clips).

    Raises:
        UserError: the data cannot be read, the folder holds something else or cannot be written,
            or the disk is full.
    """
    began = time.monotonic()
    _check(short_side, frames, quality, clips_per_shard, on_error)
    arrow()
    data = os.fspath(as_source(source).data)
    skips = on_error == "skip"
    clip_set = read_clips(source, missing="report" if skips else "error")
    listed = [(split, clip) for split, clips in clip_set.splits.items() for clip in clips]
    names = _Names(clip_set)
    settings: dict[str, int | None] = {
        "short_side": short_side,
        "frames": frames,
        "quality": quality,
        "clips_per_shard": clips_per_shard,
    }
    plan = _plan(clip_set, names, settings)
    folder = Path(out)
    with own_folder(folder, plan, data) as done:
        if done is not None:
            return _report(folder, done, sum(done.splits.values()), listed, began)
        shares = [
            range(first, min(first + clips_per_shard, len(listed)))
            for first in range(0, len(listed), clips_per_shard)
        ]
        finished = {number: read_part(folder, number) for number in range(len(shares))}
        parts = {n: part for n, part in finished.items() if part and (skips or part.whole)}
        kept = sum(part.shard.clips for part in parts.values())
        work = partial(encode_clip, short_side=short_side, frames=frames, quality=quality)
        todo = [number for number in range(len(shares)) if number not in parts]
        problems = Problems(str(data))
        clips = [listed[position][1] for number in todo for position in shares[number]]
        sizes = [len(shares[number]) for number in todo]
        with ProcessPool(work, workers, timeout=timeout) as pool:
            for number, results in zip(
                todo, _by_share(pool.map(clips), sizes, progress), strict=True
            ):
                for position, result in zip(shares[number], results, strict=True):
                    if isinstance(result, Unreadable) and not skips:
                        clip = listed[position][1]
                        problems.add("unreadable", clip.source, f"{clip.path}: {result.reason}")
                if skips or all(isinstance(result, PackedClip) for result in results):
                    parts[number] = write_part(folder, number, results)
        problems.advise(
            "Repair them and pack again (finished clips are kept), or leave them out with"
            " --on-error skip, which lists them in the manifest."
        )
        problems.raise_any()
        manifest = _finish(
            folder, clip_set, names, settings, plan, [parts[n] for n in sorted(parts)]
        )
        return _report(folder, manifest, kept, listed, began)


def _check(
    short_side: int, frames: int | None, quality: int, clips_per_shard: int, on_error: str
) -> None:
    if short_side < 16:
        raise UserError(f"short_side is {short_side}; it must be at least 16 pixels")
    if frames is not None and frames < 1:
        raise UserError(f"frames is {frames}; it must be at least 1, or all")
    if not 1 <= quality <= 100:
        raise UserError(f"quality is {quality}; it must be from 1 to 100 (87 is good)")
    if clips_per_shard < 1:
        raise UserError(f"clips_per_shard is {clips_per_shard}; it must be at least 1")
    if on_error not in ("raise", "skip"):
        raise UserError(f"on_error is {on_error!r}; use raise or skip")


class _Names:
    """Makes paths and sources relative to the folder of the data set, so that a set can be moved to
    another machine and packed again there."""

    def __init__(self, clip_set: ClipSet) -> None:
        root = Path(clip_set.root)
        self._base = f"{root if root.is_dir() else root.parent}{os.sep}"

    def __call__(self, name: str) -> str:
        # Arrow holds UTF-8 only; file names may be any bytes.
        return in_utf8(name.removeprefix(self._base))


def _plan(clip_set: ClipSet, names: _Names, settings: dict[str, int | None]) -> str:
    """A hash of everything that decides the contents of the set."""
    hasher = hashlib.sha256(json.dumps([settings, clip_set.classes]).encode())
    for kind, sides in (("listed", clip_set.splits), ("missing", clip_set.missing)):
        for split, clips in sides.items():
            for clip in clips:
                path, label, source, *rest = astuple(clip)
                while len(rest) > 2 and rest[-1] in (None, "s", (label,)):  # as in version 1
                    rest.pop()
                row = [kind, split, names(path), label, names(source), *rest]
                hasher.update(json.dumps(row).encode() + b"\n")
    return hasher.hexdigest()


def _by_share(
    results: Iterator[PackedClip | Unreadable | Lost],
    sizes: Sequence[int],
    progress: Callable[[int, int, int], None],
) -> Iterator[list[PackedClip | Unreadable]]:
    """The results of each share, a list per share."""
    done = failed = 0
    for size in sizes:
        share: list[PackedClip | Unreadable] = []
        for result in islice(results, size):
            share.append(Unreadable(result.reason) if isinstance(result, Lost) else result)
            failed += isinstance(share[-1], Unreadable)
            done += 1
            progress(done, sum(sizes), failed)
        yield share


def _finish(
    folder: Path,
    clip_set: ClipSet,
    names: _Names,
    settings: dict[str, int | None],
    plan: str,
    parts: Sequence[Part],
) -> Manifest:
    """Write the index, then the manifest, which marks the set as complete."""
    counts = dict.fromkeys(clip_set.splits, 0)
    skipped = [
        Skipped(split, names(clip.path), clip.label, names(clip.source), "no such file or folder")
        for split, clips in clip_set.missing.items()
        for clip in clips
    ]

    def rows() -> Iterator[dict[str, Any]]:
        listed = ((split, clip) for split, clips in clip_set.splits.items() for clip in clips)
        for shard, part in enumerate(parts):
            row = 0
            for facts in part.clips:
                split, clip = next(listed)
                path, source = names(clip.path), names(clip.source)
                if isinstance(facts, Unreadable):
                    skipped.append(Skipped(split, path, clip.label, source, facts.reason))
                    continue
                about = {name: getattr(clip, name) for name in _FROM_CLIP}
                place = {"path": path, "source": source, "split": split, "shard": shard, "row": row}
                yield {**place, **about, **asdict(facts)}
                counts[split] += 1
                row += 1

    write_arrow(folder / INDEX, index_schema(), _batches(rows()))
    total = sum(counts.values())
    if not total:
        raise UserError(f"{folder}: no clip could be read, so there is nothing to pack")
    index = folder / INDEX
    manifest = Manifest(
        classes=clip_set.classes,
        splits={split: count for split, count in counts.items() if count},
        settings=settings,
        source_format=clip_set.format,
        source_why=clip_set.why,
        plan=plan,
        index=Shard(total, index.stat().st_size, sha256_of(index)),
        shards=tuple(part.shard for part in parts),
        skipped=tuple(skipped),
    )
    write_text(folder / MANIFEST, manifest.to_json())
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    return manifest


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[Any]:
    pa, held = arrow(), []
    for row in rows:
        held.append(row)
        if len(held) == _INDEX_ROWS:
            yield pa.RecordBatch.from_pylist(held, schema=index_schema())
            held = []
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=index_schema())


def _report(
    folder: Path, manifest: Manifest, kept: int, listed: Sequence[Listed], began: float
) -> PackReport:
    damage = open_packed(str(folder.absolute())).index.column("damage").to_numpy()
    size = sum(shard.bytes for shard in manifest.shards) + manifest.index.bytes
    files = filter(os.path.isfile, {clip.path for _, clip in listed})
    return PackReport(
        folder,
        manifest,
        kept,
        int((damage > 0).sum()),
        size,
        sum(map(os.path.getsize, files)),
        time.monotonic() - began,
    )
