"""Every clip of a data set opened and looked at: what is wrong, where it stands, what is left."""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from smnet.data.annotations import read_clips
from smnet.data.clips import Clip, ClipSet
from smnet.data.formats.places import annotation_folders
from smnet.data.formats.problems import Problem
from smnet.data.formats.rows import STRENGTH
from smnet.data.inspection import Inspection, inspect_clip
from smnet.data.isolation import Lost, run_isolated
from smnet.errors import UserError
from smnet.files import atomic_path, write_text

Listed = tuple[str, Clip]
"""(split, clip)."""

# Found and told, but no reason to leave the clip out.
USABLE = {"more frames"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong.

    Attributes:
        kind: "missing", "unreadable", "empty", "truncated", "damaged", "audio only",
            "zero duration", "wrong frame count", "more frames", "stuck", "crash", "duplicate",
            "leak", "contradiction", "unlistable name", "class without a clip", and what a reader of
            annotations finds: "malformed row", "label out of range", "unknown label", ...
        source: where it stands in the annotation, "train.csv:17".
        path: the clip; "" where it is about none.
        split: of the clip; "" where it is about none, or not known.
        message: for people, one line.
    """

    kind: str
    source: str
    path: str
    split: str
    message: str


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        clip_set: the data set as read, without the rows that could not be used.
        findings: problems of the annotation, then of the clips in the order of the list.
        sound: per split, the clips without a finding that forbids their use.
        checked: clips looked at, the missing ones included.
        decoded: whether every frame was decoded.
        seconds: how long it took.
    """

    clip_set: ClipSet
    findings: tuple[Finding, ...]
    sound: dict[str, list[Clip]]
    checked: int
    decoded: bool
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Findings of each kind, the frequent ones first."""
        return dict(Counter(finding.kind for finding in self.findings).most_common())

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "data": self.clip_set.root,
            "format": self.clip_set.format,
            "why": self.clip_set.why,
            "classes": len(self.clip_set.classes),
            "clips": self.checked,
            "sound": {split: len(clips) for split, clips in self.sound.items()},
            "decoded": self.decoded,
            "seconds": round(self.seconds, 3),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_clips(
    data: str | os.PathLike[str],
    format: str | None = None,
    *,
    decode: bool = True,
    workers: int | None = None,
    timeout: float | None = 30.0,
    progress: Callable[[int, int, int], None] = lambda done, total, found: None,
    **hints: Any,
) -> CheckReport:
    """Check the annotation of a data set and every clip in it.

    Clips are opened in worker processes: one that crashes or hangs the decoder is a finding and
    costs nothing else. Nothing of the data is changed.

    Args:
        data, format, hints: as for :func:`smnet.data.annotations.read_clips`.
        decode: decode every frame; otherwise packets are counted, which finds all but damage
            inside of them.
        workers: processes; None = one a core.
        timeout: seconds for one clip; None = no limit.
        progress: called with (clips done, clips in all, findings so far).

    Raises:
        UserError: the annotation as a whole cannot be read.
    """
    began = time.monotonic()
    noted: list[Problem] = []
    clip_set = read_clips(data, format, missing="report", found=noted, **hints)
    listed = [(split, clip) for split, clips in clip_set.splits.items() for clip in clips]
    gone = [(split, clip) for split, clips in clip_set.missing.items() for clip in clips]
    findings = [Finding(p.kind, p.source, p.path, "", p.message) for p in noted]
    findings += [_finding("missing", item, "no such file or folder") for item in gone]
    total, before = len(listed) + len(gone), len(findings)

    work = partial(inspect_clip, decode=decode)
    clips = [clip for _, clip in listed]
    about: dict[int, list[tuple[str, str]]] = {}
    digests: list[bytes] = [b""] * len(listed)
    found = before
    for done, (position, result) in enumerate(
        run_isolated(work, clips, workers=workers, timeout=timeout), start=1
    ):
        problems, digests[position] = _outcome(result)
        if problems:
            about[position] = problems
            found += len(problems)
        progress(len(gone) + done, total, found)
    for position, (_, clip) in enumerate(listed):
        if not clip.path.isprintable() and not _writable(clip.path):
            text = "the name is not UTF-8, so no list can hold it; rename it"
            about.setdefault(position, []).append(("unlistable name", text))
    whole = [position for position in range(len(listed)) if _usable(about.get(position, ()))]
    for position, kind, text in _repeated(listed, digests, whole, clip_set.classes):
        about.setdefault(position, []).append((kind, text))
    for position in sorted(about):
        findings += [_finding(kind, listed[position], text) for kind, text in about[position]]

    doubtful = {p.source for p in noted if p.kind == "contradiction"}
    doubtful |= {p.path for p in noted if p.kind == "contradiction" and p.path}
    sound: dict[str, list[Clip]] = {split: [] for split in clip_set.splits}
    for position, (split, clip) in enumerate(listed):
        if _usable(about.get(position, ())) and not {clip.path, clip.source} & doubtful:
            sound[split].append(clip)
    findings += _idle(clip_set, sound)
    return CheckReport(
        clip_set=clip_set,
        findings=tuple(findings),
        sound=sound,
        checked=total,
        decoded=decode,
        seconds=time.monotonic() - began,
    )


def _outcome(result: Inspection | Lost) -> tuple[list[tuple[str, str]], bytes]:
    if isinstance(result, Inspection):
        return list(result.problems), result.digest
    if result.stuck:
        text = f"{result.reason}; it is very long, damaged, or the disk is slow"
        return [("stuck", text)], b""
    return [("crash", result.reason)], b""


def _finding(kind: str, item: Listed, message: str) -> Finding:
    split, clip = item
    return Finding(kind, clip.source, clip.path, split, message)


def _usable(problems: Sequence[tuple[str, str]]) -> bool:
    return all(kind in USABLE for kind, _ in problems)


def _writable(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _repeated(
    listed: Sequence[Listed],
    digests: Sequence[bytes],
    whole: Sequence[int],
    classes: Sequence[str],
) -> Iterator[tuple[int, str, str]]:
    """(position, kind, message) of clips with the content of another.

    One of each group stays: the first in its strongest split, so that a leak costs the training
    set a clip and not the test set. Where the labels of a group differ, none stays.
    """
    groups: dict[bytes, list[int]] = {}
    for position in whole:
        if digests[position]:
            groups.setdefault(digests[position], []).append(position)
    for members in groups.values():
        if len(members) < 2:
            continue
        stays = max(members, key=lambda position: STRENGTH.get(listed[position][0], 0))
        split, clip = listed[stays]
        labels = {listed[position][1].label for position in members} - {-1}
        for position in members:
            if position == stays:
                continue
            other_split, other = listed[position]
            text = f"same content as {clip.source}, {clip.path}"
            if other_split != split:
                text += f", which is in {split}"
            if len(labels) > 1 and other.label != clip.label:
                text += f" and labelled {_name(classes, clip.label)}"
            yield position, "duplicate" if other_split == split else "leak", text
        if len(labels) > 1:
            text = f"the same content stands in the list {len(members)} times, labelled "
            yield (
                stays,
                "contradiction",
                text + ", ".join(_name(classes, n) for n in sorted(labels)),
            )


def _name(classes: Sequence[str], label: int) -> str:
    return repr(classes[label]) if 0 <= label < len(classes) else "nothing"


def _idle(clip_set: ClipSet, sound: dict[str, list[Clip]]) -> list[Finding]:
    """Classes whose training clips are all bad; those that never had one are known already."""
    sides = (clip_set.splits, clip_set.missing)
    had = {clip.label for side in sides for clip in side.get("train", ())}
    lost = had - {clip.label for clip in sound.get("train", ())} - {-1}
    return [
        Finding(
            "class without a clip",
            clip_set.root,
            "",
            "train",
            f"no sound training clip of {_name(clip_set.classes, label)} is left",
        )
        for label in sorted(lost)
    ]


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
    :func:`smnet.data.annotations.read_clips` reads; verified by reading it.

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
    again = read_clips(path, "csv", missing="report", found=[])
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
