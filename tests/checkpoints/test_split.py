"""Which clips were trained on, as checkpoints and exported files say it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnet.checkpoints.split import Division, division_of_json, division_of_recipe
from smnet.recipes.recipe import read_recipe

DIVISIONS = st.builds(
    Division,
    st.integers(1, 3),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 2**32 - 1),
)


@given(DIVISIONS)
def test_round_trip(division: Division) -> None:
    assert division_of_json(division.to_json()) == division


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"fold": 4}', '{"val_fraction": 1}', '{"split_seed": "x"}']
)
def test_anything_else_in_a_file(text: str) -> None:
    assert division_of_json(text) is None


def test_of_recipes() -> None:
    assert division_of_recipe({}) is None
    assert division_of_recipe(read_recipe(None).model_dump(mode="json")) == Division()
    said = {"fold": 2, "val_fraction": 0.3, "split_seed": 4, "seed": 9}
    assert division_of_recipe(said) == Division(2, 0.3, 4)
    del said["split_seed"]
    assert division_of_recipe(said) == Division(2, 0.3, 9)


def test_as_a_data_set_is_read() -> None:
    assert Division(2, 0.3, 4).words == {"fold": 2, "val_fraction": 0.3, "seed": 4}
