"""``smnet train``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnet.cli.hints import check_recipe_word
from smnet.cli.options import Data, Format, RecipeAndKeys, absolute_paths, split_words
from smnet.cli.reports import NoReport, check_page, evaluate_page, train_page
from smnet.errors import UserError

if TYPE_CHECKING:
    from smnet.recipes.recipe import Recipe

MINUTES = 10
"""Time for a run without recipe and model."""


def train(
    words: RecipeAndKeys = None,
    data: Data = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Resume the run in this folder.")
    ] = None,
    format: Format = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Time for the run. Default without recipe and model: 10."),
    ] = None,
    no_report: NoReport = False,
) -> None:
    """Train a model.

    Without a recipe and a model, the largest preset (nano, small, medium, large) is chosen whose
    training fits into --minutes on this machine. Keys that you give are kept. `smnet recipes` lists
    presets and recipes, and `smnet recipes NAME` shows the keys of one. The recipe motion draws its
    own data set in runs/motion when --data is not given.

    \b
    Examples:
      smnet train --data clips/
      smnet train --data clips/ --minutes 60
      smnet train small --data clips/ epochs=40
      smnet train --data clips/ --minutes 60 folds=5
      smnet train --data clips/ model=tsm_resnet50 epochs=20 batch=16
      smnet train motion model=tsm_resnet18
      smnet train ssv2-8f --data something-v2/ --out runs/ssv2
      smnet train --resume runs/ssv2
    """
    from smnet.recipes.recipe import read_recipe
    from smnet.training.calibration import MEASURED
    from smnet.training.retrain import train_to_end
    from smnet.training.setup import stored_recipe

    if resume is not None:
        if words or data or out or format or minutes:
            raise UserError("--resume continues a run with its own recipe; give nothing else")
        file = Path(resume) / "recipe.yaml"
        if not file.is_file():
            raise UserError(f"{resume}: no run to resume here (recipe.yaml is missing)")
        recipe, folder = stored_recipe(Path(resume)), resume
        all_folds = recipe.folds and not (Path(resume) / "resume.pt").exists()
    else:
        name, keys = split_words(words)
        check_recipe_word(name)
        given = {"data": data, "format": format, "minutes": minutes}
        given = {k: v for k, v in given.items() if v is not None}
        keyed = {key.partition("=")[0].strip() for key in keys}
        if "epochs" in keyed and (minutes is not None or "minutes" in keyed):
            raise UserError("--minutes decides the number of epochs; give it or epochs=, not both")
        if name is None and "model" not in keyed:
            recipe = _preset(keys, given, by_epochs="epochs" in keyed)
        else:
            recipe = read_recipe(name, keys, given)
        recipe = recipe.model_copy(update=absolute_paths(recipe))
        if name == "motion" and recipe.data is None:
            from smnet.experiments.demo import DRAWN, draw

            recipe = recipe.model_copy(update={"data": draw(Path("runs/motion"), *DRAWN).root})
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = out or f"runs/{Path(name).stem if name else recipe.model}-{stamp}"
        all_folds = recipe.folds and "fold" not in keyed
    page = None if no_report else check_page(folder)
    if all_folds:
        from smnet.experiments.folds import cross_validate, print_folds

        done = cross_validate(recipe, Path(folder), resume=resume is not None)
        if done is None:
            raise typer.Exit(130)
        if page is not None:
            evaluate_page(page, done.together, [f"{len(done.folds)} folds"], str(recipe.data))
        print_folds(done)
        typer.echo(f"written: {folder}/folds.json, {folder}/predictions.csv")
        return
    outcome = train_to_end(recipe, Path(folder), resume=resume is not None)
    if not outcome.finished:
        raise typer.Exit(130)
    if outcome.first:
        if page is not None:
            train_page(page, outcome)
        best = outcome.best or {}
        if best.get("clips"):
            name, value = ("mAP", best["map"]) if "map" in best else ("top-1", best["top1"])
            typer.echo(f"best: {name} {value:.1%} on validation, epoch {best['epoch']}")
        if (outcome.folder / MEASURED).exists():
            measured = outcome.folder / MEASURED
            typer.echo(f"measured: {measured}; the checkpoint was trained again on all clips")
        typer.echo(f"checkpoint: {outcome.checkpoint}")


def _preset(keys: list[str], given: dict[str, Any], by_epochs: bool) -> Recipe:
    """The preset for the data and the machine, announced on standard error."""
    from smnet.console import console
    from smnet.recipes.recipe import read_recipe
    from smnet.training.presets import choose_preset

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("several processes: name a preset, a recipe or a model (smnet recipes)")
    asked = read_recipe(None, keys, given)
    minutes = asked.minutes or MINUTES
    recipe, lines = choose_preset(keys, given, minutes / max(asked.folds, 1))
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return recipe if by_epochs else recipe.model_copy(update={"minutes": minutes})
