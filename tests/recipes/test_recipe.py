"""Recipes: read, overridden, checked, and every refusal in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from smnet.errors import UserError
from smnet.recipes.recipe import (
    Expected,
    Recipe,
    dump_recipe,
    list_recipes,
    nearest,
    parse_views,
    read_recipe,
)


def test_without_anything_it_is_the_default() -> None:
    assert read_recipe() == Recipe()


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_of_the_package(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    assert recipe.about
    assert list_recipes()[name] == recipe.about
    written = tmp_path / "again.yaml"
    written.write_text(dump_recipe(recipe), encoding="utf-8")
    assert read_recipe(str(written)) == recipe


def test_dump_is_complete_and_in_order() -> None:
    values = yaml.safe_load(dump_recipe(Recipe(about="für alle", milestones=(3, 5))))
    assert list(values) == list(Recipe.model_fields)
    assert values["about"] == "für alle"
    assert values["milestones"] == [3, 5]


def test_words_then_given_override_the_file(tmp_path: Path) -> None:
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
    ("word", "says"),
    [
        ("epochs=many", r"epochs: .*integer.*'many'"),
        ("epochs=2.5", r"epochs: .*integer.*2\.5"),
        ("epochs=0", r"epochs: must be greater than or equal to 1 \(got 0\)"),
        ("epochs=abc", r"epochs: must be a valid integer \(got 'abc'\)"),
        ("batch=-1", r"batch: .*-1"),
        ("lr=0", r"lr: .*greater than 0"),
        ("lr=.nan", r"lr: .*nan"),
        ("lr=.inf", r"lr: .*inf"),
        ("milestones=[.nan]", "milestones"),
        ("milestones=[-1]", "milestones"),
        ("epochs=true", "epochs=true: true and false are no values of it"),
        ("lr=on", "lr=true: true and false are no values of it"),
        ("flip=on", "flip=true"),
        ("workers=999999999999", "workers"),
        ("about=2020-13-45", "the value is not YAML"),
        ("first_label=2", "first_label"),
        ("lr=fast", r"lr: .*'fast'"),
        ("dropout=1", r"dropout: .*less than 1"),
        ("momentum=1.5", "momentum"),
        ("ema=1", "ema"),
        ("size=8", "size"),
        ("segments=0", "segments"),
        ("segments=1000", "segments"),
        ("val_fraction=0", "val_fraction"),
        ("seed=-1", "seed"),
        ("seed=100000000000000000000", "seed"),
        ("optimizer=adam", r"optimizer: .*'sgd' or 'adamw'.*'adam'"),
        ("schedule=linear", "schedule"),
        ("crop=random", "crop"),
        ("flip=maybe", "flip"),
        ("amp=fp8", "amp"),
        ("on_error=ignore", "on_error"),
        ("options=5", "options"),
        ("weights=null", "weights"),
        ("expected.top9=1", "expected.*top9"),
        ("milestones=10,20", "milestones"),
        ("milestones=[2, 1]", "milestones must rise"),
        ("schedule=step", "schedule=step needs milestones"),
        ("warmup=30", "warmup=30 leaves nothing of epochs=30; .* warmup=3$"),
        ("short_side=128", "short_side=128 is smaller than size=224"),
        ("views=7x2", "crops must be 1, 3 or 5"),
        ("nonsense", "write key=value, for instance epochs=20"),
        ("=5", "write key=value"),
        ("epochs=[1", "the value is not YAML"),
    ],
)
def test_a_value_that_cannot_be(word: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        read_recipe(None, [word])
    assert "\n" not in str(caught.value)


def test_a_key_below_something_that_is_no_table() -> None:
    with pytest.raises(UserError, match="epochs is not a table"):
        read_recipe(None, ["epochs=3", "epochs.more=1"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"epochs: [", "not YAML"),
        (b"epochs: 2020-13-45\n", r"not YAML: month must be in 1\.\.12"),
        (b"- a\n- b\n", "a recipe is a table of keys and values"),
        (b"just words", "a recipe is a table"),
        (b"1: 2\n", "unknown key 1"),
        (b"lr: 0.1\nepochs: 2\nlr: 0.2\n", "not YAML: lr is there twice"),
        (b"? [a, b]\n: c\n", "not YAML|unknown key"),
        (b"\xff\xfe\x00", "cannot be read as a recipe"),
        (b"epochs: !!python/object/apply:os.system ['true']\n", "not YAML"),
        (b"[" * 3000, "not YAML"),
        (b"epohcs: 3\n", "unknown key 'epohcs'; did you mean 'epochs'"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read_recipe(str(file))
    assert str(caught.value).startswith(str(file))


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_recipe(str(tmp_path / "empty.yaml")) == Recipe()


def test_no_such_recipe() -> None:
    with pytest.raises(UserError, match="no recipe 'motoin', by name or path; did you mean 'mot"):
        read_recipe("motoin")
    with pytest.raises(UserError, match=r"no recipe '/nowhere/x\.yaml'"):
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
def test_views_that_are_none(views: str) -> None:
    with pytest.raises(UserError, match="views="):
        parse_views(views)


def test_nearest_is_silent_about_far_words() -> None:
    assert nearest("smnett", ["smnet", "tsn"]) == "; did you mean 'smnet'?"
    assert nearest("zzz", ["smnet", "tsn"]) == "; known: smnet, tsn"


def test_a_run_of_one_epoch_is_not_all_warmup() -> None:
    assert read_recipe(words=["epochs=1"]).warmup == 0.1
    assert read_recipe(words=["epochs=2"]).warmup == 1
    with pytest.raises(UserError, match="warmup=1 leaves nothing of epochs=1"):
        read_recipe(words=["epochs=1", "warmup=1"])


def test_the_defaults_have_a_name() -> None:
    assert read_recipe("default", ["lr=0.1"]) == Recipe(lr=0.1)


def test_what_yaml_reads_otherwise(tmp_path: Path) -> None:
    recipe = read_recipe(None, ["flip=off", "amp=off", "randaugment=", "freeze_norm=yes"])
    assert (recipe.flip, recipe.amp, recipe.randaugment) == ("off", "off", "")
    assert recipe.freeze_norm is True
    (tmp_path / "own.yaml").write_text("flip: off\namp: no\nrandaugment:\n")
    recipe = read_recipe(str(tmp_path / "own.yaml"))
    assert (recipe.flip, recipe.amp, recipe.randaugment) == ("off", "off", "")
