"""Timelines as files for other programs; the suffix chooses the form."""

from __future__ import annotations

import csv
import io
import mimetypes
import os
import tempfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from smnet.console import json_text, printable
from smnet.errors import missing_extra
from smnet.evaluation.detection import Segment
from smnet.files import WRITTEN_BY, check_suffix, in_utf8, write_text
from smnet.timeline.page import timeline_page
from smnet.timeline.segments import Timeline


def as_json(timeline: Timeline, path: Path) -> str:
    """Segments, limits, and the scores of every window."""
    return json_text(timeline.summary(), 2) + "\n"


def as_csv(timeline: Timeline, path: Path) -> str:
    """CreateML's columns, in seconds, and the score."""
    return segments_table([(timeline.curves.path, timeline.segments)])


def as_srt(timeline: Timeline, path: Path) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{_stamp(s.start, ',')} --> {_stamp(s.end, ',')}\n{printable(s.label)}\n\n"
        for number, s in enumerate(timeline.segments, 1)
    )


def as_vtt(timeline: Timeline, path: Path) -> str:
    """WebVTT subtitles."""
    cues = []
    for s in timeline.segments:
        text = printable(s.label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{_stamp(s.start, '.')} --> {_stamp(s.end, '.')}\n{text}\n\n")
    return f"WEBVTT\n\nNOTE {WRITTEN_BY}\n\n" + "".join(cues)


def as_ffmetadata(timeline: Timeline, path: Path) -> str:
    """Chapters: ``ffmpeg -i in.mp4 -i out.ffmetadata -map_metadata 1 -codec copy out.mp4``."""
    lines = [";FFMETADATA1", f"; {WRITTEN_BY}"]
    for s in timeline.segments:
        title = "".join(f"\\{c}" if c in "=;#\\" else c for c in printable(s.label))
        if title.endswith("\\"):  # FFmpeg would take the end of the line as escaped
            title += " "
        start, end = _milliseconds(s)
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}", f"title={title}"]
    return "\n".join(lines) + "\n"


def as_edl(timeline: Timeline, path: Path) -> str:
    """CMX 3600, one event per segment, with time codes of the recording (no drop frames)."""
    rate = timeline.curves.fps or 25.0
    name = printable(Path(timeline.curves.path).name)
    lines = [f"TITLE: {name}", "FCM: NON-DROP FRAME", f"* {WRITTEN_BY}", ""]
    for number, s in enumerate(timeline.segments, 1):
        first = round(s.start * rate)
        span = " ".join(_timecode(f, rate) for f in (first, max(round(s.end * rate), first + 1)))
        lines += [
            f"{number:03}  AX       V     C        {span} {span}",
            f"* FROM CLIP NAME: {name}",
            f"* COMMENT: {printable(s.label)} {s.score:.2f}",
            "",
        ]
    return "\n".join(lines)


def as_eaf(timeline: Timeline, path: Path) -> str:
    """ELAN: a tier ``actions`` of all labels; or one per class if segments overlap, which a tier
    cannot hold.

    Raises:
        UserError: pympi-ling is not installed.
    """
    pympi = load_pympi()
    eaf = pympi.Elan.Eaf(author=WRITTEN_BY)
    video = Path(timeline.curves.path).absolute()
    kind = mimetypes.guess_type(video.name)[0] or "video/mp4"
    relative = os.path.relpath(video, path.absolute().parent)
    eaf.add_linked_file(video.as_uri(), f"./{Path(relative).as_posix()}", kind)
    eaf.remove_tier("default")
    apart = all(one.end <= other.start for one, other in pairwise(timeline.segments))
    for s in timeline.segments:
        label = printable(s.label)
        tier = "actions" if apart else label
        if tier not in eaf.get_tier_names():
            eaf.add_tier(tier)
        eaf.add_annotation(tier, *_milliseconds(s), value=label)
    if not timeline.segments:
        eaf.add_tier("actions")
    with tempfile.TemporaryDirectory() as folder:  # the library renames existing files
        file = Path(folder, "timeline.eaf")
        eaf.to_file(str(file))
        return file.read_text(encoding="utf-8")


def as_page(timeline: Timeline, path: Path) -> str:
    """A page with player, lanes and curves."""
    return timeline_page(timeline, path)


FORMS: dict[str, Callable[[Timeline, Path], str]] = {
    ".json": as_json,
    ".csv": as_csv,
    ".html": as_page,
    ".srt": as_srt,
    ".vtt": as_vtt,
    ".eaf": as_eaf,
    ".ffmetadata": as_ffmetadata,
    ".edl": as_edl,
}
"""Suffix -> text of a timeline; a function takes the timeline and the path of its file."""


def check_form(path: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        UserError: an unknown suffix, or the library of the form is not installed.
    """
    check_suffix(path, tuple(FORMS), "a timeline")
    if Path(path).suffix.lower() == ".eaf":
        load_pympi()


def write_timeline(path: str | os.PathLike[str], timeline: Timeline) -> None:
    """Write a timeline in the form of the suffix, see :data:`FORMS`.

    Raises:
        UserError: as :func:`check_form`, or the file cannot be written.
    """
    check_form(path)
    write_text(path, FORMS[Path(path).suffix.lower()](timeline, Path(path)))


def load_pympi() -> Any:
    """The module ``pympi``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pympi
    except ImportError:
        raise missing_extra("pympi-ling", "annotations") from None
    return pympi


def segments_table(recordings: Iterable[tuple[str, Iterable[Segment]]]) -> str:
    """The segments of recordings, each with its path, in the columns of :func:`as_csv`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("video", "label", "start", "end", "score"))
    for path, segments in recordings:
        name = in_utf8(path)
        for s in segments:
            rows.writerow((name, s.label, f"{s.start:.3f}", f"{s.end:.3f}", f"{s.score:.4f}"))
    return text.getvalue()


def _milliseconds(s: Segment) -> tuple[int, int]:
    start = round(1000 * s.start)
    return start, max(round(1000 * s.end), start + 1)


def _stamp(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{milliseconds:03}"


def _timecode(frame: int, rate: float) -> str:
    seconds, rest = divmod(frame, max(round(rate), 1))
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}:{rest:02}"
