"""ELAN's ``.eaf`` files: annotations on tiers, with times in milliseconds.

A file names its recording; otherwise the video of the same name is taken. Where several tiers have
annotations, the option ``target`` chooses one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.clips import ClipSet, Part
from smnet.errors import UserError, missing_extra


def recognise(data: Path) -> str | None:
    files = files_of(data, "*.eaf")
    return f"{files[0].name}{f' and {len(files) - 1} more' if files[1:] else ''}" if files else None


def read(reading: Reading) -> ClipSet:
    try:
        from pympi.Elan import Eaf
    except ImportError:
        raise missing_extra("pympi-ling", "annotations") from None
    files = chosen(files_of(reading.data, "*.eaf"), reading.data, ".eaf file of ELAN")
    opened = {}
    for file in files:
        try:
            opened[file] = Eaf(str(file))
        except Exception as error:  # whatever the parser meets
            raise UserError(f"{file}: cannot be read as an ELAN file ({error})") from error
    tiers = {tier for eaf in opened.values() for tier in eaf.tiers if _marks(eaf, tier)}
    target = reading.source.target
    if target is None and len(tiers) == 1:
        target = tiers.pop()
    if target is None or (target not in tiers and tiers):
        raise UserError(
            f"{reading.data}: the tiers with annotations are {', '.join(sorted(tiers)) or 'none'};"
            " choose the one with the classes with --target TIER (target= for train)"
        )
    intervals = [i for file, eaf in opened.items() for i in _intervals(file, eaf, target, reading)]
    why = [f"{recognise(reading.data)}, tier {target}"]
    folder = files[0].parent
    return assemble_intervals(reading, "elan", intervals, why, folder=folder, several=True)


def _marks(eaf: Any, tier: str) -> list[tuple[Any, ...]]:
    return list(eaf.get_annotation_data_for_tier(tier)) if tier in eaf.tiers else []


def _intervals(file: Path, eaf: Any, tier: str, reading: Reading) -> Iterator[Interval]:
    video, origin = _recording(file, eaf, reading)
    for number, (start, end, value, *_) in enumerate(sorted(_marks(eaf, tier)), start=1):
        source = f"{file.name}: {tier} {number}"
        if not value.strip():
            reading.problems.add("malformed row", source, f"the annotation at {start} ms is empty")
        elif end > start:
            part = Part((start + origin) / 1000, (end + origin) / 1000)
            yield Interval(video, part, (value,), source)


def _recording(file: Path, eaf: Any, reading: Reading) -> tuple[str, int]:
    """The recording, and what to add to times, in milliseconds."""
    folder = reading.root or file.parent
    media = [m for m in eaf.media_descriptors if "video" in m.get("MIME_TYPE", "video")]
    for described in media:
        origin = int(described.get("TIME_ORIGIN") or 0)
        for key in ("RELATIVE_MEDIA_URL", "MEDIA_URL"):
            path = unquote(described.get(key, "")).removeprefix("file://")
            for tried in (path, Path(path.replace("\\", "/")).name):
                if tried and reading.finder.place(folder, tried).exists:
                    return tried, origin
    name = Path(unquote(media[0].get("MEDIA_URL", "")).replace("\\", "/")).name if media else ""
    own = reading.finder.place(folder, file.stem).exists
    return (file.stem if own or not name else name), 0


FORM = Form("elan", "ELAN's .eaf files, one tier of annotations", 0, recognise, read)
