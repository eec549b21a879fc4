"""``smnet data show``, ``check``, ``stats``, ``pack``, ``join`` and ``draw``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from smnet.cli.options import (
    AsJson,
    DataArgument,
    FirstLabel,
    Fold,
    Format,
    Labels,
    Overwrite,
    Processes,
    Root,
    Target,
    Timeout,
)
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError

app = typer.Typer(
    help="Show, check, count, pack, join or draw the clips of a data set.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def show(
    data: DataArgument,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    target: Target = None,
    fold: Fold = 1,
    rows: Annotated[int, typer.Option(min=0, help="Rows of each split to show.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Show the format of a data set, its classes, its splits and its first rows.

    The exit status is 1 if a row of the annotation cannot be used.

    \b
    Examples:
      smnet data show clips/
      smnet data show something-v2/ --json
      smnet data show ucf101/ --fold 2
    """
    from smnet.console import plural
    from smnet.data.annotations.problems import Problem
    from smnet.data.annotations.read import read_clips
    from smnet.report.data_tables import clips_summary, print_clips

    problems: list[Problem] = []
    source = ClipSource(data, format, root, labels, first_label, fold, target=target)
    clips = read_clips(source, missing="report", problems=problems)
    if as_json:
        typer.echo(json.dumps(clips_summary(clips, rows, len(problems)), indent=2))
    else:
        print_clips(clips, rows)
    if problems:
        first = problems[0]
        typer.echo(
            f"smnet: {plural(len(problems), 'problem')} in the annotation, such as {first.source}:"
            f" {first.message}; smnet data check lists all",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
def check(
    data: DataArgument,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    target: Target = None,
    fold: Fold = 1,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings: .json or .csv.")
    ] = None,
    fix_list: Annotated[
        str | None,
        typer.Option(metavar="OUT.csv", help="Write a list of the sound clips, for --data."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Read packets without decoding them.")] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Remember checked clips here, so that the next check opens only changed clips."
            " Default: FILE.memory beside the report.",
        ),
    ] = None,
    workers: Processes = None,
    timeout: Timeout = 30.0,
    overwrite: Overwrite = False,
) -> None:
    """Decode every clip, and report what is missing, broken, duplicated or wrongly listed.

    A file that crashes or hangs the decoder is reported like any other. The data are not changed.
    The exit status is 1 if anything was found. With --report or --memory, an interrupted check is
    resumed.

    \b
    Examples:
      smnet data check clips/
      smnet data check ssv2/ --report faults.json --fix-list ../sound.csv
      smnet data check k400/train.csv --quick --workers 32
    """
    from smnet.console import clip_progress, plural
    from smnet.data.checks.check import check_clips
    from smnet.data.checks.outputs import (
        check_targets,
        memory_beside,
        write_fix_list,
        write_report,
    )
    from smnet.files import check_outputs
    from smnet.report.data_tables import print_check

    check_targets(data, report, fix_list)
    outputs = {"--report": report, "--fix-list": fix_list}
    check_outputs(outputs, (data, root, labels), overwrite)
    with clip_progress("checking", "found") as progress:
        result = check_clips(
            ClipSource(data, format, root, labels, first_label, fold, target=target),
            decode=not quick,
            workers=workers,
            timeout=timeout,
            memory=memory or (memory_beside(report, data) if report else None),
            progress=progress,
        )
    # Files first: standard output may be a closed pipe.
    written = []
    if report is not None:
        write_report(report, result)
        written.append(f"report: {report}")
    if fix_list is not None:
        clips, left_out = write_fix_list(fix_list, result)
        why = f" ({left_out} left out: no training clips in their classes)" if left_out else ""
        written.append(f"list of {plural(clips, 'sound clip')}: {fix_list}{why}")
    print_check(result)
    for line in written:
        typer.echo(line)
    if result.findings:
        raise typer.Exit(1)


@app.command()
def stats(
    data: DataArgument,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    target: Target = None,
    fold: Fold = 1,
    picture: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw the statistics: .png, .svg or .pdf."),
    ] = None,
    as_json: AsJson = False,
    workers: Processes = None,
    timeout: Timeout = 30.0,
    overwrite: Overwrite = False,
) -> None:
    """Count clips per class and split, and summarise durations, sizes, frame rates and codecs.

    \b
    Examples:
      smnet data stats clips/
      smnet data stats ssv2/ --picture ssv2.png
      smnet data stats clips/ --json > stats.json
    """
    from smnet.console import clip_progress
    from smnet.data.checks.stats import survey_clips
    from smnet.files import check_outputs
    from smnet.report.data_tables import print_survey
    from smnet.report.survey import check_picture, draw_survey

    if picture is not None:
        check_picture(picture)
        check_outputs({"--picture": picture}, (data, root, labels), overwrite)
    with clip_progress("reading", "unreadable") as progress:
        survey = survey_clips(
            ClipSource(data, format, root, labels, first_label, fold, target=target),
            workers=workers,
            timeout=timeout,
            progress=lambda done, total: progress(done, total, 0),
        )
    if picture is not None:  # before printing: standard output may be a closed pipe
        draw_survey(picture, survey)
        typer.echo(f"picture: {picture}", err=True)
    if as_json:
        typer.echo(json.dumps(survey.to_dict(), indent=2))
    else:
        print_survey(survey)


@app.command()
def pack(
    data: DataArgument,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new folder.")],
    short_side: Annotated[
        int, typer.Option(min=16, help="Short side in pixels; smaller frames stay as they are.")
    ] = 256,
    frames: Annotated[
        str, typer.Option(metavar="N|all", help="Frames per clip, evenly spaced.")
    ] = "32",
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality; small JPEG frames are copied.")
    ] = 87,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    target: Target = None,
    fold: Fold = 1,
    on_error: Annotated[
        str, typer.Option(help="raise; or skip: note unreadable clips in the set and continue.")
    ] = "raise",
    clips_per_shard: Annotated[int, typer.Option(min=1, help="Clips per file.")] = 256,
    workers: Processes = None,
    timeout: Timeout = 120.0,
) -> None:
    """Decode every clip once and store its frames as JPEG, for faster training.

    OUT is given as --data, on any machine and from an address such as s3://bucket/set. The same
    command resumes an interrupted run. --frames N stores the middle frames of N equal parts of a
    clip, and training samples from these. Dense sampling and models with several frames per segment
    need --frames all.

    \b
    Examples:
      smnet data pack something-v2/ ssv2-packed/
      smnet data pack k400/train.csv k400-packed/ --frames 64 --workers 32
      smnet data pack clips/ packed/ --frames all --short-side 128 --on-error skip
    """
    from smnet.console import clip_progress
    from smnet.data.packing.pack import pack_clips
    from smnet.report.data_tables import print_pack

    if frames != "all" and not frames.isdecimal():
        raise UserError(f"--frames {frames}: use a number, or all")
    if on_error not in ("raise", "skip"):
        raise UserError(f"--on-error {on_error}: use raise or skip")
    with clip_progress("packing", "unreadable") as progress:
        report = pack_clips(
            ClipSource(data, format, root, labels, first_label, fold, target=target),
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


@app.command()
def join(
    data: DataArgument,
    film: Annotated[str, typer.Argument(metavar="FILM.mp4", help="The film to write.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    gap: Annotated[
        str, typer.Option(metavar="FROM,TO", help="Seconds of a still picture between clips.")
    ] = "1,3",
    seed: Annotated[int, typer.Option(min=0, help="Of the order and the gaps.")] = 0,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    target: Target = None,
    fold: Fold = 1,
    overwrite: Overwrite = False,
) -> None:
    """Join clips into one film, with their labels and times in a csv beside it.

    The film shows what a network does on a stream, where clips have no borders. Before each clip
    its first picture stands still. The csv is a data set of parts.

    \b
    Examples:
      smnet data join clips/ film.mp4
      smnet evaluate runs/mine --data film.csv --recordings --live
    """
    from smnet.console import clip_progress
    from smnet.data.joining import join_clips, marks_of
    from smnet.files import check_outputs

    if split not in ("train", "val", "test"):
        raise UserError(f"--split {split}: use train, val or test")
    try:
        shortest, longest = map(float, gap.split(","))
    except ValueError:
        raise UserError(f"--gap {gap}: use two numbers of seconds, such as 1,3") from None
    check_outputs({"FILM": film, "the csv": marks_of(film)}, (data, root, labels), overwrite)
    with clip_progress("joining", "unreadable") as progress:
        marks = join_clips(
            ClipSource(data, format, root, labels, first_label, fold, target=target),
            film,
            split=split,
            gap=(shortest, longest),
            seed=seed,
            progress=progress,
        )
    typer.echo(f"written: {film}, {marks}")


@app.command()
def draw(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    train: Annotated[int, typer.Option(help="Clips for training, at least 10.")] = 480,
    val: Annotated[int, typer.Option(help="Clips to hold back, at least 10.")] = 160,
    size: Annotated[int, typer.Option(help="Side of the frames in pixels, even, 32 to 256.")] = 96,
    seed: Annotated[int, typer.Option(help="Of the pictures and the movements.")] = 0,
) -> None:
    """Draw clips of ten motions, to try things on.

    A clip takes 2 to 3 seconds and shows one of ten motions, such as "Moving something up". The
    clips lie in a folder per class in train/ and val/. The same command goes on where it was
    interrupted.

    \b
    Examples:
      smnet data draw clips/ --train 300 --val 100
      smnet train nano --data clips/ --minutes 5
    """
    from smnet.console import clip_progress
    from smnet.data.synthetic.motion import write_motion

    with clip_progress("drawing", "") as progress:
        path = write_motion(
            folder,
            train=train,
            val=val,
            size=size,
            seed=seed,
            progress=lambda done, total: progress(done, total, 0),
        )
    typer.echo(f"{path}: {train} clips for training, {val} held back")
