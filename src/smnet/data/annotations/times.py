"""Reads the borders of a part of a recording from the fields of an annotation."""

from __future__ import annotations

import re
from collections.abc import Mapping

from smnet.data.clips import Part

UNITS = ("s", "ms", "frames")

_CLOCK = re.compile(r"(?:(?:([0-9]+):)?([0-9]{1,2}):)?([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)s?")


def seconds(text: str) -> float | None:
    """A time in seconds: ``12.5``, ``1:02.5`` or ``0:01:02.500``; None for anything else."""
    found = _CLOCK.fullmatch(text.strip())
    if found is None:
        return None
    hours, minutes, rest = found.groups()
    if minutes is not None and float(rest.replace(",", ".")) >= 60:
        return None
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest.replace(",", "."))


def part_of(borders: Mapping[tuple[str, str], str]) -> tuple[Part | None, str]:
    """The part of a row, and what is wrong with it; "" if nothing is.

    Args:
        borders: {("s", "ms" or "frames", "start" or "end"): field}. Where a row has several units,
            the first of these is used. An empty field is the beginning or the end of the recording.
    """
    given = {key: text for key, text in borders.items() if text}
    unit = next((unit for unit in UNITS if {(unit, "start"), (unit, "end")} & given.keys()), None)
    if unit is None:
        return None, ""
    times: list[float | None] = []
    for side in ("start", "end"):
        text = given.get((unit, side))
        if text is None and any((other, side) in given for other in UNITS):
            return None, "start and end are in different units"
        time = seconds(text) if text else None
        if text and (time is None or (unit == "frames" and not time.is_integer())):
            number = "the number of a frame" if unit == "frames" else f"a time ({unit})"
            return None, f"{side} {text!r} is not {number}"
        times.append(time / 1000 if time is not None and unit == "ms" else time)
    start, end = times
    if end is not None and (start or 0.0) >= end:
        return None, f"the part ends at {end:.10g}, not after its start at {start or 0:.10g}"
    return Part(start, end, "frames" if unit == "frames" else "s"), ""
