"""The verbs of ``smnet data``: what a data set is, what is wrong with it, what it consists of."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Protocol

import typer

from smnet.cli.options import FirstLabel, Labels, Root
from smnet.data.annotations.source import ClipSource

app = typer.Typer(
    help="Look at a data set: its form, its faults, its statistics.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[
    str, typer.Argument(help="A folder per class, a csv, a list file, or an official layout.")
]
Format = Annotated[
    str | None, typer.Option(help="The annotation format, where it should not be guessed.")
]
Fold = Annotated[int, typer.Option(min=1, max=3, help="Division of UCF101 and HMDB51.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default one a core.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds for one clip.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def show(
    data: Data,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    fold: Fold = 1,
    rows: Annotated[int, typer.Option(min=0, help="First rows of each split to show.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Say which form a data set has and why, its classes, splits and first rows.

    Exit status 1 if rows of the annotation could not be used.

    \b
    Examples:
      smnet data show clips/
      smnet data show something-v2/ --json
      smnet data show ucf101/ --fold 2
    """
    from smnet.data.annotations.problems import Problem
    from smnet.data.annotations.read import read_clips
    from smnet.report.data_tables import many, print_clips

    found: list[Problem] = []
    source = ClipSource(data, format, root, labels, first_label, fold)
    clips = read_clips(source, missing="report", problems=found)
    names = [s for s in ("train", "val", "test") if s in clips.splits or s in clips.missing]
    if as_json:
        values = {
            "data": clips.root,
            "format": clips.format,
            "why": clips.why,
            "classes": list(clips.classes),
            "splits": {name: len(clips.splits.get(name, ())) for name in names},
            "missing": {name: len(clips.missing.get(name, ())) for name in names},
            "rows": {
                name: [
                    {"source": c.source, "path": c.path, "label": c.label, "frames": c.num_frames}
                    for c in clips.splits.get(name, ())[:rows]
                ]
                for name in names
            },
            "problems": len(found),
        }
        typer.echo(json.dumps(values, indent=2))
    else:
        print_clips(clips, rows)
    if found:
        first = found[0]
        typer.echo(
            f"smnet: {many(len(found), 'problem')} in the annotation, such as {first.source}:"
            f" {first.message}; smnet data check has all",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
def check(
    data: Data,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    fold: Fold = 1,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings: .json or .csv.")
    ] = None,
    fix_list: Annotated[
        str | None,
        typer.Option(metavar="OUT.csv", help="Write a list of the sound clips, for --data."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Read packets, decode nothing.")] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Remember the clips, so that the next check opens only what has changed; without"
            " it FILE.memory beside the report.",
        ),
    ] = None,
    workers: Workers = None,
    timeout: Timeout = 30.0,
) -> None:
    """Open and decode every clip; find what is missing, broken, doubled or wrongly listed.

    A file that crashes or hangs the decoder is a finding like any other. Nothing of the data is
    changed. Exit status 1 if anything was found. With --report or --memory a check that was
    interrupted goes on where it was.

    \b
    Examples:
      smnet data check clips/
      smnet data check ssv2/ --report faults.json --fix-list ../sound.csv
      smnet data check k400/train.csv --quick --workers 32
    """
    from smnet.data.checks.check import check_clips
    from smnet.data.checks.check_files import (
        check_targets,
        memory_beside,
        write_fix_list,
        write_report,
    )
    from smnet.report.data_tables import many, print_check

    check_targets(data, report, fix_list)
    with _progress("checking") as progress:
        result = check_clips(
            ClipSource(data, format, root, labels, first_label, fold),
            decode=not quick,
            workers=workers,
            timeout=timeout,
            memory=memory or (memory_beside(report, data) if report else None),
            progress=progress,
        )
    print_check(result)
    if report is not None:
        write_report(report, result)
        typer.echo(f"report: {report}")
    if fix_list is not None:
        written, left_out = write_fix_list(fix_list, result)
        because = f" ({left_out} left out for want of training clips)" if left_out else ""
        typer.echo(f"list of {many(written, 'sound clip')}: {fix_list}{because}")
    if result.findings:
        raise typer.Exit(1)


@app.command()
def stats(
    data: Data,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    fold: Fold = 1,
    picture: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")
    ] = None,
    as_json: AsJson = False,
    workers: Workers = None,
    timeout: Timeout = 30.0,
) -> None:
    """Count clips by class and split; durations, frames, sizes, frame rates and codecs.

    \b
    Examples:
      smnet data stats clips/
      smnet data stats ssv2/ --picture ssv2.png
      smnet data stats clips/ --json > stats.json
    """
    from smnet.data.checks.stats import survey_clips
    from smnet.report.data_tables import print_survey
    from smnet.report.survey import check_picture, draw_survey

    if picture is not None:
        check_picture(picture)
    with _progress("looking") as progress:
        survey = survey_clips(
            ClipSource(data, format, root, labels, first_label, fold),
            workers=workers,
            timeout=timeout,
            progress=lambda done, total: progress(done, total, 0),
        )
    if as_json:
        typer.echo(json.dumps(survey.to_dict(), indent=2))
    else:
        print_survey(survey)
    if picture is not None:
        draw_survey(picture, survey)
        typer.echo(f"picture: {picture}", err=True)


@app.command()
def pack(
    data: Data,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new folder.")],
    short_side: Annotated[int, typer.Option(min=16, help="Pixels; frames are not enlarged.")] = 256,
    frames: Annotated[
        str, typer.Option(metavar="N|all", help="Frames of each clip, evenly spaced.")
    ] = "32",
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="Of JPEG; small frames that are JPEG stay.")
    ] = 87,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    fold: Fold = 1,
    on_error: Annotated[
        str, typer.Option(help="raise; or skip: note unreadable clips in the set and go on.")
    ] = "raise",
    clips_per_shard: Annotated[int, typer.Option(min=1, help="Clips in one file.")] = 256,
    workers: Workers = None,
    timeout: Timeout = 120.0,
) -> None:
    """Decode every clip once and store its frames as JPEG, so that training reads them fast.

    OUT is then given as --data, on any machine; an address such as s3://bucket/set too. A run that
    was stopped goes on where it was when the same command is given again. With --frames N, clips
    are sampled from the N stored frames, the middles of N equal parts of the clip; dense sampling
    and models of several frames a segment need all.

    \b
    Examples:
      smnet data pack something-v2/ ssv2-packed/
      smnet data pack k400/train.csv k400-packed/ --frames 64 --workers 32
      smnet data pack clips/ packed/ --frames all --short-side 128 --on-error skip
    """
    from smnet.data.packing.pack import pack_clips
    from smnet.errors import UserError
    from smnet.report.data_tables import print_pack

    if frames != "all" and not frames.isdecimal():
        raise UserError(f"--frames {frames}: a number, or all")
    if on_error not in ("raise", "skip"):
        raise UserError(f"--on-error {on_error}: use raise or skip")
    with _progress("packing", "unreadable") as progress:
        report = pack_clips(
            ClipSource(data, format, root, labels, first_label, fold),
            out,
            short_side=short_side,
            frames=None if frames == "all" else int(frames),
            quality=quality,
            clips_per_shard=clips_per_shard,
            on_error="skip" if on_error == "skip" else "raise",
            workers=workers,
            timeout=timeout,
            progress=progress,
        )
    print_pack(report)


class _Progress(Protocol):
    def __call__(self, done: int, total: int, found: int) -> None: ...


@contextmanager
def _progress(what: str, bad: str = "found", every: float = 30.0) -> Iterator[_Progress]:
    """A bar with the rate; without a terminal, a line about every ``every`` seconds."""
    from smnet.console import clock, console, progress_bar

    began = time.monotonic()
    spoke = drawn = began
    with progress_bar() as bar:
        task = bar.add_task(what, total=None, note="")

        def tell(done: int, total: int, found: int) -> None:
            nonlocal spoke, drawn
            now = time.monotonic()
            if now - drawn < 0.1 and done < total:
                return
            drawn = now
            rate = done / max(now - began, 1e-6)
            note = f"{rate:.0f} clips/s" + (f", {found} {bad}" if found else "")
            bar.update(task, completed=done, total=total, note=note)
            if not console.is_terminal and now - spoke > every:
                spoke = now
                left = clock((total - done) / max(rate, 1e-6))
                console.print(f"{what} {done}/{total}  {note}  {left} left", soft_wrap=True)

        yield tell
