"""``smnet evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnet.cli.options import (
    AsJson,
    Device,
    FirstLabel,
    Format,
    Labels,
    Overwrite,
    Root,
    Target,
    Workers,
)
from smnet.cli.reports import NoReport, evaluate_page
from smnet.cli.timeline import Every, High, Overlap, Thresholds, Window, measure_recordings
from smnet.errors import UserError

if TYPE_CHECKING:
    from smnet.evaluation.results import Evaluation


def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Checkpoints, runs, or exported .onnx and .xml files. Several are averaged.",
        ),
    ],
    data: Annotated[str, typer.Option(help="The data set, in any form that train reads.")],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    views: Annotated[
        str | None,
        typer.Option(
            help="Views averaged per video, clips x crops: 1x1, 2x3 or 10x3. Default: as in the"
            " checkpoint's recipe."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weight of each checkpoint in the average, such as 1,1.5.")
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help="Sampling rule. Default: the checkpoint's own.")
    ] = None,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    target: Target = None,
    fold: Annotated[
        int | None,
        typer.Option(
            min=1, max=3, help="Fold of UCF101 and HMDB51. Default: the fold of the training."
        ),
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the scores of every clip: .csv or .parquet."),
    ] = None,
    confusion: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw the confusion matrix: .png, .svg or .pdf."),
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(
            metavar="DATA|CLASSES",
            help="Clips of classes that the checkpoint does not know: a data set, or classes of"
            " --data with commas between them. Measures how well the scores separate them from"
            " known classes.",
        ),
    ] = None,
    recordings: Annotated[
        bool,
        typer.Option(
            "--recordings",
            help="Measure timelines of whole recordings: mAP, F1, edit score, frame accuracy.",
        ),
    ] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="With --recordings: measure the events of smnet live, as streams."
        ),
    ] = False,
    high: High = 0.5,
    thresholds: Thresholds = None,
    window: Window = None,
    every: Every = None,
    overlap: Overlap = False,
    as_json: AsJson = False,
    on_error: Annotated[
        str, typer.Option(help="raise; or skip: count an unreadable clip as wrong and continue.")
    ] = "raise",
    batch: Annotated[int, typer.Option(min=1, help="Views per batch.")] = 8,
    workers: Workers = None,
    device: Device = "auto",
    decoder: Annotated[str, typer.Option(help="Video decoder: pyav or torchcodec.")] = "pyav",
    overwrite: Overwrite = False,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", help="The report. Default: evaluation.html in a run."),
    ] = None,
    no_report: NoReport = False,
    explain: Annotated[
        int, typer.Option(min=0, metavar="N", help="Explain the N worst mistakes in the report.")
    ] = 0,
) -> None:
    """Measure the accuracy of a checkpoint on a data set.

    \b
    Examples:
      smnet evaluate runs/mine --data clips/
      smnet evaluate runs/ssv2/best.safetensors --data something-v2/ --views 2x3 --json
      smnet evaluate tsm-ssv2.safetensors --data something-v2/ --views 2x3 --sampling twice
      smnet evaluate runs/8f runs/16f --weights 1,1 --data clips/ --confusion confusion.png
      smnet evaluate runs/mine/best.onnx --data clips/
      smnet evaluate runs/mine --data clips/ --unknown other-clips/
      smnet evaluate runs/mine --data clips/ --explain 3
      smnet evaluate runs/mine --data marks.csv --recordings --predictions segments.csv
      smnet evaluate runs/causal --data film.csv --recordings --live
    """
    from smnet.checkpoints.header import read_header
    from smnet.console import json_text
    from smnet.data.annotations.source import ClipSource
    from smnet.evaluation.evaluate import evaluate_checkpoints
    from smnet.evaluation.results import check_predictions, write_predictions
    from smnet.files import check_outputs
    from smnet.inference.backends import is_exported
    from smnet.recipes.recipe import describe_expected
    from smnet.recipes.views import parse_views
    from smnet.report.confusion import check_picture, draw_confusion
    from smnet.report.tables import print_evaluation

    windows: dict[str, object] = {"--window": window, "--every": every}
    of_recordings = {"--live": live, "--high": high != 0.5, "--thresholds": thresholds}
    of_clips = {
        "--weights": weights,
        "--sampling": sampling,
        "--confusion": confusion,
        "--unknown": unknown,
        "--report": report,
        "--explain": explain,
        "--on-error": on_error != "raise",
        "--decoder": decoder != "pyav",
    }
    if recordings:
        _leave_out(of_clips, "with --recordings; leave it out")
        if live:
            _leave_out({**windows, "--views": views}, "with --live; leave it out")
        measure_recordings(
            checkpoints,
            ClipSource(data, format, root, labels, first_label, fold, target=target),
            split,
            predictions,
            as_json=as_json,
            overwrite=overwrite,
            device=device,
            batch=batch,
            views=parse_views(views or "1x1"),
            live=live,
            high=high,
            thresholds=thresholds,
            window=window,
            every=every,
            overlap=overlap,
        )
        return
    more = {**of_recordings, **windows, "--overlap": overlap}
    _leave_out(more, "without --recordings; add it, or leave this out")
    if predictions:
        check_predictions(predictions)
    if confusion:
        check_picture(confusion)
    check_outputs(
        {"--predictions": predictions, "--confusion": confusion, "--report": report},
        (*checkpoints, data, root, labels),
        overwrite,
    )
    if explain and (len(checkpoints) > 1 or no_report or not _page(report, checkpoints)):
        raise UserError(
            "--explain N belongs to the report of one checkpoint; give --report FILE.html"
        )
    if on_error not in ("raise", "skip"):
        raise UserError(f"--on-error {on_error}: use raise or skip")
    if decoder not in ("pyav", "torchcodec"):
        raise UserError(f"--decoder {decoder}: use pyav or torchcodec")
    result = evaluate_checkpoints(
        checkpoints,
        ClipSource(data, format, root, labels, first_label, fold, target=target),
        split=split,
        views=views,
        weights=weights,
        sampling=sampling,
        on_error=on_error,
        batch=batch,
        workers=workers,
        device=device,
        decoder=decoder,
        unknown=unknown,
    )
    if result is None:  # torchrun: the first process reports
        return
    # Files first: standard output may be a closed pipe.
    if not no_report and (page := _page(report, checkpoints)) is not None:
        why = _why(checkpoints[0], result, explain, device) if explain else ()
        evaluate_page(page, result, checkpoints, data, why)
    if predictions:
        write_predictions(predictions, result)
    if confusion:
        draw_confusion(confusion, result)
    for path in filter(None, (predictions, confusion)):
        typer.echo(f"written: {path}", err=True)
    if as_json:
        typer.echo(json_text(result.summary(), 2))
        return
    print_evaluation(result)
    for checkpoint in checkpoints:
        expected = None
        if not is_exported(checkpoint):
            expected = read_header(checkpoint).recipe.get("expected")
        if expected:
            typer.echo(f"\n{checkpoint}: {describe_expected(expected)}")


def _leave_out(options: Mapping[str, object], why: str) -> None:
    """Refuse options that would have no effect."""
    for name, value in options.items():
        if value:
            raise UserError(f"{name} has no effect {why}")


def _why(checkpoint: str, result: Evaluation, count: int, device: str) -> list[str]:
    """The section of the report that explains the worst mistakes."""
    from smnet.explain.page import mistakes_section
    from smnet.explain.run import explain
    from smnet.inference.recognizer import Recognizer
    from smnet.inference.sources import Source

    network = Recognizer.load(checkpoint, device)
    found = []
    for row in result.mistakes()[:count]:
        clip = result.clips[row]
        predicted, true = (result.classes[k[row]] for k in (result.predictions, result.labels))
        against = true if true in (network.classes or ()) else None
        try:
            source = Source(clip.path, clip.path, clip.part)
            found.append(explain(network, source, predicted, against))
        except UserError as error:  # such as folders with several streams of frames
            typer.echo(f"smnet: not explained: {error}", err=True)
    return [mistakes_section(found)] if found else []


def _page(report: str | None, checkpoints: list[str]) -> Path | None:
    """Where the report is written: to ``report``, or into a run where that is allowed."""
    from smnet.files import check_outputs

    if report is not None:
        return Path(report)
    run = Path(checkpoints[0])
    if len(checkpoints) > 1 or not run.is_dir():
        return None
    page = run / "evaluation.html"
    try:
        check_outputs({"report": page}, ())
    except UserError:  # the folder is another program's, or cannot be written
        return None
    return page
