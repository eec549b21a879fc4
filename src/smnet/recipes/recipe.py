"""Reading recipes: from the package or a file, with overrides, and writing them as YAML."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from smnet.errors import UserError
from smnet.models.options import describe, did_you_mean, explain
from smnet.recipes.keys import SECTIONS, Recipe

MAY_CHANGE = frozenset(
    (
        *("about", "expected", "views"),
        *("data", "format", "root", "labels", "on_error", "decoder"),
        *("device", "channels_last", "compile", "workers", "deterministic"),
        *("gradient_checkpointing", "track", "cache", "save_minutes"),
    )
)
"""Keys that may differ when a run is resumed. They say where and how it reads and computes, not
what it learns; the clips are compared separately."""

COMMENT_COLUMN, WIDTH = 32, 100
"""Where the comments of :func:`annotated_recipe` begin and end."""


def other_values(earlier: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """The keys that decide a result and have changed: ``lr: 0.01 then, 0.02 now``.

    Args:
        earlier: plain values of the earlier recipe. Keys that it lacks are ignored.
        recipe: the present recipe. In a run by ``minutes`` the epochs follow from the speed.
    """
    may_change = MAY_CHANGE | ({"epochs", "warmup", "retrain"} if recipe.minutes else set())
    return [
        f"{key}: {earlier[key]} then, {value} now"
        for key, value in recipe.model_dump(mode="json").items()
        if key not in may_change and key in earlier and earlier[key] != value
    ]


def describe_expected(expected: Mapping[str, Any]) -> str:
    """One line on the accuracy that a recipe should reach, its protocol and its source."""
    numbers = [f"{k} {100 * expected[k]:.1f} %" for k in ("top1", "top5") if expected.get(k)]
    words = f"expected {', '.join(numbers)}" if numbers else "expected"
    return f"{words} at views {expected.get('views', '1x1')}: {expected.get('source', 'unknown')}"


def list_recipes() -> dict[str, str]:
    """The recipes of the package by name, with their ``about``."""
    recipes = {}
    for entry in sorted(files("smnet.recipes").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            values = yaml.safe_load(entry.read_text(encoding="utf-8"))
            recipes[entry.name.removesuffix(".yaml")] = str(values.get("about", ""))
    return recipes


def read_recipe(
    source: str | None = None,
    overrides: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe by name or path, with overrides.

    Args:
        source: the name of a recipe of the package, or the path of a YAML file. None or
            ``"default"``: the defaults.
        overrides: ``key=value`` in YAML notation. ``options.place=after_conv1`` sets one option.
        values: further overrides as plain values.

    Raises:
        UserError: an unknown recipe or key (with the nearest known one), or an impossible value.
    """
    content, where = _read(source)
    given = [*map(key_and_value, overrides), *(values or {}).items()]
    for key, value in given:
        _set(content, key, value)
    _shorten_warmup(content, {key for key, _ in given})
    for key in content:
        if key not in Recipe.model_fields:
            hint = nearest(str(key), Recipe.model_fields)
            raise UserError(
                f"{where}: unknown key {key!r}{hint} (write options of the model as options.{key})"
            )
    try:
        return Recipe(**content)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, Recipe)}") from None


def _shorten_warmup(content: dict[str, Any], given: set[str]) -> None:
    """The warmup of a recipe becomes a tenth of the epochs if it would take all of them."""
    epochs, warmup = content.get("epochs"), content.get("warmup")
    if not isinstance(epochs, int) or not isinstance(warmup, int | float) or "warmup" in given:
        return
    if warmup >= epochs > 0:
        content["warmup"] = epochs / 10


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, which PyYAML accepts."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(problem=f"{twice[0]} is given twice")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_yaml(text: str) -> Any:
    """Plain values from YAML; ``yaml.YAMLError`` for anything else and for repeated keys."""
    try:
        return yaml.load(text, _Loader)
    except ValueError as error:  # PyYAML's error for an impossible date such as 2020-13-45
        raise yaml.YAMLError(str(error)) from None


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, with all keys in their order."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def annotated_recipe(recipe: Recipe) -> str:
    """:func:`dump_recipe` with the meaning and the accepted values of each key as comments."""
    lines: list[str] = []
    values = recipe.model_dump(mode="json")
    for key, _, accepted, meaning in describe(Recipe):
        if key in SECTIONS:
            lines += ["", f"# {SECTIONS[key]}"]
        if accepted not in ("text", "text, or null", "a table", "a table, or null"):
            meaning += f" Values: {accepted}."
        inline = None if isinstance(values[key], list) else False
        value = yaml.safe_dump(
            {key: values[key]}, default_flow_style=inline, sort_keys=False, allow_unicode=True
        )
        lines += _beside(value.splitlines(), textwrap.wrap(meaning, WIDTH - COMMENT_COLUMN - 2))
    return "\n".join(lines) + "\n"


def _beside(value: list[str], comment: list[str]) -> list[str]:
    """A value with its comment at the right, or below a heading of comments if it is too long."""
    if len(value) > 1 or len(value[0]) > COMMENT_COLUMN - 2:
        return [*(f"# {line}" for line in comment), *value]
    left = value + [""] * (len(comment) - 1)
    return [f"{v:{COMMENT_COLUMN}}# {line}" for v, line in zip(left, comment, strict=True)]


def _read(source: str | None) -> tuple[dict[str, Any], str]:
    """The values of a recipe, and how messages name it."""
    if source in (None, "default"):
        return {}, "recipe"
    packaged = files("smnet.recipes") / f"{source}.yaml"
    path = Path(source)
    if "/" not in source and "\\" not in source and packaged.is_file():
        text, where = packaged.read_text(encoding="utf-8"), f"recipe {source}"
    elif path.is_file():
        try:
            text, where = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as a recipe ({error})") from None
    else:
        hint = nearest(source, list_recipes())
        raise UserError(f"{source!r} is neither the name nor the path of a recipe{hint}")
    try:
        values = read_yaml(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: a recipe is a table of keys and values")
    return values, where


def key_and_value(word: str) -> tuple[str, Any]:
    """The key and the value, read as YAML, of ``key=value``.

    Raises:
        UserError: another form.
    """
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UserError(f"{word!r}: write key=value, for instance epochs=20")
    try:
        return key.strip(), read_yaml(value)
    except yaml.YAMLError:
        raise UserError(f"{word!r}: the value is not YAML") from None


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key``, or the entry of a table for a key such as ``options.width``."""
    head, _, rest = key.partition(".")
    if not rest:
        values[head] = value
        return
    table = values.get(head, {})
    if not isinstance(table, dict):
        raise UserError(f"{key}: {head} is not a table")
    values[head] = table = dict(table)
    _set(table, rest, value)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known word, or all of them."""
    return did_you_mean(word, known) or f"; known: {', '.join(known)}"
