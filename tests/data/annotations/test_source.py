"""The source of clips: options that travel with the path, and the split of a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest

from smnet.data.annotations.source import DEFAULT_SPLIT, ClipSource, as_source, split_of
from smnet.recipes.recipe import read_recipe


def test_a_plain_path_is_a_source() -> None:
    assert as_source("clips") == ClipSource("clips")
    source = ClipSource("clips", "csv", fold=2)
    assert as_source(source) is source


def test_open_split_options_have_defaults() -> None:
    source = ClipSource("clips", fold=3).with_split(None)
    assert (source.fold, source.val_fraction, source.split_seed) == (3, 0.2, 0)


def test_a_recipe_fills_open_split_options_only() -> None:
    recipe = {"fold": 2, "folds": 5, "val_fraction": 0.3, "split_seed": 4, "groups": "auto"}
    source = ClipSource("clips", "csv", root="videos", fold=1).with_split(recipe)
    assert source == ClipSource(
        "clips",
        "csv",
        root="videos",
        fold=1,
        val_fraction=0.3,
        split_seed=4,
        folds=5,
        groups="auto",
        copies=(),
        background="off",
    )


def test_split_of_recipes() -> None:
    default = {"fold": 1, "folds": 0, "val_fraction": 0.2, "split_seed": 0, "groups": "auto"}
    default |= {"background": "off", "copies": ()}
    assert split_of(read_recipe(None).model_dump(mode="json")) == default == DEFAULT_SPLIT


def test_earlier_checkpoints_keep_their_split() -> None:
    """Before recipes had a split_seed, cross-validation and guessed groups."""
    then = split_of({"fold": 2, "val_fraction": 0.3, "seed": 9})
    assert then == {
        "fold": 2,
        "folds": 0,
        "val_fraction": 0.3,
        "split_seed": 9,
        "groups": "off",
        "copies": (),
        "background": "off",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"fold": 1001},
        {"folds": -1},
        {"folds": 2.0},
        {"groups": "on"},
        {"fold": True},
        {"val_fraction": 1},
        {"val_fraction": float("nan")},
        {"split_seed": -1},
        {"split_seed": "x"},
        {"fold": None},
    ],
)
def test_split_values_out_of_range_are_ignored(wrong: dict[str, Any]) -> None:
    recipe = {"fold": 2, "val_fraction": 0.3, "split_seed": 4, **wrong}
    assert split_of(recipe) is None
    assert ClipSource("clips").with_split(recipe) == ClipSource("clips").with_split(None)


@pytest.mark.parametrize("value", ["ash", [["ash", 1]], [7], {"a": 1}])
def test_copies_out_of_a_file_are_checked(value: object) -> None:
    split = {"fold": 1, "val_fraction": 0.2, "split_seed": 0}
    assert split_of(split) == split_of({**split, "copies": None})
    assert split_of({**split, "copies": value}) is None
    good = split_of({**split, "copies": [["a", "b"]]})
    assert good is not None
    assert good["copies"] == (("a", "b"),)
