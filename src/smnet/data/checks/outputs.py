"""The files that a check writes: its report and the list of the sound clips."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from smnet.data.annotations.places import annotation_folders
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.checks.check import CheckReport, Finding
from smnet.data.checks.parts import Listed
from smnet.data.clips import Clip
from smnet.errors import UserError
from smnet.files import atomic_path, write_text

_BORDERS = ("start", "end", "start_frame", "end_frame")


def check_targets(
    data: str | os.PathLike[str],
    report: str | os.PathLike[str] | None,
    fix_list: str | os.PathLike[str] | None,
) -> None:
    """Refuse output files that must not be written, before hours of work.

    Raises:
        UserError: a report that is neither .json nor .csv, or a list beside the annotation files,
            where it would be read as one of them.
    """
    if report is not None and Path(report).suffix not in (".json", ".csv"):
        raise UserError(f"{report}: a report is written as .json or .csv")
    if fix_list is None:
        return
    target, place = Path(fix_list).absolute(), Path(data).absolute()
    if target.suffix != ".csv":
        raise UserError(f"{fix_list}: the list is written as .csv")
    if target == place or target.parent in annotation_folders(place):
        raise UserError(
            f"{fix_list}: is beside the annotation of {data} and would be read as part of it;"
            " write it to another folder"
        )


def memory_beside(report: str | os.PathLike[str], data: str | os.PathLike[str]) -> Path | None:
    """The memory beside a report; None if that is inside the data set."""
    target, place = Path(report).absolute(), Path(data).absolute()
    folder = place if place.is_dir() else place.parent
    if target.parent.resolve().is_relative_to(folder.resolve()):
        return None
    return target.with_name(f"{target.name}.memory")


def write_report(path: str | os.PathLike[str], report: CheckReport) -> None:
    """Write the report as ``.json`` (everything) or ``.csv`` (one finding per row)."""
    if Path(path).suffix == ".json":
        write_text(path, json.dumps(report.to_dict(), indent=1))
        return
    with atomic_path(path) as temporary, _csv_file(temporary) as file:
        writer = csv.writer(file)
        writer.writerow(Finding.__slots__)
        writer.writerows((f.kind, f.source, f.path, f.split, f.message) for f in report.findings)


def write_fix_list(path: str | os.PathLike[str], report: CheckReport) -> tuple[int, int]:
    """Write the sound clips as a csv with the columns path, label, split and frames.

    Parts, groups and folds have columns too, where there are any. Paths below the folder of the
    list are relative to it, others absolute. Clips of a class without a training clip are left out,
    as the class cannot be trained. The file is read back to check it.

    Returns:
        (clips written, clips left out because of their class)

    Raises:
        UserError: no clip is left to write, or the file does not read back.
    """
    classes = report.clip_set.classes
    trained = {clip.label for clip in report.sound.get("train", ())}
    rows: list[tuple[Listed, str]] = []
    left_out = 0
    for split, clips in report.sound.items():
        for clip in clips:
            if trained and clip.label not in trained and clip.label >= 0:
                left_out += 1
            else:
                rows.append(((split, clip), classes[clip.label] if clip.label >= 0 else ""))
    if not rows:
        raise UserError(f"{path}: there is no sound clip to write")
    folder = Path(path).absolute().parent
    with atomic_path(path) as temporary, _csv_file(temporary) as file:
        writer = csv.writer(file)
        columns = ("path", "label", "split", "frames", *_BORDERS, "group", "fold")
        # Columns that no clip has are left out.
        cells = [_cells(folder, split, clip, label) for (split, clip), label in rows]
        kept = [n for n, _ in enumerate(columns) if n < 4 or any(row[n] != "" for row in cells)]
        writer.writerow(columns[n] for n in kept)
        writer.writerows([row[n] for n in kept] for row in cells)
    again = read_clips(ClipSource(path, "csv"), missing="report", problems=[])
    expected = {(clip.name, label) for (_, clip), label in rows}
    read = {
        (clip.name, again.classes[clip.label] if clip.label >= 0 else "")
        for clips in again.splits.values()
        for clip in clips
    }
    if read != expected:
        raise UserError(
            f"{path}: differs from the clips in {len(read ^ expected)} rows when read back. Is a"
            " file of class names of another data set in its folder?"
        )
    return len(rows), left_out


def _cells(folder: Path, split: str, clip: Clip, label: str) -> list[Any]:
    borders = ["" if t is None else f"{t:.10g}" for t in (clip.start, clip.end)]
    borders = ["", "", *borders] if clip.unit == "frames" else [*borders, "", ""]
    about = [clip.group or "", clip.fold or ""]
    return [_from(folder, clip.path), label, split, clip.num_frames or "", *borders, *about]


def _csv_file(path: Path) -> Any:
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def _from(folder: Path, path: str) -> str:
    try:
        return str(Path(path).relative_to(folder))
    except ValueError:
        return path
