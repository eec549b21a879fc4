"""The files and the text that ``smnet timeline`` writes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smnet.console import console, json_text, output, plural, printable
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
        files: (video, its files) in order.
        resumable: whether videos whose files exist are skipped.
        annotated: a copy of the single video with its labels; None for none.
    """

    files: tuple[tuple[str, tuple[Path, ...]], ...]
    resumable: bool
    annotated: str | None = None

    @property
    def single(self) -> tuple[Path, ...]:
        """Files that were named one by one, which are checked before the work."""
        return () if self.resumable else tuple(p for _, paths in self.files for p in paths)


def plan_outputs(
    videos: Sequence[str], out: Sequence[str], to: str, annotated: str | None = None
) -> Outputs:
    """The files of each video.

    Args:
        videos: the recordings.
        out: files whose suffixes are in :data:`smnet.timeline.writers.FORMS`, for one video; or one
            folder.
        to: the forms in a folder, separated by commas.
        annotated: a copy of the video with its labels, for one video.

    Raises:
        UserError: an unknown form; files or a copy for several videos; videos of one name.
    """
    if annotated is not None:
        if len(videos) != 1:
            raise UserError(f"--annotate takes one video; {len(videos)} were given")
        check_target(videos[0], annotated)
    if len(out) == 1 and _is_folder(out[0]):
        forms = [f".{form.strip().lower().removeprefix('.')}" for form in to.split(",")]
        for form in forms:
            check_form(f"timeline{form}")
        files = [
            (v, tuple(stem.with_name(stem.name + f) for f in forms))
            for v, stem in zip(videos, _stems(videos, Path(out[0])), strict=True)
        ]
        return Outputs(tuple(files), True, annotated)
    for path in out:
        check_form(path)
    if out and len(videos) != 1:
        raise UserError(
            f"--out {out[0]} takes one video; {len(videos)} were given: give a folder, such as"
            " --out timelines/ --to html,json"
        )
    paths = tuple(map(Path, out))
    return Outputs(tuple((video, paths) for video in videos), False, annotated)


def report_timelines(
    chosen: Settings, outputs: Outputs, used: RecordingUse, as_json: bool, overwrite: bool = False
) -> int:
    """Make, write and print the timeline of every video.

    Args:
        chosen: how.
        outputs: of :func:`plan_outputs`.
        used: takes where the time went.
        as_json: one JSON object per line instead of text.
        overwrite: whether existing files in a folder are made again.

    Returns:
        The number of videos that could not be read; those are reported on standard error.
    """
    failed = skipped = 0
    total = len(outputs.files)
    for number, (video, files) in enumerate(outputs.files, 1):
        if outputs.resumable and not overwrite and all(path.exists() for path in files):
            skipped += 1
            continue
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
        for path in files:
            write_timeline(path, timeline)
        if outputs.annotated:
            write_annotated(video, outputs.annotated, label_at(timeline))
        for written in (*files, *filter(None, [outputs.annotated])):
            say(console, f"written: {written}")
        if timeline.curves.damage.count:
            say(console, f"smnet: {video}: {timeline.curves.damage}; scored without these")
        if as_json:
            print(json_text(timeline.summary(curves=False)), flush=True)
        else:
            print_timeline(timeline, heading=total > 1)
    if skipped:
        say(console, f"{plural(skipped, 'video')} skipped, whose results exist")
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


def _is_folder(path: str) -> bool:
    if path.endswith(os.sep) or Path(path).is_dir():
        return True
    return Path(path).suffix.lower() not in FORMS and not Path(path).suffix


def _stems(videos: Sequence[str], folder: Path) -> list[Path]:
    """Names of the results below the folder: those of the videos below their common folder."""
    paths = [Path(video).absolute() for video in videos]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    stems = [folder / path.relative_to(common).with_suffix("") for path in paths]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        same = [video for video, stem in zip(videos, stems, strict=True) if stem == twice[0]]
        raise UserError(
            f"{' and '.join(same)} differ in the suffix only, so their results would have one name;"
            " run the command for each"
        )
    return stems
