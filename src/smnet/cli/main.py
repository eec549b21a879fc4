"""The command line: parse, call one function, print. Heavy imports stay inside the verbs."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from smnet import __version__
from smnet.cli import data as data_cli
from smnet.cli import models as models_cli
from smnet.cli.options import (
    AsJson,
    Data,
    Device,
    FirstLabel,
    Format,
    Labels,
    Root,
    Views,
    Workers,
    absolute_paths,
)
from smnet.errors import UserError


class Verbs(TyperGroup):
    """The verbs. One whose reader has gone (``smnet … | head``) ends with the status that says so,
    141; typer's own is that of mistakes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)


app = typer.Typer(
    cls=Verbs,
    help="Action recognition in video at the cost of an image network.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(data_cli.app, name="data")


def version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smnet {__version__}")
        raise typer.Exit


SHARED = ("train", "evaluate")
"""The verbs that share their work among the processes of torchrun."""


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    verb = context.invoked_subcommand
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and verb not in SHARED:
        raise UserError(f"{verb} runs in one process: start it without torchrun")


@app.command()
def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A recipe, and what to change."),
    ] = None,
    data: Data = None,
    out: Annotated[str | None, typer.Option(help="The run's folder.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Go on with the run in this folder.")
    ] = None,
    format: Format = None,
) -> None:
    """Train a recogniser.

    Without a recipe: a sound default for a small set of one's own. `smnet recipes` lists the
    recipes, and `smnet recipes NAME` shows the keys that can be changed. The recipe motion draws
    its data set itself, in runs/motion, if none is given.

    \b
    Examples:
      smnet train --data clips/
      smnet train --data clips/ model=tsm_resnet50 epochs=20 batch=16
      smnet train motion model=tsm_resnet18
      smnet train ssv2-8f --data something-v2/ --out runs/ssv2
      smnet train --resume runs/ssv2
    """
    from smnet.recipes.recipe import read_recipe
    from smnet.training.loop import train as run

    words = list(words or [])
    if resume is not None:
        if words or data or out or format:
            raise UserError("--resume goes on with a run as it was set up; give nothing else")
        recipe_file = Path(resume) / "recipe.yaml"
        if not recipe_file.is_file():
            raise UserError(f"{resume}: no run to resume there (recipe.yaml is missing)")
        outcome = run(read_recipe(str(recipe_file)), resume, resume=True)
    else:
        source = words.pop(0) if words and "=" not in words[0] else None
        given: dict[str, Any] = {"data": data, "format": format}
        given = {key: value for key, value in given.items() if value is not None}
        recipe = read_recipe(source, words, given)
        recipe = recipe.model_copy(update=absolute_paths(recipe))
        if source == "motion" and recipe.data is None:
            from smnet.experiments.demo import DRAWN, draw

            drawn = draw(Path("runs/motion"), *DRAWN).root
            recipe = recipe.model_copy(update={"data": drawn})
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = out or f"runs/{Path(source).stem if source else recipe.model}-{stamp}"
        outcome = run(recipe, folder)
    if not outcome.finished:
        raise typer.Exit(130)
    best = outcome.best or {}
    if outcome.first and best.get("clips"):
        typer.echo(f"best: top-1 {best['top1']:.1%} on validation, epoch {best['epoch']}")
    if outcome.first:
        typer.echo(f"checkpoint: {outcome.folder / 'best.safetensors'}")


@app.command()
def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="One, or several to average; exported .onnx and .xml files too.",
        ),
    ],
    data: Annotated[str, typer.Option(help="The data set, in any form that train takes.")],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    views: Annotated[
        str | None,
        typer.Option(help="Clips x crops: 1x1, 2x3, 10x3; default: as the checkpoint's recipe."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Shares of several checkpoints, such as 1,1.5.")
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help="Sample the frames by this rule, not the checkpoint's own.")
    ] = None,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    first_label: FirstLabel = 0,
    fold: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3,
            help="Of UCF101, HMDB51; default: the one trained on.",
        ),
    ] = None,
    predictions: Annotated[
        str | None, typer.Option(help="Write every clip's scores: .csv or .parquet.")
    ] = None,
    confusion: Annotated[
        str | None, typer.Option(help="Draw the confusion matrix: .png, .svg or .pdf.")
    ] = None,
    as_json: AsJson = False,
    on_error: Annotated[
        str, typer.Option(help="raise; or skip: count an unreadable clip as wrong and go on.")
    ] = "raise",
    batch: Annotated[int, typer.Option(min=1, help="Views a batch.")] = 8,
    workers: Workers = None,
    device: Device = "auto",
    decoder: Annotated[str, typer.Option(help="Of video files: pyav or torchcodec.")] = "pyav",
) -> None:
    """Measure a checkpoint on a data set.

    \b
    Examples:
      smnet evaluate runs/mine --data clips/
      smnet evaluate runs/ssv2/best.safetensors --data something-v2/ --views 2x3 --json
      smnet evaluate tsm-ssv2.safetensors --data something-v2/ --views 2x3 --sampling twice
      smnet evaluate runs/8f runs/16f --weights 1,1 --data clips/ --confusion confusion.png
      smnet evaluate runs/mine/best.onnx --data clips/
    """
    from smnet.checkpoints.file import read_checkpoint
    from smnet.data.annotations.source import ClipSource
    from smnet.evaluation.evaluate import evaluate_checkpoints
    from smnet.evaluation.results import check_names, write_predictions
    from smnet.inference.backends import is_exported
    from smnet.recipes.recipe import describe_expected
    from smnet.report.confusion import draw_confusion
    from smnet.report.tables import json_text, print_evaluation

    check_names(predictions, confusion)
    if on_error not in ("raise", "skip"):
        raise UserError(f"--on-error {on_error}: use raise or skip")
    if decoder not in ("pyav", "torchcodec"):
        raise UserError(f"--decoder {decoder}: use pyav or torchcodec")
    result = evaluate_checkpoints(
        checkpoints,
        ClipSource(data, format, root, labels, first_label, fold),
        split=split,
        views=views,
        weights=weights,
        sampling=sampling,
        on_error=on_error,
        batch=batch,
        workers=workers,
        device=device,
        decoder=decoder,
    )
    if result is None:  # not the first of several processes
        return
    if as_json:
        typer.echo(json_text(result.summary(), 2))
    else:
        print_evaluation(result)
        for checkpoint in checkpoints:
            if is_exported(checkpoint):
                continue
            expected = read_checkpoint(checkpoint).recipe.get("expected")
            if expected:
                typer.echo(f"\n{checkpoint}: {describe_expected(expected)}")
    if predictions:
        write_predictions(predictions, result)
    if confusion:
        draw_confusion(confusion, result)
    for written in filter(None, (predictions, confusion)):
        typer.echo(f"written: {written}", err=True)


@app.command()
def predict(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint, a run's folder, or an exported .onnx or .xml file.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Videos, folders, patterns, or @list.txt."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes to show.")] = 3,
    views: Views = "1x1",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a video.")] = False,
    annotate: Annotated[
        str | None,
        typer.Option(metavar="OUT.mp4", help="Write the video with its label on it."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Videos a batch.")] = 8,
    workers: Workers = None,
    device: Device = "auto",
    backend: Annotated[
        str | None,
        typer.Option(help="torch, compile; onnxruntime or openvino for an exported file."),
    ] = None,
) -> None:
    """Name what happens in videos.

    Exit status 1 if any video could not be read; the others are still reported.

    \b
    Examples:
      smnet predict runs/mine clip.mp4
      smnet predict runs/mine 'clips/**/*.webm' --json > predictions.jsonl
      smnet predict runs/mine clip.mp4 --annotate labelled.mp4
      smnet predict model.onnx clip.mp4
    """
    from smnet.inference.recognizer import Recognizer, Utilisation, find_videos
    from smnet.recipes.recipe import parse_views
    from smnet.report.tables import json_text, print_predictions

    videos = find_videos(sources)
    if annotate is not None and len(videos) != 1:
        raise UserError(f"--annotate writes one video; {len(videos)} were given")
    if annotate is not None:
        from smnet.inference.overlay import check_target

        check_target(videos[0], annotate)
    recognizer = Recognizer.load(checkpoint, device, parse_views(views), backend)
    used = Utilisation()
    answers = recognizer.predict_many(videos, top, batch, workers, used)
    if annotate is not None:  # needed once more
        answers = iter(kept := list(answers))
    failed = 0
    if as_json:
        for answer in answers:
            failed += bool(answer.error)
            typer.echo(json_text(answer.to_dict()))
    else:
        failed = print_predictions(answers, len(videos))
    if len(videos) > 1:
        typer.echo(used, err=True)
    if failed:
        raise typer.Exit(1)
    if annotate is not None:
        from smnet.inference.overlay import write_annotated

        write_annotated(videos[0], annotate, kept[0])
        typer.echo(f"written: {annotate}", err=True)


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Where data, runs and the report go.")] = "runs/demo",
    quick: Annotated[
        bool, typer.Option(help="A minute's run, to see that everything works.")
    ] = False,
) -> None:
    """Draw the motion data set, train SMNet and TSN on it, and compare them in a report.

    \b
    Example:
      smnet demo
    """
    from smnet.experiments.demo import run_demo

    report = run_demo(Path(out), quick=quick)
    typer.echo(f"report: {report}")


for verb in models_cli.VERBS:
    app.command()(verb)


def main() -> None:
    """Entry point: a user's mistake is one line on standard error and exit status 1."""
    try:
        app(standalone_mode=True)
    except (ValueError, OSError) as error:
        if os.environ.get("SMNET_TRACEBACK"):
            raise
        _fail(f"smnet: {_one_line(error)}")
    except (RuntimeError, MemoryError) as error:
        told = _known(error)
        if told is None or os.environ.get("SMNET_TRACEBACK"):
            raise
        _fail(f"smnet: {told}")
    except ModuleNotFoundError as error:
        if error.name != "torch" or os.environ.get("SMNET_TRACEBACK"):
            raise
        told = "this needs PyTorch, which is not installed here; without it exported files predict"
        _fail(f"smnet: {told}")
    except KeyboardInterrupt:
        print("smnet: interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(line: str) -> NoReturn:
    """Say what is wrong, once however many processes of a run find it, and end."""
    first = True
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        with contextlib.suppress(ModuleNotFoundError):  # PyTorch, without which nobody can know
            from smnet.distributed import says_first

            first = says_first(line)
    if first:
        print(line, file=sys.stderr)
    sys.exit(1)


def _known(error: BaseException) -> str | None:
    """A line for errors of PyTorch that are nobody's mistake in the program; it is not imported for
    them: on a GPU lack of memory has an error of this name, on a CPU words alone."""
    words = ("can't allocate memory", "not enough memory")
    named = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    if named or any(word in str(error) for word in words):
        return "out of memory; smaller batches (batch=, --batch) need less, and smaller size="
    lost = ("by peer", "gloo/transport", "remote process exit")
    if "WORLD_SIZE" in os.environ and any(word in str(error) for word in lost):
        how = "which tells why, unless it was killed"
        return f"process {os.environ.get('RANK')}: ended, as another process of the run did, {how}"
    return None


def _one_line(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{error} (SMNET_TRACEBACK=1 shows where)"


if __name__ == "__main__":
    main()
