"""A set that ``smnet data pack`` wrote: classes, splits and clips as they were packed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smnet.data.annotations.form import Form, Reading
from smnet.data.clips import Clip, ClipSet
from smnet.data.packed.layout import FORMAT, INDEX, MANIFEST, PARTS, PLAN
from smnet.errors import UserError

if TYPE_CHECKING:
    from smnet.data.packed.layout import Manifest


def recognise(data: Path) -> str | None:
    if (data / MANIFEST).is_file():
        with (data / MANIFEST).open("rb") as file:
            return f"its {MANIFEST}" if FORMAT.encode() in file.read(200) else None
    if (data / INDEX).is_file():
        return f"its {INDEX}"
    if (data / PARTS / PLAN).is_file():
        return "an unfinished pack"
    return None


def read(reading: Reading) -> ClipSet:
    data = reading.data
    if not (data / MANIFEST).is_file() and (data / PARTS).is_dir():
        raise UserError(
            f"{data}: packing is not finished; run the same smnet data pack command to resume it"
        )
    return read_place(str(data), reading)


def read_place(place: str, reading: Reading) -> ClipSet:
    """Read the set in a folder or at an fsspec address. Clips are read from the index lazily."""
    from smnet.data.packed.read import PackedClips, open_packed, skipped_path

    if reading.root is not None or reading.labels is not None:
        raise UserError(
            f"{place}: a packed set contains its clips and class names; leave out root and labels"
        )
    found = open_packed(place)
    manifest, problems = found.manifest, reading.problems
    missing: dict[str, list[Clip]] = {}
    for clip in manifest.skipped:
        path = skipped_path(found.place, clip.path)
        missing.setdefault(clip.split, []).append(Clip(path, clip.label, clip.source))
        if reading.missing == "error":
            problems.add("skipped", clip.source, f"{clip.path}: {clip.reason}", path)
    if reading.missing == "error" and manifest.skipped:
        problems.advise(
            "These clips were unreadable when the set was packed. Leave them out with on_error=skip"
            " for train, --on-error skip for evaluate. They are counted."
        )
    problems.raise_any()
    splits: dict[str, PackedClips] = {}
    first = 0
    for split, count in manifest.splits.items():
        splits[split] = PackedClips(found.place, range(first, first + count))
        first += count
    return ClipSet(
        root=found.place,
        format="packed",
        why=_why(manifest),
        classes=manifest.classes,
        splits=dict(splits),
        missing=missing,
    )


def _why(manifest: Manifest) -> str:
    settings = manifest.settings
    frames = settings.get("frames")
    kept = "all frames" if frames is None else f"{frames} evenly spaced frames"
    why = [
        f"packed: {kept} per clip, short side {settings.get('short_side')}, JPEG quality"
        f" {settings.get('quality')}",
        f"from format {manifest.source_format} ({manifest.source_why})",
    ]
    if manifest.skipped:
        why.append(f"unreadable when packed: {len(manifest.skipped)}")
    return "; ".join(why)


FORM = Form(
    "packed",
    "a set written by smnet data pack: manifest.json, index.arrow and shards",
    0,
    recognise,
    read,
)
