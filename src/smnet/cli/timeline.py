"""``smnet timeline``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnet.cli.hints import check_order
from smnet.cli.options import Device, Overwrite, Views
from smnet.errors import UserError

if TYPE_CHECKING:
    from smnet.data.annotations.source import ClipSource

Window = Annotated[
    float | None,
    typer.Option(min=0.05, help="Seconds of a window. Default: the length of the training clips."),
]
Every = Annotated[
    float | None,
    typer.Option(min=0.01, help="Seconds between windows. Default: a quarter of a window."),
]
Thresholds = Annotated[
    str | None,
    typer.Option(metavar="FILE.json", help="Thresholds per class, of an earlier --calibrate."),
]
Overlap = Annotated[bool, typer.Option("--overlap", help="Several labels at one time.")]


def timeline(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A checkpoint, the folder of a run, or an exported .onnx or .xml."),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIDEO...", help="Videos, folders, patterns, or @list.txt."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Write .html, .json, .csv, .srt, .vtt, .eaf, .ffmetadata or .edl; may be repeated."
            " Several videos: a folder.",
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="Forms in a folder, separated by commas: html,srt.")
    ] = "json",
    annotate: Annotated[
        str | None,
        typer.Option(metavar="OUT.mp4", help="Write a copy of the video with its labels."),
    ] = None,
    window: Window = None,
    every: Every = None,
    smooth: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds over which scores are averaged. Default: half a window."),
    ] = None,
    high: Annotated[float, typer.Option(min=0, max=1, help="A segment reaches this score.")] = 0.5,
    low: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="A segment lasts while the score is at least this. Default: 0.6 high.",
        ),
    ] = None,
    shortest: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds; shorter segments are dropped. Default: half a window."),
    ] = None,
    gap: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds; shorter gaps are filled. Default: a quarter window."),
    ] = None,
    overlap: Overlap = False,
    thresholds: Thresholds = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Labelled recordings on which to choose thresholds; written to --thresholds.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of --calibrate.")] = "val",
    views: Views = "1x1",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per video.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Windows per batch.")] = 8,
    device: Device = "auto",
    backend: Annotated[
        str | None,
        typer.Option(help="torch or compile; onnxruntime or openvino for exported files."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find when actions happen in long videos.

    Windows over the video are scored, and the curves of the classes become segments: one reaches
    --high and lasts while the score is at least --low. The class "none" is never reported.

    The exit status is 1 if a video could not be read. In a folder of results, videos whose results
    exist are skipped, so an interrupted command is resumed by the same command.

    \b
    Examples:
      smnet timeline runs/mine long.mp4
      smnet timeline runs/mine long.mp4 --out long.html --out long.srt
      smnet timeline runs/mine recordings/ --out timelines/ --to html,eaf
      smnet timeline runs/mine --calibrate marks.csv --thresholds thresholds.json
      smnet timeline runs/mine long.mp4 --thresholds thresholds.json --annotate labelled.mp4
    """
    from smnet.data.annotations.source import ClipSource
    from smnet.files import check_outputs
    from smnet.inference.backends import open_backend
    from smnet.inference.sources import find_videos
    from smnet.recipes.keys import parse_views
    from smnet.timeline.calibrate import read_calibration, write_calibration
    from smnet.timeline.curves import RecordingUse
    from smnet.timeline.outputs import plan_outputs, report_timelines
    from smnet.timeline.run import calibrate_on, read_recordings, settings, with_calibration

    check_order(checkpoint)
    if calibrate is not None and thresholds is None:
        raise UserError("--calibrate writes its thresholds to a file; name it with --thresholds")
    if not sources and calibrate is None:
        raise UserError("no videos are given; name them, or a folder")
    videos = find_videos(sources) if sources else []
    outputs = plan_outputs(videos, out or [], to, annotate)
    targets: dict[str, Any] = {f"--out {path}": path for path in outputs.single}
    targets |= {"--annotate": annotate, "--thresholds": thresholds if calibrate else None}
    check_outputs(targets, (checkpoint, *videos, calibrate), overwrite)
    earlier = read_calibration(thresholds) if thresholds and not calibrate else None
    engine = open_backend(checkpoint, device, backend)
    chosen = settings(
        engine,
        views=parse_views(views),
        window=window,
        every=every,
        calibration=earlier,
        batch=batch,
        high=high,
        low=low,
        shortest=shortest,
        smooth=smooth,
        gap=gap,
        overlap=overlap,
    )
    used = RecordingUse()
    if calibrate and thresholds:
        data = read_recordings(ClipSource(calibrate), split, engine)
        calibration = calibrate_on(chosen, data, calibrate, used)
        write_calibration(thresholds, calibration)
        typer.echo(f"written: {thresholds}", err=True)
        chosen = with_calibration(chosen, calibration)
    failed = report_timelines(chosen, outputs, used, as_json, overwrite)
    if used.clips:
        typer.echo(used, err=True)
    if failed:
        raise typer.Exit(1)


def measure_recordings(
    checkpoints: list[str],
    source: ClipSource,
    split: str,
    predictions: str | None,
    *,
    as_json: bool,
    overwrite: bool,
    device: str,
    thresholds: str | None,
    **options: Any,
) -> None:
    """``smnet evaluate --recordings``: the timeline of every recording of a split, measured.

    Args:
        checkpoints: one.
        source: the data set.
        split: of the recordings.
        predictions: a file for the segments.
        as_json, overwrite, device, thresholds: as given on the command line.
        options: see :func:`smnet.timeline.run.settings`.
    """
    from smnet.console import json_text
    from smnet.files import check_outputs, check_suffix
    from smnet.inference.backends import open_backend
    from smnet.report.detection import print_detection
    from smnet.timeline.calibrate import read_calibration
    from smnet.timeline.curves import RecordingUse
    from smnet.timeline.run import evaluate_recordings, read_recordings, settings
    from smnet.timeline.writers import write_segments

    if len(checkpoints) != 1:
        raise UserError(f"--recordings takes one checkpoint; {len(checkpoints)} were given")
    if predictions is not None:
        check_suffix(predictions, (".csv",), "a table of segments")
    inputs = (*checkpoints, source.data, source.root, source.labels, thresholds)
    check_outputs({"--predictions": predictions}, inputs, overwrite)
    engine = open_backend(checkpoints[0], device)
    calibration = read_calibration(thresholds) if thresholds else None
    chosen = settings(engine, calibration=calibration, **options)
    used = RecordingUse()
    data = read_recordings(source, split, engine)
    result, timelines = evaluate_recordings(chosen, data, used)
    if predictions is not None:
        write_segments(predictions, timelines)
        typer.echo(f"written: {predictions}", err=True)
    typer.echo(used, err=True)
    if as_json:
        typer.echo(json_text(result.summary(), 2))
    else:
        print_detection(result)
