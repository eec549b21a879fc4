"""Options that several verbs of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from smnet.recipes.recipe import Recipe

Data = Annotated[
    str | None, typer.Option(help="A folder per class, a csv, a list file, or an official layout.")
]
Format = Annotated[
    str | None, typer.Option(help="The annotation format, where it should not be guessed.")
]
Root = Annotated[
    str | None, typer.Option(help="Where the clips lie, if not where the annotation does.")
]
Labels = Annotated[str | None, typer.Option(help="The file with the class names.")]
FirstLabel = Annotated[
    int, typer.Option(min=0, max=1, help="1 for lists of numbers that count from 1.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, max=1024, help="Decoding workers; default one a core, at most 8."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Views = Annotated[str, typer.Option(help="Test views, clips x crops: 1x1, 2x3, 10x3.")]


def absolute_paths(recipe: Recipe) -> dict[str, str]:
    """What a recipe says of places, as :func:`absolute` has it."""
    said = {"data": recipe.data, "root": recipe.root, "labels": recipe.labels}
    return {key: absolute(place) for key, place in said.items() if place is not None}


def absolute(data: str) -> str:
    """So that the recipe of a run holds wherever it is resumed; s3://bucket/set does as it is."""
    return data if "://" in data else str(Path(data).expanduser().absolute())
