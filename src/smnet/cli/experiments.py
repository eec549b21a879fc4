"""``smnet compare``, ``profile`` and ``demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from smnet.cli.hints import check_recipe_word
from smnet.cli.options import (
    AsJson,
    Data,
    Device,
    Format,
    Overwrite,
    RecipeAndKeys,
    absolute,
    absolute_paths,
    split_words,
)
from smnet.errors import UserError


def compare(
    words: RecipeAndKeys = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Model names with commas, options after colons:"
            " tsm_resnet18,smnet_resnet18:groups=2."
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help=(
                "family, res2net, modality, parts, start, groups, stages, place, fusion,"
                " attention, choices, or a file."
            )
        ),
    ] = None,
    trunk: Annotated[str | None, typer.Option(help="Trunk for all models of the study.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per model.")] = 3,
    data: Data = None,
    format: Format = None,
    out: Annotated[str, typer.Option(help="Folder of the comparison.")] = "runs/compare",
) -> None:
    """Train several models with the same recipe and report them in one table.

    The default recipe is motion, or with --data that of `smnet train`. Finished runs in the folder
    are kept, so the same command resumes an interrupted comparison. With the folder of another
    comparison as weights=, each run is fine-tuned from its own run there.

    \b
    Examples:
      smnet compare --models tsn_resnet18,tsm_resnet18,smnet_resnet18
      smnet compare --models tdn_resnet18,smnet_resnet18:modality=rgb+rgbdiff --data clips/
      smnet compare --study parts --seeds 5 --out runs/parts
      smnet compare --study family --trunk resnet50 --data clips/ epochs=15 weights=imagenet
      smnet compare motion --study parts --data clips/ weights=runs/parts --out runs/fine-tuned
    """
    from smnet.experiments.compare import MOTION, MOTION_BUDGET, check_study
    from smnet.experiments.compare import compare as run
    from smnet.experiments.study import read_models, read_study
    from smnet.recipes.recipe import read_recipe

    if (models is None) == (study is None):
        raise UserError("give either --models or --study")
    name, keys = split_words(words)
    check_recipe_word(name)
    changed = {key.partition("=")[0].strip(): key for key in keys}
    for key in ("model", "seed"):
        if key in changed:
            raise UserError(
                f"{changed[key]}: the models of a comparison come from --models or --study, and"
                " its seeds are 0, 1, ..."
            )
    drawn = data is None and "data" not in changed and name in (None, "motion")
    if drawn:
        name, keys = "motion", [*MOTION_BUDGET, *keys]
    given = {"data": data, "format": format}
    recipe = read_recipe(name, keys, {k: v for k, v in given.items() if v is not None})
    recipe = recipe.model_copy(update=absolute_paths(recipe))
    candidates = read_study(study) if study is not None else read_models(str(models))
    check_study(recipe, candidates, trunk)
    if drawn:
        from smnet.experiments.demo import draw

        folder = draw(Path(out) / "motion", **MOTION).root
        recipe = recipe.model_copy(update={"data": absolute(folder)})
    run(recipe, candidates, seeds, Path(out), trunk)
    typer.echo((Path(out) / "table.md").read_text(encoding="utf-8"))


def profile(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL[:KEY=VALUE]...", help="Names as listed by smnet models."),
    ],
    size: Annotated[int, typer.Option(min=16, max=1024, help="Crop size, in pixels.")] = 224,
    segments: Annotated[int, typer.Option(min=1, max=256, help="Segments per clip.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Clips per timed batch.")] = 1,
    options: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option for every model; may be repeated."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds per model.")] = 5,
    device: Device = "auto",
    as_json: AsJson = False,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE.png", help="Draw accuracy over cost; needs --results."),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(metavar="table.json", help="Table of smnet compare; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure the cost of models: parameters, multiply-adds, training memory and time.

    Costs are broken down by stage and by temporal module. The models are timed in turns, and times
    are relative to TSN on the trunk of the first model.

    \b
    Examples:
      smnet profile smnet_resnet50 tsm_resnet50 tdn_resnet50
      smnet profile smnet_resnet50 smnet_resnet50:place=after_conv1 --size 112
      smnet profile smnet_resnet18 tsm_resnet18 --plot cost.png --results runs/compare/table.json
    """
    from smnet.experiments.profile import profile as run
    from smnet.experiments.profile_report import draw, print_profiles, read_results
    from smnet.experiments.study import read_models
    from smnet.files import check_outputs
    from smnet.recipes.recipe import read_recipe
    from smnet.report.plotting import check_picture

    if (plot is None) != (not results):
        raise UserError("--plot draws the accuracies of --results; give both, or neither")
    if plot is not None:
        check_picture(plot)
        check_outputs({"--plot": plot}, results or (), overwrite)
    named = {row.model for word in models for row in read_models(word)}
    rows = read_results(results, named) if results else []
    table = read_recipe(None, [f"options.{word}" for word in options or []]).options
    sizes = {"segments": segments, "size": size, "batch": batch, "rounds": rounds}
    profiles = run(models, options=table, device=device, **sizes)
    if plot is not None:  # before printing: standard output may be a closed pipe
        draw(plot, profiles, rows)
        typer.echo(f"written: {plot}", err=True)
    if as_json:
        typer.echo(json.dumps(profiles.to_dict(), indent=2, ensure_ascii=False))
    else:
        print_profiles(profiles)


def demo(
    out: Annotated[str, typer.Option(help="Folder of the data, runs and report.")] = "runs/demo",
    quick: Annotated[bool, typer.Option(help="Run for a minute, as a check.")] = False,
) -> None:
    """Draw a small data set, train SMNet and TSN on it, and write a report.

    \b
    Example:
      smnet demo
    """
    from smnet.experiments.demo import run_demo

    typer.echo(f"report: {run_demo(Path(out), quick=quick)}")
