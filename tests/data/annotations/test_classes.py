"""Class names: orders that are matched, and what a mirror does to labels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnet.data.annotations.classes import match
from smnet.data.annotations.mirror import mirror
from smnet.data.annotations.names import read_class_names
from smnet.errors import UserError

LABELMAPS = os.environ.get("SMNET_TEST_LABELMAPS")
needs_labelmaps = pytest.mark.skipif(
    not LABELMAPS, reason="SMNET_TEST_LABELMAPS is not set: the data sets' label maps are not here"
)


# --- order -----------------------------------------------------------------------------------


def test_the_order_brings_model_scores_into_the_order_of_the_data() -> None:
    model, data = ["run", "sit", "jump"], ["jump", "run", "sit"]
    order = match(model, data).order
    assert order == [2, 0, 1]
    scores = np.array([[10, 20, 30]])  # run 10, sit 20, jump 30
    assert scores[:, order].tolist() == [[30, 10, 20]]


@given(st.permutations([f"class {i}" for i in range(12)]))
def test_classes_are_matched_by_name(data: list[str]) -> None:
    model = [f"class {i}" for i in range(12)]
    assert [model[i] for i in match(model, data).order] == data


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (["a b", "c"], ["a b", "c"], ""),
        (["Abc", "d"], ["abc", "D"], "case"),
        (["riding a bike", "x"], ["riding_a_bike", "x"], "blanks or underscores"),
        (["Closing [something]", "x"], ["Closing something", "x"], "brackets"),
        (
            ["[Something] falling", "x"],
            ["something_falling", "x"],
            "case, blanks or underscores, b",
        ),
        (["caf\u00e9", "x"], ["cafe\u0301", "x"], ""),
    ],
)
def test_harmless_differences_are_ignored_and_reported(
    model: list[str], data: list[str], message: str
) -> None:
    found = match(model, data)
    assert found.order == [0, 1]
    expected = f"names compared without {message}" if message else ""
    assert found.note.startswith(expected) if message else found.note == ""


def test_another_order_is_reported() -> None:
    assert "2 of 3 classes have another position" in match(["a", "b", "c"], ["b", "a", "c"]).note


def test_case_is_kept_where_it_tells_classes_apart() -> None:
    assert match(["Polish", "polish"], ["polish", "Polish"]).order == [1, 0]
    with pytest.raises(UserError):
        match(["Polish", "polish"], ["POLISH", "polish"])


def test_different_sets_are_refused_with_the_difference() -> None:
    with pytest.raises(UserError) as caught:
        match(["run", "sit", "Jump up"], ["run", "stand", "jump_up", "lie"])
    message = str(caught.value)
    assert "the model has 3 classes, the data have 4" in message
    assert "only the model has 'sit'" in message
    assert "only the data have 'stand', 'lie'" in message
    assert "umps" not in message
    with pytest.raises(UserError, match="and 25 more"):
        match([f"m{i}" for i in range(30)], ["x"])
    with pytest.raises(UserError, match="more than once"):
        match(["a", "a"], ["a", "b"])
    with pytest.raises(UserError, match="numbers for names"):
        match(["run", "sit"], ["0", "1"])


# --- mirror ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["run", "sit"], (0, 1)),
        (["swipe left", "up", "swipe right"], (2, 1, 0)),
        (["pull from left to right", "pull from right to left"], (1, 0)),
        (["TurnLeft", "TurnRight", "Stop"], (1, 0, 2)),
        (["turn_right", "turn_left"], (1, 0)),
        (["LEFT", "RIGHT"], (1, 0)),
        (["left-handed throw", "right-handed throw"], (1, 0)),
        (["drift leftwards", "drift rightwards"], (1, 0)),
        (["Hand Clockwise", "Hand Counterclockwise"], (1, 0)),
        (["turn anti-clockwise", "turn clockwise"], (1, 0)),
        (["turn counter clockwise", "turn clockwise"], (1, 0)),
        # Both at once: the mirror image of left + clockwise is right + counterclockwise.
        (
            [
                "left clockwise",
                "right clockwise",
                "left counterclockwise",
                "right counterclockwise",
            ],
            (3, 2, 1, 0),
        ),
        (["thumb up", "thumb down", "both hands"], (0, 1, 2)),
        (["stand upright", "outright lie", "bright light", "eat leftovers"], (0, 1, 2, 3)),
        (["pulling it right out", "turn right side up", "leave left over food"], (0, 1, 2)),
        (["look left and right", "nod"], (0, 1)),
        (["look left and right", "look right and left"], (1, 0)),
        (["push [left]", "push (right)"], (1, 0)),
    ],
)
def test_mirror_by_name(names: list[str], order: tuple[int, ...]) -> None:
    assert mirror(names).order == order


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["raise the left hand", "run"], "no class is the mirror image of 'raise the left hand'"),
        (["turn clockwise", "run"], "no class is the mirror image of 'turn clockwise'"),
        (["left then right", "run"], "no class is the mirror image"),
        (["swipe_L", "swipe_R"], "L and R may or may not be sides"),
        (["0", "1", "2"], "numbers for names"),
        (["turn left", "turn_left", "turn right"], "too much alike"),
    ],
)
def test_mirror_is_undecided_rather_than_wrong(names: list[str], reason: str) -> None:
    assert mirror(names).order is None
    assert reason in mirror(names).reason


WORDS = st.lists(
    st.sampled_from(["left", "right", "and", "up", "out", "clockwise", "counterclockwise", "Hand"]),
    min_size=1,
    max_size=4,
)


@given(st.lists(WORDS.map(" ".join), min_size=1, max_size=12, unique=True))
def test_mirroring_twice_is_no_change(names: list[str]) -> None:
    order = mirror(names).order
    if order is not None:
        assert [order[i] for i in order] == list(range(len(names)))


@given(st.permutations(["a left", "a right", "b", "clockwise c", "counterclockwise c"]))
def test_mirror_does_not_depend_on_the_order_of_classes(names: list[str]) -> None:
    order = mirror(names).order
    assert order is not None
    mirrored = {names[i]: names[j] for i, j in enumerate(order)}
    assert mirrored == {
        "a left": "a right",
        "a right": "a left",
        "b": "b",
        "clockwise c": "counterclockwise c",
        "counterclockwise c": "clockwise c",
    }


# --- the data sets' own names ----------------------------------------------------------------


@needs_labelmaps
@pytest.mark.parametrize(
    ("file", "pairs"),
    [
        ("something_v1/category.txt", [(86, 87), (93, 94), (166, 167)]),
        ("something_v2/something-something-v2-labels.json", [(86, 87), (93, 94), (166, 167)]),
        ("jester/jester-v1-labels.csv", [(0, 1), (6, 7), (14, 15)]),
        ("kinetics400/kinetics-400_label_map.txt", []),
        ("ucf101/category.txt", []),
        ("hmdb51/category.txt", []),
    ],
)
def test_mirror_of_the_data_sets(file: str, pairs: list[tuple[int, int]]) -> None:
    names = read_class_names(Path(LABELMAPS or "") / file)
    found = mirror(names)
    assert found.order is not None
    assert [(i, j) for i, j in enumerate(found.order) if i < j] == pairs


@needs_labelmaps
def test_something_v2_with_and_without_brackets() -> None:
    folder = Path(LABELMAPS or "") / "something_v2"
    model = read_class_names(folder / "something-something-v2-labels.json")
    data = read_class_names(folder / "category.txt")
    order = match(model, data).order
    assert sorted(order) == list(range(174))
    assert order != list(range(174))
    for index, name in zip(order, data, strict=True):
        assert model[index].lower() == name.replace("[", "").replace("]", "").lower()
