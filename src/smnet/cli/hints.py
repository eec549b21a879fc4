"""Hints for slips on the command line: "did you mean ...?"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smnet.errors import UserError

OTHER_NAMES = {
    "eval": "evaluate",
    "test": "evaluate",
    "val": "evaluate",
    "validate": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "detect": "predict",
    "recognize": "predict",
    "resume": "train --resume",
    "finetune": "train",
    "fine-tune": "train",
    "benchmark": "profile",
    "cost": "profile",
    "list": "models",
    "check": "data check",
    "pack": "data pack",
    "show": "data show",
    "stats": "data stats",
}
"""Words that people try, and the verbs that do it."""

DATA_VERBS = ("show", "check", "stats", "pack")


def did_you_mean(words: Sequence[str]) -> str:
    """The likely intention behind a command line that cannot be parsed; empty if none is seen."""
    verb, *rest = [*words, ""]
    given = [word for word in rest if word and not word.startswith("-")]
    if verb in OTHER_NAMES:
        return f"did you mean smnet {OTHER_NAMES[verb]}?"
    if verb == "data" and given and given[0] not in DATA_VERBS and Path(given[0]).exists():
        return f"did you mean smnet data show {given[0]}?"
    if verb == "evaluate" and "--data" not in words and len(given) > 1:
        return f"did you mean --data {given[-1]}?"
    if verb in ("export", "convert") and "--out" not in words and len(given) > 1:
        return f"did you mean --out {given[-1]}?"
    if verb in ("train", "compare"):
        return _recipe_key(rest)
    return ""


def _recipe_key(words: Sequence[str]) -> str:
    """``--epochs 5`` is written ``epochs=5``."""
    from smnet.recipes.recipe import Recipe

    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, _, value = word.partition("=")
        key = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and key in Recipe.model_fields:
            return f"did you mean {key}={value or following or 'VALUE'}?"
    return ""


def check_recipe_word(word: str | None) -> None:
    """Refuse a data set or a model in the place of a recipe.

    Raises:
        UserError: with the option that was probably meant.
    """
    if word is None or Path(word).suffix in (".yaml", ".yml"):
        return
    if Path(word).is_dir() or Path(word).suffix in (".csv", ".txt", ".json", ".tsv"):
        option = "--resume" if (Path(word) / "recipe.yaml").is_file() else "--data"
        raise UserError(f"{word} is not a recipe; did you mean {option} {word}?")
    from smnet.models import list_models

    if word in list_models():
        raise UserError(f"{word} is a model, not a recipe; did you mean model={word}?")
