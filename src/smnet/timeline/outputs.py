"""The files and the text that ``smnet timeline`` writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smnet.console import console, json_text, output, printable
from smnet.data.addresses import is_url
from smnet.errors import UserError
from smnet.inference.overlay import check_target, write_annotated
from smnet.report.tables import WIDEST, say
from smnet.timeline.curves import RecordingUse
from smnet.timeline.page import clock_of
from smnet.timeline.run import Settings, label_at, make_curves, make_timeline
from smnet.timeline.segments import Timeline
from smnet.timeline.writers import FORMS, check_form, write_timeline


@dataclass(frozen=True)
class Outputs:
    """What is written for each video.

    Attributes:
        videos: the recordings.
        files: of the single recording.
        annotated: a copy of the single video with its labels; None for none.
    """

    videos: tuple[str, ...]
    files: tuple[Path, ...] = ()
    annotated: str | None = None


def plan_outputs(
    videos: Sequence[str], out: Sequence[str], annotated: str | None = None
) -> Outputs:
    """The files of one recording, and none of several.

    Args:
        videos: the recordings.
        out: files whose suffixes are in :data:`smnet.timeline.writers.FORMS`.
        annotated: a copy of the video with its labels.

    Raises:
        UserError: an unknown form; files or a copy for several videos.
    """
    if annotated is not None:
        if len(videos) != 1:
            raise UserError(f"--annotate takes one video; {len(videos)} were given")
        check_target(videos[0], annotated)
    for path in out:
        check_form(path)
    if out and len(videos) != 1:
        raise UserError(
            f"--out {out[0]} takes one video; {len(videos)} were given: give a folder, such as"
            " --out timelines/ --to html,json"
        )
    return Outputs(tuple(videos), tuple(map(Path, out)), annotated)


def report_timelines(chosen: Settings, outputs: Outputs, used: RecordingUse, as_json: bool) -> int:
    """Make, write and print the timeline of every video.

    Args:
        chosen: how.
        outputs: of :func:`plan_outputs`.
        used: takes where the time went.
        as_json: one JSON object per line instead of text.

    Returns:
        The number of videos that could not be read; those are reported on standard error.
    """
    failed = 0
    total = len(outputs.videos)
    for number, video in enumerate(outputs.videos, 1):
        name = printable(Path(video).name)
        task = f"{name} ({number} of {total})" if total > 1 else name
        try:
            timeline = make_timeline(make_curves(chosen, video, used, task), chosen.rule)
        except UserError as error:
            say(console, f"smnet: {error}")
            used.failed += 1
            failed += 1
            continue
        # Files first: standard output may be a closed pipe.
        for path in outputs.files:
            write_timeline(path, timeline)
        if outputs.annotated:
            write_annotated(video, outputs.annotated, label_at(timeline))
        for written in (*outputs.files, *filter(None, [outputs.annotated])):
            say(console, f"written: {written}")
        if timeline.curves.damage.count:
            say(console, f"smnet: {video}: {timeline.curves.damage}; scored without these")
        if as_json:
            print(json_text(timeline.summary(curves=False)), flush=True)
        else:
            print_timeline(timeline, heading=total > 1)
    return failed


def print_timeline(timeline: Timeline, heading: bool = False) -> None:
    """A line per segment: start, end, score, label."""
    lines = output()
    if heading:
        say(lines, timeline.curves.path)
    for s in timeline.segments:
        times = f"{clock_of(s.start):>9} {clock_of(s.end):>9}"
        say(lines, f"{times}  {s.score:5.1%}  {printable(s.label)[:WIDEST]}")
    if not timeline.segments:
        say(lines, f"no segments; {_highest(timeline)}")


def _highest(timeline: Timeline) -> str:
    """The nearest miss, which tells a wrong threshold from a wrong network."""
    curves = timeline.curves
    window, k = divmod(int(curves.scores.argmax()), len(curves.classes))
    score, time = curves.scores[window, k], curves.times[window]
    return f"the highest score is {score:.0%} of {curves.classes[k]!r} at {clock_of(time)}"


def is_folder(path: str) -> bool:
    """Whether --out names a folder and not a file: by what is there, else by its suffix."""
    if is_url(path):
        return True
    if path.endswith(os.sep) or Path(path).is_dir():
        return True
    return Path(path).suffix.lower() not in FORMS and not Path(path).suffix
