"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from smnet.recipes.recipe import Recipe

DataArgument = Annotated[
    str, typer.Argument(help="A folder per class, a csv, a list file, or an official layout.")
]
Data = Annotated[
    str | None, typer.Option(help="A folder per class, a csv, a list file, or an official layout.")
]
Format = Annotated[
    str | None, typer.Option(help="Annotation format. Default: recognised from the files.")
]
Root = Annotated[
    str | None, typer.Option(help="Folder of the clips. Default: the folder of the annotation.")
]
Labels = Annotated[str | None, typer.Option(help="File with the class names.")]
FirstLabel = Annotated[
    int, typer.Option(min=0, max=1, help="1 for lists whose class numbers start at 1.")
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Which labels are the classes: a tier of ELAN, an attribute of VIA, a control of Label"
        " Studio; verb, noun or action of EPIC-KITCHENS.",
    ),
]
Fold = Annotated[int, typer.Option(min=1, max=3, help="Fold of UCF101 and HMDB51.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, max=1024, help="Decoding workers. Default: one per core, at most 8."),
]
Processes = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes. Default: one per core.")
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Time limit per clip, in seconds.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Views = Annotated[
    str, typer.Option(help="Views averaged per video, clips x crops: 1x1, 2x3 or 10x3.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files that smnet did not write.")
]
Share = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="With --out DIR: work on share I of N, on as many machines."),
]
CorpusTimeout = Annotated[
    float,
    typer.Option("--timeout", min=0.1, help="With --out DIR: time limit per video, in seconds."),
]
Retry = Annotated[bool, typer.Option("--retry", help="With --out DIR: try unreadable files again.")]
Checkpoint = Annotated[
    str, typer.Argument(help="A checkpoint, the folder of a run, or a name of smnet weights.")
]
RecipeAndKeys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A recipe, and keys to change in it."),
]


def split_words(words: list[str] | None) -> tuple[str | None, list[str]]:
    """The recipe (None: not given) and the KEY=VALUE words of a command line."""
    words = list(words or [])
    recipe = words.pop(0) if words and "=" not in words[0] else None
    return recipe, words


def absolute_paths(recipe: Recipe) -> dict[str, str]:
    """The paths of a recipe (data, root, labels), made absolute by :func:`absolute`."""
    paths = {"data": recipe.data, "root": recipe.root, "labels": recipe.labels}
    return {key: absolute(path) for key, path in paths.items() if path is not None}


def absolute(data: str) -> str:
    """An absolute path, so that a run can be resumed from any folder; addresses stay as given."""
    return data if "://" in data else str(Path(data).expanduser().absolute())
