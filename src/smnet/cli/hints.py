"""Hints for slips on the command line: "did you mean ...?"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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
    "join": "data join",
}
"""Words that people try, and the verbs that do it."""

DATA_VERBS = ("show", "check", "stats", "pack", "join")


def did_you_mean(words: Sequence[str], option: str = "") -> str:
    """The likely intention behind a command line that cannot be parsed, "" if none is seen.
    ``option`` is the option that does not exist, if that is the error."""
    verb, *rest = [*words, ""]
    given = [word for word in rest if word and not word.startswith("-")]
    if verb in OTHER_NAMES:
        return f"Did you mean smnet {OTHER_NAMES[verb]}?"
    if verb == "data" and given and given[0] not in DATA_VERBS and Path(given[0]).exists():
        return f"Did you mean smnet data show {given[0]}?"
    if verb == "evaluate" and "--data" not in words and len(given) > 1:
        return f"Did you mean --data {given[-1]}?"
    if verb in ("export", "convert") and "--out" not in words and len(given) > 1:
        return f"Did you mean --out {given[-1]}?"
    if verb in ("train", "compare") and option:
        return _recipe_key(option, rest)
    return ""


def _recipe_key(option: str, words: Sequence[str]) -> str:
    """``--epochs 5`` is written ``epochs=5``."""
    from smnet.recipes.recipe import Recipe

    key = option.lstrip("-").replace("-", "_")
    if key not in Recipe.model_fields:
        return ""
    for word, following in pairwise(words):
        if word == option or word.startswith(f"{option}="):
            return f"Did you mean {key}={word.partition('=')[2] or following or 'VALUE'}?"
    return ""


def check_recipe_word(word: str | None) -> None:
    """Refuse a data set or a model in the place of a recipe."""
    if word is None or Path(word).suffix in (".yaml", ".yml"):
        return
    if Path(word).is_dir() or Path(word).suffix in (".csv", ".txt", ".json", ".tsv"):
        option = "--resume" if (Path(word) / "recipe.yaml").is_file() else "--data"
        raise UserError(f"{word} is not a recipe; did you mean {option} {word}?")
    from smnet.models import list_models

    if word in list_models():
        raise UserError(f"{word} is a model, not a recipe; did you mean model={word}?")


def check_order(checkpoint: str) -> None:
    """Refuse a video in the place of the checkpoint."""
    if Path(checkpoint).suffix.lower() in (".mp4", ".avi", ".mkv", ".mov", ".webm"):
        raise UserError(
            f"{checkpoint} is a video; the checkpoint comes first: smnet predict CHECKPOINT"
            f" {checkpoint}"
        )
