"""The command line: the table of verbs, and the entry point.

A verb parses its options, calls one function and prints the result. Heavy imports stay inside the
verbs, so that help is quick and the data verbs work without PyTorch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from smnet import __version__
from smnet.cli import data
from smnet.cli.adapt import adapt
from smnet.cli.deploy import convert, export, push
from smnet.cli.embed import embed, find
from smnet.cli.errors import fail, one_line, usage_line
from smnet.cli.evaluate import evaluate
from smnet.cli.experiments import compare, demo, profile
from smnet.cli.explain import explain
from smnet.cli.label import label
from smnet.cli.live import live
from smnet.cli.models import models, recipes
from smnet.cli.predict import predict
from smnet.cli.serve import serve
from smnet.cli.timeline import timeline
from smnet.cli.train import train
from smnet.cli.weights import weights
from smnet.errors import UserError
from smnet.system import restart_with_merged_memory

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "adapt": adapt,
    "label": label,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "timeline": timeline,
    "live": live,
    "serve": serve,
    "embed": embed,
    "find": find,
    "models": models,
    "weights": weights,
    "recipes": recipes,
    "compare": compare,
    "profile": profile,
    "export": export,
    "convert": convert,
    "push": push,
}
DISTRIBUTED = ("train", "evaluate")
"""The verbs that torchrun may start in several processes."""
TRAINING = ("demo", "train", "adapt", "compare")
"""The verbs that train, which needs memory."""

UsageError: Any = typer.BadParameter.__base__  # older versions of typer have it from click


class Verbs(TyperGroup):
    """The verbs; exit status 141 when standard output is a closed pipe (``smnet … | head``)."""

    def invoke(self, context: Any) -> Any:
        try:
            result = super().invoke(context)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except KeyboardInterrupt:
            print("smnet: interrupted", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Verbs,
    help="Action recognition in video at the cost of an image network.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for name, verb in VERBS.items():
    app.command(name)(verb)
app.add_typer(data.app, name="data")


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smnet {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    verb = context.invoked_subcommand
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and verb not in DISTRIBUTED:
        raise UserError(f"{verb} runs in one process: start it without torchrun")


def main() -> None:
    """Entry point. Errors of the user are one line on standard error.

    Exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted, 141 closed pipe.
    SMNET_TRACEBACK=1 shows the traceback of every failure.
    """
    if "" in sys.argv[1:]:
        fail("smnet: one word of the command line is empty; is a shell variable unset?", status=2)
    if sys.argv[1:] and sys.argv[1] in TRAINING:
        restart_with_merged_memory()
    try:
        sys.exit(app(prog_name="smnet", standalone_mode=False))
    except UsageError as error:
        fail(usage_line(error, sys.argv[1:]), status=2)
    except (Exception, KeyboardInterrupt) as error:
        line = one_line(error)
        if line is None or os.environ.get("SMNET_TRACEBACK"):
            raise
        fail(line, status=130 if isinstance(error, KeyboardInterrupt) else 1)


if __name__ == "__main__":
    main()
