"""Recipes: reading, overrides, error messages, and writing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from smnet.errors import UserError
from smnet.recipes.keys import SECTIONS, Expected, Recipe
from smnet.recipes.recipe import (
    annotated_recipe,
    dump_recipe,
    list_recipes,
    nearest,
    read_recipe,
)
from smnet.recipes.views import parse_views


def test_the_default_recipe() -> None:
    assert read_recipe() == Recipe()


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_of_the_package(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    assert recipe.about
    assert list_recipes()[name] == recipe.about
    written = tmp_path / "again.yaml"
    written.write_text(dump_recipe(recipe), encoding="utf-8")
    assert read_recipe(str(written)) == recipe


@pytest.mark.parametrize("name", ["default", *list_recipes()])
def test_an_annotated_recipe_is_a_recipe(name: str, tmp_path: Path) -> None:
    text = annotated_recipe(read_recipe(name))
    written = tmp_path / "annotated.yaml"
    written.write_text(text, encoding="utf-8")
    assert read_recipe(str(written)) == read_recipe(name)
    assert all(len(line) <= 100 for line in text.splitlines() if "#" in line)


def test_every_key_has_a_meaning_and_its_values() -> None:
    assert all(field.description for field in Recipe.model_fields.values())
    assert set(SECTIONS) <= set(Recipe.model_fields)
    text = " ".join(annotated_recipe(Recipe()).replace("#", " ").split())
    assert "size: 224 Side of the square crop, pixels. Values: a whole number from 16 to" in text
    assert "Values: cosine, step or constant." in text


def test_dump_is_complete_and_in_order() -> None:
    values = yaml.safe_load(dump_recipe(Recipe(about="für alle", milestones=(3, 5))))
    assert list(values) == list(Recipe.model_fields)
    assert values["about"] == "für alle"
    assert values["milestones"] == [3, 5]


def test_overrides_and_values_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 3\nlr: 0.5\nwarmup: 0\noptions: {width: 16, groups: 4}\n")
    recipe = read_recipe(
        str(file),
        ["lr=1e-3", "options.width=8", "options.place=after_conv1", "milestones=[1, 2.5]"],
        {"epochs": 4},
    )
    assert (recipe.epochs, recipe.lr, recipe.warmup) == (4, 1e-3, 0)
    assert recipe.options == {"width": 8, "groups": 4, "place": "after_conv1"}
    assert recipe.milestones == (1, 2.5)


def test_values_are_yaml() -> None:
    words = ["freeze_norm=true", "workers=null", "flip='off'", "data=a=b"]
    recipe = read_recipe(None, words)
    assert recipe.freeze_norm is True
    assert recipe.workers is None
    assert recipe.flip == "off"
    assert recipe.data == "a=b"


def test_overrides_do_not_leak_into_the_next_recipe() -> None:
    read_recipe("motion", ["options.width=8"])
    assert read_recipe("motion").options != {"width": 8}


def test_expected_number_with_its_protocol() -> None:
    recipe = read_recipe(None, ["expected.top1=0.49", "expected.source=table 3"])
    assert recipe.expected == Expected(top1=0.49, views="1x1", source="table 3")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("epoch=3", "epochs"),
        ("learning_rate=1", None),
        ("batch_size=4", "batch"),
        ("optimiser=sgd", "optimizer"),
        ("label_smoothng=0", "label_smoothing"),
        ("Epochs=3", "epochs"),
        ("segment=8", "segments"),
    ],
)
def test_an_unknown_key_names_the_nearest(word: str, near: str | None) -> None:
    with pytest.raises(UserError) as caught:
        read_recipe(None, [word])
    key = word.partition("=")[0]
    hint = f"did you mean {near!r}?" if near else "known: about, "
    assert f"unknown key {key!r}; {hint}" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs=many", "epochs must be a whole number of at least 1, not 'many'"),
        ("epochs=2.5", r"epochs must be a whole number of at least 1, not 2\.5"),
        ("epochs=0", "epochs must be a whole number of at least 1, not 0"),
        ("batch=-1", "batch must be .*-1"),
        ("lr=0", "lr must be a number above 0, not 0"),
        ("lr=.nan", "lr must be .*nan"),
        ("lr=.inf", "lr must be .*inf"),
        ("milestones=[.nan]", "milestones"),
        ("milestones=[-1]", "milestones must be a list, each a number of at least 0"),
        ("epochs=true", "epochs must be a whole number of at least 1, not true"),
        ("lr=on", "lr must be a number above 0, not true"),
        ("flip=on", "flip must be auto or off, not true"),
        ("workers=999999999999", "workers"),
        ("about=2020-13-45", "the value is not YAML"),
        ("first_label=2", "first_label"),
        ("lr=fast", "lr must be .*'fast'"),
        ("dropout=1", "dropout must be a number from 0 to below 1, not 1"),
        ("momentum=1.5", "momentum"),
        ("ema=1", "ema"),
        ("size=8", "size"),
        ("segments=0", "segments"),
        ("segments=1000", "segments"),
        ("val_fraction=-0.1", "val_fraction"),
        ("seed=-1", "seed"),
        ("seed=100000000000000000000", "seed"),
        ("optimizer=adam", "optimizer must be sgd or adamw, not 'adam'"),
        ("schedule=linear", "schedule"),
        ("crop=random", "crop"),
        ("flip=maybe", "flip"),
        ("amp=fp8", "amp"),
        ("on_error=ignore", "on_error"),
        ("options=5", "options"),
        ("weights=null", "weights"),
        ("expected.top9=1", "expected has no key 'top9'"),
        ("milestones=10,20", "milestones"),
        ("milestones=[2, 1]", "milestones must rise"),
        ("schedule=step", "schedule=step needs milestones"),
        ("warmup=30", "warmup=30 takes all of epochs=30; .* warmup=3$"),
        ("short_side=128", "short_side=128 is smaller than size=224"),
        ("views=7x2", "crops must be 1, 3 or 5"),
        ("nonsense", "write key=value, for instance epochs=20"),
        ("=5", "write key=value"),
        ("epochs=[1", "the value is not YAML"),
    ],
)
def test_an_impossible_value(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(None, [word])
    assert "\n" not in str(caught.value)


def test_a_key_below_a_plain_value() -> None:
    with pytest.raises(UserError, match="epochs is not a table"):
        read_recipe(None, ["epochs=3", "epochs.more=1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs: [", "not YAML"),
        (b"epochs: 2020-13-45\n", r"not YAML: month must be in 1\.\.12"),
        (b"- a\n- b\n", "a recipe is a table of keys and values"),
        (b"just words", "a recipe is a table"),
        (b"1: 2\n", "unknown key 1"),
        (b"lr: 0.1\nepochs: 2\nlr: 0.2\n", "not YAML: lr is given twice"),
        (b"? [a, b]\n: c\n", "not YAML|unknown key"),
        (b"\xff\xfe\x00", "cannot be read as a recipe"),
        (b"epochs: !!python/object/apply:os.system ['true']\n", "not YAML"),
        (b"[" * 3000, "not YAML"),
        (b"epohcs: 3\n", "unknown key 'epohcs'; did you mean 'epochs'"),
    ],
)
def test_a_file_without_a_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(str(file))
    assert str(caught.value).startswith(str(file))


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_recipe(str(tmp_path / "empty.yaml")) == Recipe()


def test_no_such_recipe() -> None:
    with pytest.raises(UserError, match=r"'motoin' is neither the name .*did you mean 'motion'"):
        read_recipe("motoin")
    with pytest.raises(UserError, match=r"'/nowhere/x\.yaml' is neither"):
        read_recipe("/nowhere/x.yaml")


def test_the_short_side_follows_the_size() -> None:
    assert Recipe(size=224).resize_to == 256
    assert Recipe(size=112).resize_to == 128
    assert Recipe(size=64, short_side=64).resize_to == 64


@pytest.mark.parametrize(
    ("views", "parsed"), [("1x1", (1, 1)), ("10X3", (10, 3)), ("2x5", (2, 5)), ("100x1", (100, 1))]
)
def test_views(views: str, parsed: tuple[int, int]) -> None:
    assert parse_views(views) == parsed


@pytest.mark.parametrize(
    "views", ["", "1", "x", "1x", "x3", "0x1", "101x1", "1x2", "1x4", "-1x1", "1x1x1", "²x1", "a"]
)
def test_impossible_views(views: str) -> None:
    with pytest.raises(UserError, match="views="):
        parse_views(views)


def test_nearest_lists_all_words_if_none_is_near() -> None:
    assert nearest("smnett", ["smnet", "tsn"]) == "; did you mean 'smnet'?"
    assert nearest("zzz", ["smnet", "tsn"]) == "; known: smnet, tsn"


def test_the_warmup_of_a_single_epoch() -> None:
    assert read_recipe(overrides=["epochs=1"]).warmup == 0.1
    assert read_recipe(overrides=["epochs=2"]).warmup == 1
    with pytest.raises(UserError, match="warmup=1 takes all of epochs=1"):
        read_recipe(overrides=["epochs=1", "warmup=1"])
    assert read_recipe("motion").warmup == 1
    assert read_recipe("motion", ["epochs=1"]).warmup == 0.1
    with pytest.raises(UserError, match="warmup=1 takes all of epochs=1"):
        read_recipe("motion", ["epochs=1", "warmup=1"])


def test_the_defaults_have_a_name() -> None:
    assert read_recipe("default", ["lr=0.1"]) == Recipe(lr=0.1)


def test_off_and_empty_values_in_yaml(tmp_path: Path) -> None:
    recipe = read_recipe(None, ["flip=off", "amp=off", "randaugment=", "freeze_norm=yes"])
    assert read_recipe(None, ["retrain=on"]).retrain == "on"
    assert read_recipe(None, ["retrain=off"]).retrain == "off"
    assert (recipe.flip, recipe.amp, recipe.randaugment) == ("off", "off", "")
    assert recipe.freeze_norm is True
    (tmp_path / "own.yaml").write_text("flip: off\namp: no\nrandaugment:\n")
    recipe = read_recipe(str(tmp_path / "own.yaml"))
    assert (recipe.flip, recipe.amp, recipe.randaugment) == ("off", "off", "")
