"""Opens every clip of a data set and lists what is wrong and which clips are sound."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from smnet.data.annotations.problems import Problem
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.rows import STRENGTH
from smnet.data.annotations.source import Source
from smnet.data.checks.memory import Looked, look, open_memory
from smnet.data.checks.parts import (
    PART_KINDS,
    Listed,
    divided_groups,
    label_name,
    overlaps,
    part_problems,
)
from smnet.data.clips import Clip, ClipSet, Part
from smnet.data.workers.pool import Lost, ProcessPool

# Reported, but the clip is used.
USABLE = {"more frames", *PART_KINDS}


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a data set.

    Attributes:
        kind: "missing", "unreadable", "empty", "truncated", "damaged", "audio only",
            "zero duration", "wrong frame count", "more frames", "stuck", "crash", "duplicate",
            "leak", "contradiction", "overlap", "divided group", "empty part",
            "part beyond the end", "unlistable name", "class without a clip", and the kinds of
            the annotation: "malformed row", "label out of range", "unknown label", ...
        source: where it is in the annotation, "train.csv:17".
        path: the clip; "" if it is not about a clip.
        split: of the clip; "" if unknown.
        message: one line for the user.
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
        clip_set: the data set, without the rows that cannot be used.
        findings: problems of the annotation, then of the clips in the order of the annotation.
        sound: per split, the clips that can be used.
        checked: number of clips, including missing ones.
        remembered: how many of these did not change since an earlier check.
        decoded: whether every frame was decoded.
        seconds: duration of the check.
    """

    clip_set: ClipSet
    findings: tuple[Finding, ...]
    sound: dict[str, list[Clip]]
    checked: int
    remembered: int
    decoded: bool
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each kind, most frequent first."""
        return dict(Counter(finding.kind for finding in self.findings).most_common())

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {
            "data": self.clip_set.root,
            "format": self.clip_set.format,
            "why": self.clip_set.why,
            "classes": len(self.clip_set.classes),
            "clips": self.checked,
            "remembered": self.remembered,
            "sound": {split: len(clips) for split, clips in self.sound.items()},
            "decoded": self.decoded,
            "seconds": round(self.seconds, 3),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_clips(
    source: Source,
    *,
    decode: bool = True,
    workers: int | None = None,
    timeout: float | None = 30.0,
    memory: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, int], None] = lambda done, total, found: None,
) -> CheckReport:
    """Check the annotation of a data set and every clip in it.

    Clips are opened in worker processes, so a clip that crashes or hangs the decoder is one
    finding. The data set is not changed.

    Args:
        source: the data set, or its path.
        decode: decode every frame. Otherwise packets are counted, which does not find damage inside
            them.
        workers: processes; None = one per core.
        timeout: seconds per clip; None = no limit.
        memory: a file of results, see :mod:`smnet.data.checks.memory`. The next check opens only
            clips that have changed, and an interrupted check is resumed. Clips that crashed or hung
            are tried again.
        progress: called with (clips done, number of clips, findings so far).

    Raises:
        UserError: the annotation as a whole cannot be read, or ``memory`` is another file or cannot
            be written.
    """
    began = time.monotonic()
    noted: list[Problem] = []
    clip_set = read_clips(source, missing="report", problems=noted)
    listed = [(split, clip) for split, clips in clip_set.splits.items() for clip in clips]
    gone = [(split, clip) for split, clips in clip_set.missing.items() for clip in clips]
    findings = [Finding(p.kind, p.source, p.path, "", p.message) for p in noted]
    findings += [_finding("missing", item, "no such file or folder") for item in gone]
    total, before = len(listed) + len(gone), len(findings)

    work = partial(look, decode=decode)
    about: dict[int, list[tuple[str, str]]] = {}
    digests: list[bytes] = [b""] * len(listed)
    found, remembered, done = before, 0, len(gone)
    files: dict[str, list[int]] = {}
    for position, (_, clip) in enumerate(listed):
        files.setdefault(clip.path, []).append(position)
    with (
        open_memory(memory, decode=decode) as earlier,
        ProcessPool(work, workers, timeout=timeout, window=1024) as pool,
    ):
        items = [(listed[first][1], earlier.of(listed[first][1])) for first, *_ in files.values()]
        for positions, result in zip(files.values(), pool.map(items), strict=True):
            if isinstance(result, Looked):
                remembered += result.remembered
                earlier.add(listed[positions[0]][1], result)
            problems, digest = _outcome(result)
            for position in positions:
                digests[position] = digest
                of_part: list[tuple[str, str]] = []
                if isinstance(result, Looked):
                    of_part = part_problems(listed[position][1], result.inspection.facts)
                if both := [*problems, *of_part]:
                    about[position] = both
                    found += len(both)
            done += len(positions)
            progress(done, total, found)
    for position, (_, clip) in enumerate(listed):
        if not clip.path.isprintable() and not _writable(clip.path):
            text = "the name is not UTF-8, so it cannot be in a list; rename it"
            about.setdefault(position, []).append(("unlistable name", text))
    for position, kind, text in [*overlaps(listed, clip_set.classes), *divided_groups(listed)]:
        about.setdefault(position, []).append((kind, text))
    whole = [position for position in range(len(listed)) if _usable(about.get(position, ()))]
    for position, kind, text in _repeated(listed, digests, whole, clip_set.classes):
        about.setdefault(position, []).append((kind, text))
    for position in sorted(about):
        findings += [_finding(kind, listed[position], text) for kind, text in about[position]]

    doubtful = {p.source for p in noted if p.kind == "contradiction"}
    doubtful |= {p.path for p in noted if p.kind == "contradiction" and p.path}
    sound: dict[str, list[Clip]] = {split: [] for split in clip_set.splits}
    for position, (split, clip) in enumerate(listed):
        if _usable(about.get(position, ())) and not {clip.name, clip.source} & doubtful:
            sound[split].append(clip)
    findings += _idle(clip_set, sound)
    return CheckReport(
        clip_set=clip_set,
        findings=tuple(findings),
        sound=sound,
        checked=total,
        remembered=remembered,
        decoded=decode,
        seconds=time.monotonic() - began,
    )


def _outcome(result: Looked | Lost) -> tuple[list[tuple[str, str]], bytes]:
    if isinstance(result, Looked):
        return list(result.inspection.problems), result.inspection.digest
    if result.kind == "timeout":
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
    """(position, kind, message) of clips with the same content as another.

    One clip per group is kept: the first in the strongest split, so a leak costs the training set a
    clip, not the test set. If the labels of a group differ, no clip is kept.
    """
    groups: dict[tuple[bytes, Part | None], list[int]] = {}
    for position in whole:
        if digests[position]:
            key = digests[position], listed[position][1].part
            groups.setdefault(key, []).append(position)
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
                text += f" and labelled {label_name(classes, clip.label)}"
            yield position, "duplicate" if other_split == split else "leak", text
        if len(labels) > 1:
            text = f"the same content is listed {len(members)} times, labelled "
            yield (
                stays,
                "contradiction",
                text + ", ".join(label_name(classes, n) for n in sorted(labels)),
            )


def _idle(clip_set: ClipSet, sound: dict[str, list[Clip]]) -> list[Finding]:
    """Classes that lost all training clips. Those that never had one are problems already."""
    sides = (clip_set.splits, clip_set.missing)
    had = {clip.label for side in sides for clip in side.get("train", ())}
    lost = had - {clip.label for clip in sound.get("train", ())} - {-1}
    return [
        Finding(
            "class without a clip",
            clip_set.root,
            "",
            "train",
            f"no sound training clip of {label_name(clip_set.classes, label)} is left",
        )
        for label in sorted(lost)
    ]
