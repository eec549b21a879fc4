"""``smnet predict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnet.cli.hints import check_order
from smnet.cli.options import CorpusTimeout, Device, Overwrite, Retry, Share, Views, Workers
from smnet.errors import UserError

if TYPE_CHECKING:
    from smnet.corpus.run import Summary


def predict(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, the folder of a run, a name of smnet weights, or an exported .onnx"
            " or .xml."
        ),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Videos, folders, patterns, addresses, @list.txt or @list.csv.",
        ),
    ],
    start: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Begin of the part: seconds, or h:mm:ss."),
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="End of the part.")] = None,
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
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Write Parquet tables; a second run adds what is missing."
        ),
    ] = None,
    share: Share = None,
    engine: Annotated[
        str | None, typer.Option(help="With --out: ray runs on a cluster of Ray.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="With --engine ray: of the cluster, or auto. Default: local.")
    ] = None,
    timeout: CorpusTimeout = 180.0,
    retry: Retry = False,
) -> None:
    """Predict the action in videos.

    @list.csv has the column path, and optionally start and end in seconds.

    The exit status is 1 if a video could not be read. The other videos are still predicted.

    For many files, --out writes tables (predictions.parquet, unreadable.parquet) instead of
    printing. Sources may then also be manifests (.csv, .tsv or .parquet with a column path) and
    .tar shards. Interrupted or run again with more files, it does what is missing.

    \b
    Examples:
      smnet predict runs/mine clip.mp4
      smnet predict motion clip.mp4
      smnet predict tsm_resnet50-kinetics400 clip.mp4
      smnet predict runs/mine 'clips/**/*.webm' --json > predictions.jsonl
      smnet predict runs/mine day.mp4 --start 1:02:03 --end 1:02:07
      smnet predict runs/mine @parts.csv --json
      smnet predict runs/mine clip.mp4 --annotate labelled.mp4
      smnet predict model.onnx clip.mp4
      smnet predict model.onnx 's3://bucket/inbox/' manifest.csv --out predictions
    """
    from smnet.data.annotations.times import part_of
    from smnet.data.clips import part_name
    from smnet.files import check_outputs
    from smnet.inference.recognizer import Recognizer
    from smnet.inference.sources import find_sources
    from smnet.inference.utilisation import Utilisation
    from smnet.recipes.views import parse_views
    from smnet.report.tables import print_json_lines, print_predictions

    check_order(checkpoint)
    if out is not None:
        if annotate is not None or as_json or start or end:
            raise UserError("--out writes tables; leave out --annotate, --json, --start and --end")
        common: dict[str, Any] = {"timeout": timeout, "retry": retry}
        if engine is not None:
            if (engine, backend, share) != ("ray", None, None):
                raise UserError("--engine is ray, and takes no --backend and no --share")
            from smnet.corpus.engine import run_on_ray

            common |= {"views": parse_views(views), "top": top, "device": device}
            summary = run_on_ray(checkpoint, sources, out, address=address, **common)
        else:
            common |= {"batch": batch, "workers": workers, "share": parse_share(share)}
            summary = predict_here(
                checkpoint, sources, out, (device, backend), top, views, **common
            )
        print_summary(summary, out)
        write_page(summary, out)
        return
    if share is not None or retry or engine is not None:
        raise UserError("--share, --retry and --engine belong to --out DIR")
    part, wrong = part_of({("s", "start"): start or "", ("s", "end"): end or ""})
    if wrong:
        raise UserError(f"--start {start} --end {end}: {wrong}")
    videos = find_sources(sources, part)
    if annotate is not None:
        from smnet.inference.overlay import check_target, write_annotated

        if len(videos) != 1:
            raise UserError(f"--annotate takes one video; {len(videos)} were given")
        check_target(videos[0].name, annotate)
        check_outputs({"--annotate": annotate}, (checkpoint, *sources), overwrite)
    recognizer = Recognizer.load(checkpoint, device, parse_views(views), backend)
    used = Utilisation()
    predictions = recognizer.predict_many(videos, top, batch, workers, used)
    if annotate is not None:
        (prediction,) = predictions
        predictions = iter([prediction])
        if not prediction.error:  # before printing: standard output may be a closed pipe
            write_annotated(videos[0].name, annotate, prediction)
            typer.echo(f"written: {annotate}", err=True)
    if as_json:
        failed = print_json_lines(predictions)
    else:
        several = recognizer.backend.spec.several
        names = [part_name(source.name, source.part) for source in videos]
        failed = print_predictions(predictions, names, recognizer.classes, several)
    if len(videos) > 1:
        typer.echo(used, err=True)
    if failed:
        raise typer.Exit(1)


def predict_here(
    checkpoint: str,
    sources: list[str],
    out: str,
    engine: tuple[str, str | None],
    top: int,
    views: str,
    **settings: Any,
) -> Summary:
    """Predictions over many files, on this machine."""
    from smnet.corpus.run import prediction_work, run_corpus
    from smnet.inference.backends import open_backend, plan_views
    from smnet.recipes.views import parse_views

    backend = open_backend(checkpoint, *engine)
    work = prediction_work(backend, plan_views(backend, *parse_views(views)), checkpoint, top)
    return run_corpus(work, sources, out, **settings)


def print_summary(summary: Summary, out: str) -> None:
    """What a run over many files did."""
    typer.echo(summary)
    rows = ", ".join(f"{name}: {count}" for name, count in summary.merged.items())
    typer.echo(f"written: {out} ({rows})")


def write_page(summary: Summary, out: str) -> None:
    """``summary.html`` beside the tables."""
    from smnet.corpus.folder import Folder
    from smnet.corpus.results import PAGE
    from smnet.corpus.summary import contents
    from smnet.report.corpus_page import summary_page

    folder = Folder(out)
    found = contents(folder)
    facts = [
        (str(found.counts.total()), "videos"),
        (str(len(found.counts)), "classes"),
        (str(summary.merged.get("unreadable.parquet", 0)), "unreadable"),
    ]
    html = summary_page(facts, found.counts, found.scores, found.samples, found.reasons)
    folder.write_text(PAGE, html)
    typer.echo(f"page: {folder.path(PAGE)}")


def parse_share(text: str | None) -> tuple[int, int]:
    """``"2/8"`` as (1, 8); None is the whole."""
    if text is None:
        return 0, 1
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--share {text}: write I/N with I from 1 to N, such as 2/8")
    return int(number) - 1, int(count)
