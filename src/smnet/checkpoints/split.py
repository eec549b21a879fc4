"""Which clips of a data set a network was trained on, where the data leave that open.

Without PyTorch: a checkpoint tells it by its recipe, an exported file by its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError


@dataclass(frozen=True)
class Division:
    """How clips are divided into those to train on and the rest.

    Attributes:
        fold: the official division of UCF101 and HMDB51.
        val_fraction: share of the validation clips, where the annotation has no split.
        split_seed: seed by which these are drawn then.
    """

    fold: Annotated[int, Field(ge=1, le=3)] = 1
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def words(self) -> dict[str, Any]:
        """As :func:`smnet.data.annotations.read.read_clips` takes it."""
        return {"fold": self.fold, "val_fraction": self.val_fraction, "seed": self.split_seed}

    def to_json(self) -> str:
        """For a file's metadata."""
        return json.dumps(asdict(self))


_DIVISION = TypeAdapter(Division)


def division_of_recipe(recipe: Mapping[str, Any]) -> Division | None:
    """The division that a recipe names, plain values that anybody may have written; else None."""
    # Runs whose split had no seed of its own drew it by theirs.
    seed = recipe.get("split_seed", recipe.get("seed"))
    said = {"fold": recipe.get("fold"), "val_fraction": recipe.get("val_fraction")}
    try:
        return _DIVISION.validate_python({**said, "split_seed": seed})
    except ValidationError:
        return None


def division_of_json(text: str) -> Division | None:
    """The inverse of :meth:`Division.to_json`; None if it is anything else."""
    try:
        return _DIVISION.validate_json(text)
    except ValidationError:
        return None
