"""The models of a comparison, from a study file or from the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from smnet.errors import UserError
from smnet.recipes.recipe import key_and_value, nearest, read_yaml


@dataclass(frozen=True)
class Candidate:
    """A model, compared with others under one recipe: its name in the table, its registry name, and
    its options in addition to those of the recipe."""

    label: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)

    def refused(self, error: Exception) -> UserError:
        """The error, with the label in front unless the message contains the model's name."""
        named = self.label.partition(":")[0] == self.model and self.model in str(error)
        return UserError(str(error) if named else f"{self.label}: {error}")


def read_study(name: str) -> list[Candidate]:
    """Read a study by name, or a YAML file of the same form.

    Raises:
        UserError: the study does not exist, or the file has another form.
    """
    folder = files("smnet.recipes.studies")
    known = sorted(e.name.removesuffix(".yaml") for e in folder.iterdir() if ".yaml" in e.name)
    if name in known:
        text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{name}: cannot be read as a study ({error})") from None
    else:
        raise UserError(f"no study {name!r}{nearest(name, known)}")
    try:
        content = read_yaml(text)
        table = content["variants"]
        _check_keys(name, content, ("about", "variants"))
        for label, row in table.items():
            if not str(label).isprintable():
                raise UserError(f"{name}: the label {label!r} has unprintable characters")
            _check_keys(f"{name}: {label}", row, ("model", "options"))
        variants = [_candidate(label, **row) for label, row in table.items()]
    except (yaml.YAMLError, RecursionError, TypeError, KeyError, AttributeError) as error:
        reason = f" ({error.problem})" if isinstance(error, yaml.MarkedYAMLError) else ""
        raise UserError(
            f"{name}: a study has variants: {{label: {{model: …, options: …}}}}{reason}"
        ) from None
    if not variants:
        raise UserError(f"{name}: the study has no variants")
    return variants


def read_models(text: str) -> list[Candidate]:
    """Read model names separated by commas, each with its options after colons
    (``tdn_resnet18,smnet_resnet18:groups=2:stages=[4,5]``).

    Raises:
        UserError: a name does not start with a letter, or an option is not ``key=value`` or is
            given twice.
    """
    models: list[Candidate] = []
    for word in re.split(r",(?![^\[]*\])", text):
        model, *pairs = (part.strip() for part in word.split(":"))
        if not re.match("[A-Za-z]", model):
            hint = "; write lists in brackets, stages=[4,5]" if models else ""
            raise UserError(f"{text!r}: {model!r} is not a model name{hint}")
        for pair in pairs:
            if "=" not in pair:
                raise UserError(f"{word.strip()}: write options as :key=value, not :{pair}")
        options = dict(map(key_and_value, pairs))
        if len(options) < len(pairs):
            raise UserError(f"{word.strip()}: an option is given twice")
        models.append(Candidate(word.strip(), model, options))
    return models


def _check_keys(where: str, table: Any, known: tuple[str, ...]) -> None:
    for key in table if isinstance(table, dict) else ():
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{nearest(str(key), known)}")


def _candidate(label: Any, *, model: str, options: dict[str, Any] | None = None) -> Candidate:
    # Unknown keys, and option names that are not strings, raise TypeError here.
    return Candidate(str(label), str(model), dict(**(options or {})))
