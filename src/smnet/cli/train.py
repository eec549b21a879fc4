"""``smnet train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from smnet.cli.hints import check_recipe_word
from smnet.cli.options import Data, Format, RecipeAndKeys, absolute_paths, split_words
from smnet.errors import UserError


def train(
    words: RecipeAndKeys = None,
    data: Data = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Resume the run in this folder.")
    ] = None,
    format: Format = None,
) -> None:
    """Train a model.

    The default recipe suits a small data set of your own. `smnet recipes` lists the recipes, and
    `smnet recipes NAME` shows the keys of one. The recipe motion draws its own data set in
    runs/motion when --data is not given.

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

    if resume is not None:
        if words or data or out or format:
            raise UserError("--resume continues a run with its own recipe; give nothing else")
        file = Path(resume) / "recipe.yaml"
        if not file.is_file():
            raise UserError(f"{resume}: no run to resume here (recipe.yaml is missing)")
        outcome = run(read_recipe(str(file)), resume, resume=True)
    else:
        name, keys = split_words(words)
        check_recipe_word(name)
        given = {"data": data, "format": format}
        recipe = read_recipe(name, keys, {k: v for k, v in given.items() if v is not None})
        recipe = recipe.model_copy(update=absolute_paths(recipe))
        if name == "motion" and recipe.data is None:
            from smnet.experiments.demo import DRAWN, draw

            recipe = recipe.model_copy(update={"data": draw(Path("runs/motion"), *DRAWN).root})
        stamp = time.strftime("%Y%m%d-%H%M%S")
        outcome = run(recipe, out or f"runs/{Path(name).stem if name else recipe.model}-{stamp}")
    if not outcome.finished:
        raise typer.Exit(130)
    if outcome.first:
        best = outcome.best or {}
        if best.get("clips"):
            typer.echo(f"best: top-1 {best['top1']:.1%} on validation, epoch {best['epoch']}")
        typer.echo(f"checkpoint: {outcome.checkpoint}")
