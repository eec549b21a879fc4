"""``smnet predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from smnet.cli.hints import check_order
from smnet.cli.options import Device, Overwrite, Views, Workers
from smnet.errors import UserError


def predict(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A checkpoint, the folder of a run, or an exported .onnx or .xml."),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Videos, folders, patterns, or @list.txt."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 3,
    views: Views = "1x1",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per video.")] = False,
    annotate: Annotated[
        str | None,
        typer.Option(metavar="OUT.mp4", help="Write a copy of the video that shows its label."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Videos per batch.")] = 8,
    workers: Workers = None,
    device: Device = "auto",
    backend: Annotated[
        str | None,
        typer.Option(help="torch or compile; onnxruntime or openvino for exported files."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict the action in videos.

    The exit status is 1 if a video could not be read. The other videos are still predicted.

    \b
    Examples:
      smnet predict runs/mine clip.mp4
      smnet predict runs/mine 'clips/**/*.webm' --json > predictions.jsonl
      smnet predict runs/mine clip.mp4 --annotate labelled.mp4
      smnet predict model.onnx clip.mp4
    """
    from smnet.files import check_outputs
    from smnet.inference.recognizer import Recognizer
    from smnet.inference.sources import find_videos
    from smnet.inference.utilisation import Utilisation
    from smnet.recipes.keys import parse_views
    from smnet.report.tables import print_json_lines, print_predictions

    check_order(checkpoint)
    videos = find_videos(sources)
    if annotate is not None:
        from smnet.inference.overlay import check_target, write_annotated

        if len(videos) != 1:
            raise UserError(f"--annotate takes one video; {len(videos)} were given")
        check_target(videos[0], annotate)
        check_outputs({"--annotate": annotate}, (checkpoint, *sources), overwrite)
    recognizer = Recognizer.load(checkpoint, device, parse_views(views), backend)
    used = Utilisation()
    predictions = recognizer.predict_many(videos, top, batch, workers, used)
    if annotate is not None:
        (prediction,) = predictions
        predictions = iter([prediction])
        if not prediction.error:  # before printing: standard output may be a closed pipe
            write_annotated(videos[0], annotate, prediction)
            typer.echo(f"written: {annotate}", err=True)
    if as_json:
        failed = print_json_lines(predictions)
    else:
        several = recognizer.backend.spec.several
        failed = print_predictions(predictions, videos, recognizer.classes, several)
    if len(videos) > 1:
        typer.echo(used, err=True)
    if failed:
        raise typer.Exit(1)
