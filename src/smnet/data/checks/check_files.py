"""The files that a check writes: its report, a list of the sound clips, what it remembers."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from smnet.data.annotations.places import annotation_folders
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.checks.check import CheckReport, Finding, Listed
from smnet.errors import UserError
from smnet.files import atomic_path, write_text


def check_targets(
    data: str | os.PathLike[str],
    report: str | os.PathLike[str] | None,
    fix_list: str | os.PathLike[str] | None,
) -> None:
    """Refuse, before hours of work, output files that could not or must not be written.

    Raises:
        UserError: a report that is neither .json nor .csv; a list that would lie among the
            annotation files, where the next reading of the folder would come across it.
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
            f"{fix_list}: would lie among the annotation of {data}, which is not touched;"
            " write it to another folder"
        )


def memory_beside(report: str | os.PathLike[str], data: str | os.PathLike[str]) -> Path | None:
    """The memory that goes with a report; None where that would lie inside of the data."""
    target, place = Path(report).absolute(), Path(data).absolute()
    folder = place if place.is_dir() else place.parent
    if target.parent.resolve().is_relative_to(folder.resolve()):
        return None
    return target.with_name(f"{target.name}.memory")


def write_report(path: str | os.PathLike[str], report: CheckReport) -> None:
    """The report as ``.json`` (all of it) or ``.csv`` (the findings, a row each)."""
    if Path(path).suffix == ".json":
        write_text(path, json.dumps(report.to_dict(), indent=1))
        return
    with atomic_path(path) as temporary, _csv_file(temporary) as file:
        writer = csv.writer(file)
        writer.writerow(Finding.__slots__)
        writer.writerows((f.kind, f.source, f.path, f.split, f.message) for f in report.findings)


def write_fix_list(path: str | os.PathLike[str], report: CheckReport) -> tuple[int, int]:
    """The sound clips as a csv with the columns path, label, split and frames, which
    :func:`smnet.data.annotations.read.read_clips` reads; verified by reading it.

    Paths below the folder of the list are relative to it, others absolute. Classes without a
    training clip cannot be trained, so their other clips are left out too.

    Returns:
        (clips written, clips left out because of their class)

    Raises:
        UserError: nothing is left to write, or what was written does not read back.
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
        raise UserError(f"{path}: not one sound clip is left to write")
    folder = Path(path).absolute().parent
    with atomic_path(path) as temporary, _csv_file(temporary) as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "frames"))
        for (split, clip), label in rows:
            writer.writerow((_from(folder, clip.path), label, split, clip.num_frames or ""))
    again = read_clips(ClipSource(path, "csv"), missing="report", problems=[])
    expected = {(clip.path, label) for (_, clip), label in rows}
    read = {
        (clip.path, again.classes[clip.label] if clip.label >= 0 else "")
        for clips in again.splits.values()
        for clip in clips
    }
    if read != expected:
        raise UserError(
            f"{path}: reads back with {len(read ^ expected)} differences; is there a file of"
            " class names of another data set in its folder?"
        )
    return len(rows), left_out


def _csv_file(path: Path) -> Any:
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def _from(folder: Path, path: str) -> str:
    try:
        return str(Path(path).relative_to(folder))
    except ValueError:
        return path
