"""``smnet models`` and ``smnet recipes``."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from smnet.cli.options import AsJson
from smnet.console import json_text, output
from smnet.errors import UserError


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="A model, to show its options. A pattern such as 'tsm_*', for names."),
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="Print names only, one per line.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the families of models, or show the options of one model.

    A model is named FAMILY_TRUNK. Its cost is given in units of TSN on the same trunk, for 8
    segments of 224 x 224 pixels.

    \b
    Examples:
      smnet models
      smnet models smnet_resnet50
      smnet models 'smnet_*'
      smnet models --names
    """
    from smnet.models import list_models
    from smnet.models.registry import FAMILIES, family_of

    listed = list_models(name or "*")
    if name in FAMILIES:  # a family stands for its model on ResNet-50
        family = FAMILIES[name]
        trunk = "resnet50" if "resnet50" in family.trunks else family.trunks[0]
        listed = [name := f"{name}_{trunk}"]
    if name is not None and not listed:
        if set(name) & set("*?["):
            raise UserError(f"no model matches {name!r}; `smnet models` lists the families")
        try:
            family_of(name)
        except ValueError as error:
            raise UserError(str(error)) from None
    if names or (name is not None and listed != [name]):
        typer.echo(json_text(listed, indent=2) if as_json else "\n".join(listed))
    elif name is not None:
        _show_options(name, as_json)
    else:
        _show_families(as_json)


def _show_families(as_json: bool) -> None:
    from rich.table import Table

    from smnet.models.registry import FAMILIES
    from smnet.models.trunks import trunks_in_words

    if as_json:
        rows = [
            {
                "family": key,
                "about": family.about,
                "paper": family.paper,
                "trunks": family.trunks,
                "parameters_over_tsn": family.cost and family.cost[0],
                "multiply_adds_over_tsn": family.cost and family.cost[1],
            }
            for key, family in FAMILIES.items()
        ]
        typer.echo(json_text(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("family", "what it does", "paper", "trunks", "params", "MACs"):
        table.add_column(column, justify="right" if column in ("params", "MACs") else "left")
    for key, family in FAMILIES.items():
        cost = ("-", "-") if family.cost is None else (f"{c:.2f}" for c in family.cost)
        table.add_row(key, family.about, family.paper, trunks_in_words(family.trunks), *cost)
    console = output()
    if not console.is_terminal:
        console.width = 120  # files and pipes have no width
    console.print(table)
    typer.echo("params, MACs: parameters and multiply-adds in units of TSN on the same trunk")
    typer.echo("`smnet models NAME` shows the options of a model such as smnet_resnet50")


def _show_options(name: str, as_json: bool) -> None:
    from smnet.models.options import describe
    from smnet.models.registry import family_of, option_types

    rows = [row for declaration in option_types(name) for row in describe(declaration)]
    if as_json:
        typer.echo(json_text([row._asdict() for row in rows], indent=2))
        return
    family = family_of(name)
    typer.echo(f"{name}: {family.about} ({family.paper})\n")
    widths = [max(len(row[column]) for row in rows) + 2 for column in (0, 1)]
    typer.echo(f"{'option':{widths[0]}}{'default':{widths[1]}}values")
    for row in rows:
        typer.echo(f"{row.name:{widths[0]}}{row.default:{widths[1]}}{row.accepted}")
        typer.echo(textwrap.indent(textwrap.fill(row.meaning, 92), "    "))
    typer.echo(f"\nexample: smnet train model={name} options.{rows[0].name}={rows[0].default}")


def recipes(
    name: Annotated[str | None, typer.Argument(help="The recipe to show.")] = None,
) -> None:
    """List the recipes, or print one as YAML with the meaning of every key.

    The output of `smnet recipes NAME` is a recipe file: save it, change it, and train with it.

    \b
    Examples:
      smnet recipes
      smnet recipes default
      smnet recipes ssv2-8f > mine.yaml
    """
    from smnet.console import output
    from smnet.recipes.presets import PRESETS
    from smnet.recipes.recipe import annotated_recipe, list_recipes, read_recipe
    from smnet.report.tables import plain_table

    if name is not None:
        typer.echo(annotated_recipe(read_recipe(name)), nl=False)
        return
    default = "the defaults of all keys: ResNet-50 on 224 x 224 pixels, from ImageNet weights"
    for known, about in {"default": default, **list_recipes()}.items():
        typer.echo(f"{known:16} {about}")
    typer.echo("\npresets, of which smnet train takes the largest that fits into --minutes:")
    table = plain_table("preset", "GMAC", "MB", "trains", "predicts")
    for p in PRESETS:
        cells = (f"{p.gmac:.3g}", f"{p.megabytes:.3g}", f"{p.trains:.2g}/s", f"{p.predicts:.2g}/s")
        table.add_row(p.name, *cells)
    output().print(table)
    typer.echo("trains, predicts: clips per second on one core, without reading them")
