"""``smnet adapt``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from smnet.cli.options import DataArgument, Format, Labels, Root, absolute_paths
from smnet.cli.reports import NoReport, adapt_page, check_page


def adapt(
    data: DataArgument,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe to change."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="A network by name (smnet weights), a run, a checkpoint, hf://OWNER/NAME, a file"
            " of ImageNet weights, or imagenet.",
        ),
    ] = "imagenet",
    minutes: Annotated[
        float, typer.Option(min=0, help="Time for everything. 0: the probe alone.")
    ] = 10.0,
    out: Annotated[str | None, typer.Option(help="Folder of the run.")] = None,
    format: Format = None,
    root: Root = None,
    labels: Labels = None,
    no_report: NoReport = False,
) -> None:
    """Adapt a trained network to few clips.

    The network runs once over each clip. A regularised linear classifier on its features (a probe)
    is trained in seconds. In the time that is left the whole network is fine-tuned from there, and
    kept if it names more of the validation clips. Otherwise the probe is trained again on all
    clips, unless the data set names its validation clips. The result is an ordinary checkpoint.
    The same command with the same --out continues an interrupted run.

    \b
    Examples:
      smnet adapt clips/ --from runs/kinetics
      smnet adapt clips/ --from resnet50.safetensors size=112 --minutes 5
      smnet adapt clips.csv --from hf://OWNER/NAME --out runs/mine
    """
    from smnet.adapt.run import adapt as run
    from smnet.adapt.start import start_recipe

    values = {"data": data, "format": format, "root": root, "labels": labels}
    recipe = start_recipe(start, keys or (), {k: v for k, v in values.items() if v is not None})
    recipe = recipe.model_copy(update=absolute_paths(recipe))
    folder = Path(out or f"runs/adapt-{time.strftime('%Y%m%d-%H%M%S')}")
    page = None if no_report else check_page(folder)
    began = time.monotonic()
    found = run(recipe, folder, minutes)
    if found is None:
        raise typer.Exit(130)
    if page is not None:
        adapt_page(page, found, time.monotonic() - began)
    name, share = found.crossed.headline
    typer.echo(f"cross-validated: {name} {share}")
    if found.result is not found.crossed:
        typer.echo(f"validation:      {name} {found.result.headline[1]}")
    typer.echo(found.verdict)
    typer.echo(f"checkpoint: {folder / 'best.safetensors'}")
