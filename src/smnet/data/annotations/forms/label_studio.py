"""Label Studio's json of video timelines: ``timelinelabels`` with ranges of frames.

Label Studio has no time stamps: its frame n, counted from 1, is at (n - 1) / rate seconds of the
player, with the rate of the template's Video tag. Frames of the file may lie elsewhere, so ranges
become times. The rate is that of the task's data (``fps`` or ``framerate``), else the number of
frames over the duration that a result states, else 24, the default of the tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.intervals import Interval, assemble_intervals, chosen
from smnet.data.annotations.places import files_of
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.text import begins_with, read_json
from smnet.data.clips import ClipSet, Part
from smnet.errors import UserError

_DEFAULT = 24.0


def recognise(data: Path) -> str | None:
    files = _files(data)
    return f"{files[0].name} with timelines of Label Studio" if files else None


def read(reading: Reading) -> ClipSet:
    files = chosen(
        _files(reading.data), reading.data, "json of timelines of Label Studio", one=True
    )
    tasks = read_json(files[0])
    if not isinstance(tasks, list):
        raise UserError(f"{files[0]}: expected a list of tasks of Label Studio")
    found: list[Interval] = []
    controls: set[str] = set()
    rates: set[str] = set()
    for task in tasks:
        facts = task if isinstance(task, dict) else {}
        rate, origin = _rate(facts)
        rates.add(origin)
        found += _intervals(files[0].name, facts, rate, reading, controls)
    if len(controls) > 1 and reading.source.target is None:
        raise UserError(
            f"{files[0]}: timelines of several controls: {', '.join(sorted(controls))}; choose one"
            " with --target NAME (target= for train)"
        )
    why = [str(recognise(files[0])), f"frames counted at {' or '.join(sorted(rates))}"]
    folder = files[0].parent
    return assemble_intervals(reading, "label-studio", found, why, folder=folder, several=True)


def _files(data: Path) -> list[Path]:
    return [f for f in files_of(data, "*.json") if begins_with(f, '"timelinelabels"', '"ranges"')]


def _results(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for annotation in task.get("annotations") or []:
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            yield from (r for r in annotation.get("result") or [] if isinstance(r, dict))


def _rate(task: dict[str, Any]) -> tuple[float, str]:
    """Frames per second of the ranges of a task, and where that is from."""
    data = task.get("data") or {}
    for key in ("fps", "framerate", "frame_rate"):
        if isinstance(data.get(key), int | float) and data[key] > 0:
            return float(data[key]), f"the task's {key}"
    for result in _results(task):
        value = result.get("value") or {}
        frames, duration = value.get("framesCount"), value.get("duration")
        if isinstance(frames, int) and isinstance(duration, int | float) and duration > 0:
            return frames / duration, "framesCount over duration"
    return _DEFAULT, "24 per second, the default of Label Studio (another rate: fps in the tasks)"


def _intervals(
    file: str, task: dict[str, Any], rate: float, reading: Reading, controls: set[str]
) -> Iterator[Interval]:
    data = task.get("data") or {}
    videos = [v for v in (data.get("video"), *data.values()) if isinstance(v, str) and v]
    source = f"{file}: task {task.get('id', '?')}"
    problems: Problems = reading.problems
    for result in _results(task):
        value = result.get("value") or {}
        labels, control = value.get("timelinelabels"), str(result.get("from_name"))
        # Boxes are exported a second time as timelines without ranges.
        if not isinstance(labels, list) or "ranges" not in value:
            continue
        controls.add(control)
        if reading.source.target not in (None, control):
            continue
        for span in value["ranges"]:
            try:
                start, end = ((float(span[side]) - 1) / rate for side in ("start", "end"))
            except (TypeError, ValueError, KeyError):
                start, end = 0.0, 0.0
            if not labels or not videos or not 0 <= start < end:
                text = "expected a video, labels, and a range from start to end"
                problems.add("malformed row", source, text)
                continue
            video = unquote(urlsplit(videos[0]).path)
            yield Interval(video, Part(start, end), tuple(map(str, labels)), source)


FORM = Form("label-studio", "Label Studio's json of video timelines", 0, recognise, read)
