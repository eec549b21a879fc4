"""What is wrong with parts of recordings: beyond the end, overlapping, divided between splits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from smnet.data.annotations.rows import STRENGTH
from smnet.data.annotations.splits import groups_of
from smnet.data.checks.inspection import Facts
from smnet.data.clips import Clip

Listed = tuple[str, Clip]
"""(split, clip)."""

PART_KINDS = ("overlap", "divided group", "part beyond the end")
"""Kinds of findings after which the clip is still used."""

_ROUNDING = 0.1  # seconds by which rounded borders may be wrong


def label_name(classes: Sequence[str], label: int) -> str:
    return repr(classes[label]) if 0 <= label < len(classes) else "nothing"


def part_problems(clip: Clip, facts: Facts | None) -> list[tuple[str, str]]:
    """(kind, message) of a part that its recording does not have.

    Args:
        clip: the clip.
        facts: of the whole recording; None if it cannot be opened.
    """
    part = clip.part
    if part is None or facts is None:
        return []
    end, slack, unit = facts.seconds, _ROUNDING, "s"
    if part.unit == "frames":
        end, slack, unit = facts.frames, 0, "(frames)"
    elif facts.fps:
        slack = max(slack, 2 / facts.fps)
    if end is None:
        return []
    if (part.start or 0) >= end:
        return [
            ("empty part", f"the part {part} begins at the end of the recording, {end:.10g} {unit}")
        ]
    if part.end is not None and part.end > end + slack:
        text = f"the part {part} ends after the recording, {end:.10g} {unit}"
        return [("part beyond the end", text)]
    return []


def part_facts(clip: Clip, facts: Facts | None) -> Facts | None:
    """The facts of a part, by its share of the time of its recording; None if it has no frame."""
    part = clip.part
    if part is None or facts is None:
        return facts
    length = facts.frames if part.unit == "frames" else facts.seconds
    if not length:
        return facts
    share = (min(length, length if part.end is None else part.end) - (part.start or 0)) / length
    if share <= 0:
        return None
    return replace(
        facts,
        frames=round(facts.frames * share),
        seconds=None if facts.seconds is None else facts.seconds * share,
        bytes=round(facts.bytes * share),
    )


def overlaps(listed: Sequence[Listed], classes: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """(position, kind, message) of parts that share time with a part of another label.

    In data with several labels per clip, actions may happen at the same time.
    """
    if any(len(clip.labels) > 1 for _, clip in listed):
        return
    files: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
    for position, (_, clip) in enumerate(listed):
        if clip.part is not None:
            end = math.inf if clip.end is None else clip.end
            files.setdefault((clip.path, clip.unit), []).append((clip.start or 0.0, end, position))
    for (_, unit), parts in files.items():
        running: list[tuple[float, int]] = []
        for start, end, position in sorted(parts):
            clip = listed[position][1]
            running = [(until, other) for until, other in running if until - start > 1e-3]
            for until, other in running:
                first = listed[other][1]
                if first.label != clip.label:
                    shared = f"{min(until, end) - start:.4g} {unit}"
                    text = f"shares {shared} with {first.source}, labelled "
                    yield position, "overlap", text + label_name(classes, first.label)
                    break
            running.append((end, position))


def divided_groups(listed: Sequence[Listed]) -> Iterator[tuple[int, str, str]]:
    """(position, kind, message) of recordings or groups with clips in several splits."""
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups_of([clip for _, clip in listed])):
        members.setdefault(group, []).append(position)
    for positions in members.values():
        counts = Counter(listed[position][0] for position in positions)
        if len(counts) > 1:
            stays = max(positions, key=lambda position: STRENGTH.get(listed[position][0], 0))
            clip = listed[stays][1]
            what = f"group {clip.group!r}" if clip.group else f"recording {clip.path}"
            sides = ", ".join(f"{split} {count}" for split, count in counts.items())
            text = f"the {what} has clips in several splits ({sides}); results are too good"
            yield stays, "divided group", text
