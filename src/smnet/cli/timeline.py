"""``smnet timeline``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnet.cli.hints import check_order
from smnet.cli.options import CorpusTimeout, Device, Overwrite, Retry, Share, Views
from smnet.cli.predict import parse_share, print_summary
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
High = Annotated[float, typer.Option(min=0, max=1, help="A segment reaches this score.")]
Overlap = Annotated[bool, typer.Option("--overlap", help="Several labels at one time.")]


def timeline(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A checkpoint, the folder of a run, or an exported .onnx or .xml."),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEO...",
            help="Videos, folders, patterns, or @list.txt; with a folder as --out also manifests,"
            " .tar shards and addresses.",
        ),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Write .html, .json, .csv, .srt, .vtt, .eaf, .ffmetadata or .edl; may be repeated."
            " Many videos: a folder, for a Parquet table that a second run completes.",
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(help="Forms of files beside the table in a folder: html,srt."),
    ] = "",
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
    high: High = 0.5,
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
    share: Share = None,
    timeout: CorpusTimeout = 180.0,
    retry: Retry = False,
) -> None:
    """Find when actions happen in long videos.

    Windows over the video are scored, and the curves of the classes become segments: one reaches
    --high and lasts while the score is at least --low. The class "none" is never reported.

    The exit status is 1 if a video could not be read.

    With a folder as --out, timelines.parquet has a row per video and unreadable.parquet the others.
    Interrupted or run again with more videos, it does what is missing.

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
    from smnet.recipes.views import parse_views
    from smnet.timeline.calibrate import read_calibration, write_calibration
    from smnet.timeline.curves import RecordingUse
    from smnet.timeline.outputs import is_folder, plan_outputs, report_timelines
    from smnet.timeline.run import calibrate_on, read_recordings, settings, with_calibration

    check_order(checkpoint)
    if calibrate is not None and thresholds is None:
        raise UserError("--calibrate writes its thresholds to a file; name it with --thresholds")
    if not sources and calibrate is None:
        raise UserError("no videos are given; name them, or a folder")
    folder = out[0] if out and len(out) == 1 and is_folder(out[0]) else None
    if folder is not None and (as_json or annotate is not None):
        raise UserError("--out DIR writes tables; leave out --json and --annotate")
    if folder is None and (share is not None or retry or to):
        raise UserError("--to, --share and --retry belong to --out DIR")
    videos = find_videos(sources) if sources and folder is None else []
    outputs = plan_outputs(videos, (out or []) if folder is None else [], annotate)
    targets: dict[str, Any] = {f"--out {path}": path for path in outputs.files}
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
    if folder is not None and sources:
        from smnet.timeline.folder import timelines_into

        summary = timelines_into(
            chosen,
            checkpoint,
            sources,
            folder,
            to,
            timeout=timeout,
            share=parse_share(share),
            retry=retry,
            overwrite=overwrite,
        )
        print_summary(summary, folder)
        return
    failed = report_timelines(chosen, outputs, used, as_json)
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
    high: float,
    overlap: bool,
    live: bool,
    **options: Any,
) -> None:
    """``smnet evaluate --recordings``: the timeline of every recording of a split, measured.

    Args:
        checkpoints: one.
        source: the data set.
        split: of the recordings.
        predictions: a file for the segments.
        as_json, overwrite, device, thresholds, high, overlap: as given on the command line.
        live: measure the events of the recordings as streams instead of their timelines.
        options: of timelines, see :func:`smnet.timeline.run.settings`.
    """
    from smnet.console import json_text
    from smnet.files import check_outputs, check_suffix, write_text
    from smnet.inference.backends import open_backend
    from smnet.live.recordings import evaluate_streams
    from smnet.live.scoring import open_scorer
    from smnet.report.detection import print_detection
    from smnet.timeline.calibrate import read_calibration
    from smnet.timeline.curves import RecordingUse
    from smnet.timeline.run import evaluate_recordings, read_recordings, settings
    from smnet.timeline.segments import Limits
    from smnet.timeline.writers import segments_table

    if len(checkpoints) != 1:
        raise UserError(f"--recordings takes one checkpoint; {len(checkpoints)} were given")
    if predictions is not None:
        check_suffix(predictions, (".csv",), "a table of segments")
    inputs = (*checkpoints, source.data, source.root, source.labels, thresholds)
    check_outputs({"--predictions": predictions}, inputs, overwrite)
    calibration = read_calibration(thresholds) if thresholds else None
    used = RecordingUse()
    if live:
        scorer = open_scorer(checkpoints[0], device=device)
        data = read_recordings(source, split, scorer)
        limits = Limits(high, 0.6 * high, 0.5)
        by_class = calibration.limits if calibration else None
        result = evaluate_streams(scorer, data, limits=limits, by_class=by_class, overlap=overlap)
    else:
        engine = open_backend(checkpoints[0], device)
        chosen = settings(engine, calibration=calibration, high=high, overlap=overlap, **options)
        data = read_recordings(source, split, engine)
        result = evaluate_recordings(chosen, data, used)[0]
    if predictions is not None:
        found = [(r.path, r.detections) for r in result.recordings]
        write_text(predictions, segments_table(found))
        typer.echo(f"written: {predictions}", err=True)
    if used.clips:
        typer.echo(used, err=True)
    if as_json:
        typer.echo(json_text(result.summary(), 2))
    else:
        print_detection(result)
