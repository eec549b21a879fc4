"""``smnet models`` and ``smnet recipes``."""

from __future__ import annotations

from typing import Annotated

import typer

from smnet.errors import UserError


def models(
    pattern: Annotated[str, typer.Argument(help="A shell pattern.")] = "*",
) -> None:
    """List the models.

    \b
    Example:
      smnet models 'smnet_*'
    """
    from smnet.models import list_models

    names = list_models(pattern)
    if not names:
        raise UserError(f"no model matches {pattern!r}; smnet models lists all of them")
    for name in names:
        typer.echo(name)


def recipes(
    name: Annotated[str | None, typer.Argument(help="The recipe to show.")] = None,
) -> None:
    """List the recipes, or show all keys of one.

    \b
    Examples:
      smnet recipes
      smnet recipes ssv2-8f
    """
    from smnet.recipes.recipe import dump_recipe, list_recipes, read_recipe

    if name is not None:
        typer.echo(dump_recipe(read_recipe(name)), nl=False)
        return
    default = "what smnet train uses without a recipe: your own clips, from ImageNet weights"
    for known, about in {"default": default, **list_recipes()}.items():
        typer.echo(f"{known:16} {about}")
