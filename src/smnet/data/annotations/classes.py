"""Matches the classes of a model and of a data set by name.

Projects number the classes of one data set differently (Something-Something V1: 173 of 174 differ).
An index used across two such orders is wrong without an error, so only names are compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from smnet.errors import UserError

_SHOWN = 5

# The differences between two spellings of one class that may be ignored.
_HARMLESS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("case", str.casefold),
    ("blanks or underscores", lambda name: re.sub(r"[\s_]+", "", name)),
    ("brackets", lambda name: re.sub(r"[\[\](){}]", "", name)),
)


@dataclass(frozen=True)
class Matching:
    """The correspondence of the classes of a model and of a data set.

    Attributes:
        order: ``order[i]`` is the model's index of class i of the data, so ``scores[:, order]`` are
            the model's scores in the order of the data.
        note: "" if names and order are equal, else the difference, for the user.
    """

    order: list[int]
    note: str


def match(model_names: Sequence[str], data_names: Sequence[str]) -> Matching:
    """Match two lists of class names.

    Names are compared exactly. If that fails, the fewest differences of case, blanks and
    underscores, and brackets are ignored, as long as the names within each list remain distinct.

    Raises:
        UserError: a name occurs twice in one list, or the sets of names differ.
    """
    model = [unicodedata.normalize("NFC", name.strip()) for name in model_names]
    data = [unicodedata.normalize("NFC", name.strip()) for name in data_names]
    for names, owner in ((model, "model"), (data, "data")):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"the class names of the {owner} have {some(twice)} more than once")
    choices = (chosen for size in range(4) for chosen in combinations(_HARMLESS, size))
    for chosen in choices:
        reduced = [_reduce(name, chosen) for name in model]
        wanted = [_reduce(name, chosen) for name in data]
        distinct = len(set(reduced)) == len(model) and len(set(wanted)) == len(data)
        if distinct and set(reduced) == set(wanted):
            position = {name: index for index, name in enumerate(reduced)}
            order = [position[name] for name in wanted]
            return Matching(order, _note(order, [difference for difference, _ in chosen]))
    raise UserError(_difference(model, data))


def numbered(names: Sequence[str]) -> bool:
    """Whether the names are numbers, as in lists without class names."""
    return bool(names) and all(re.fullmatch(r"[0-9]+", name) for name in names)


def some(names: list[str]) -> str:
    """The first few names, quoted, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _note(order: list[int], ignored: list[str]) -> str:
    notes = []
    moved = sum(index != position for position, index in enumerate(order))
    if moved:
        notes.append(f"{moved} of {len(order)} classes have another position; matched by name")
    if ignored:
        notes.append(f"names compared without {', '.join(ignored)}")
    return "; ".join(notes)


def _difference(model: list[str], data: list[str]) -> str:
    common = {_reduce(n, _HARMLESS) for n in model} & {_reduce(n, _HARMLESS) for n in data}
    only_model = [name for name in model if _reduce(name, _HARMLESS) not in common]
    only_data = [name for name in data if _reduce(name, _HARMLESS) not in common]
    text = f"the model has {len(model)} classes, the data have {len(data)}, and they differ"
    if only_model:
        text += f"; only the model has {some(only_model)}"
    if only_data:
        text += f"; only the data have {some(only_data)}"
    for names, owner in ((data, "data"), (model, "model")):
        if numbered(names):
            text += f"; the {owner} have numbers for names: give the class names with --labels"
    return text


def _reduce(name: str, chosen: Sequence[tuple[str, Callable[[str], str]]]) -> str:
    for _, reduce in chosen:
        name = reduce(name)
    return name
