"""Options that several verbs of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str | None, typer.Option(help="A folder per class, a csv, a list file, or an official layout.")
]
Format = Annotated[
    str | None, typer.Option(help="The annotation format, where it should not be guessed.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")]
Workers = Annotated[int | None, typer.Option(help="Decoding workers; default one a core.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Views = Annotated[str, typer.Option(help="Test views, clips x crops: 1x1, 2x3, 10x3.")]


def absolute(data: str) -> str:
    """So that the recipe of a run holds wherever it is resumed; s3://bucket/set does as it is."""
    return data if "://" in data else str(Path(data).absolute())
