"""Class identity is by name: orders are matched by it, and so are the labels of mirrored clips.

The same data set is numbered differently by different projects (Something-Something V1: 173 of 174
positions). A number compared across two such orders is wrong without any error, so nothing here
takes an index for granted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from smnet.errors import UserError

_SHOWN = 5

# What may differ between two spellings of one class.
_HARMLESS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("case", str.casefold),
    ("blanks or underscores", lambda name: re.sub(r"[\s_]+", "", name)),
    ("brackets", lambda name: re.sub(r"[\[\](){}]", "", name)),
)


@dataclass(frozen=True)
class Matching:
    """How the classes of a model and of a data set go together.

    Attributes:
        order: ``order[i]`` is the model's index of the data's class i, so that
            ``scores[:, order]`` has the model's scores in the data's order.
        note: "" where the names agree in order and letter, else what differs, for people.
    """

    order: list[int]
    note: str


def permutation(model_names: Sequence[str], data_names: Sequence[str]) -> list[int]:
    """``order`` of ``match``: ``scores[:, order]`` puts model scores into the data's order.

    Raises:
        UserError: the two are not the same classes; the message shows the difference.
    """
    return match(model_names, data_names).order


def match(model_names: Sequence[str], data_names: Sequence[str]) -> Matching:
    """Match two lists of class names, by name alone.

    Names are compared as they are. Only where that fails, as few as need be of case, blanks and
    underscores, and brackets are disregarded, as long as the names within each list stay distinct.

    Raises:
        UserError: a name twice in one list, or the two sets of names differ.
    """
    model = [unicodedata.normalize("NFC", name.strip()) for name in model_names]
    data = [unicodedata.normalize("NFC", name.strip()) for name in data_names]
    for names, whose in ((model, "model"), (data, "data")):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"the class names of the {whose} hold {_some(twice)} more than once")
    choices = (chosen for size in range(4) for chosen in combinations(_HARMLESS, size))
    for chosen in choices:
        reduced = [_reduce(name, chosen) for name in model]
        wanted = [_reduce(name, chosen) for name in data]
        distinct = len(set(reduced)) == len(model) and len(set(wanted)) == len(data)
        if distinct and set(reduced) == set(wanted):
            position = {name: index for index, name in enumerate(reduced)}
            order = [position[name] for name in wanted]
            return Matching(order, _note(order, [what for what, _ in chosen]))
    raise UserError(_difference(model, data))


def _note(order: list[int], disregarded: list[str]) -> str:
    notes = []
    moved = sum(index != position for position, index in enumerate(order))
    if moved:
        notes.append(f"{moved} of {len(order)} classes stand in another place; matched by name")
    if disregarded:
        notes.append(f"names compared without regard to {', '.join(disregarded)}")
    return "; ".join(notes)


def _difference(model: list[str], data: list[str]) -> str:
    common = {_reduce(n, _HARMLESS) for n in model} & {_reduce(n, _HARMLESS) for n in data}
    only_model = [name for name in model if _reduce(name, _HARMLESS) not in common]
    only_data = [name for name in data if _reduce(name, _HARMLESS) not in common]
    text = f"the model knows {len(model)} classes, the data have {len(data)}, not the same ones"
    if only_model:
        text += f"; only the model has {_some(only_model)}"
    if only_data:
        text += f"; only the data have {_some(only_data)}"
    for names, whose in ((data, "data"), (model, "model")):
        if _numbered(names):
            text += f"; the {whose} have numbers for names: give the class names (labels=)"
    return text


def _reduce(name: str, chosen: Sequence[tuple[str, Callable[[str], str]]]) -> str:
    for _, reduce in chosen:
        name = reduce(name)
    return name


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _numbered(names: Sequence[str]) -> bool:
    return bool(names) and all(re.fullmatch(r"[0-9]+", name) for name in names)


# --- mirroring -------------------------------------------------------------------------------

# A word begins after a non-letter or, in CamelCase, with a capital after a small letter.
_BEGIN = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
_END = r"(?![a-z])"
_SIDE = re.compile(
    _BEGIN
    + r"(?P<side>left|right|LEFT|RIGHT|Left|Right)(?=(?:wards?|most|[Hh]and(?:ed)?)?"
    + _END
    + ")"
)
_TURN = re.compile(_BEGIN + r"(?P<counter>(?:counter|anti)[\s_-]*)?clockwise" + _END, re.IGNORECASE)
# Where "right" and "left" are no sides.
_IDIOM = re.compile(
    r"\b(?:all[\s_]+right|right[\s_]+(?:out|away|after|before|now|angles?|side[\s_]+up)"
    r"|left[\s_]+(?:over|behind|alone|out))\b",
    re.IGNORECASE,
)
# Both sides in turn: its mirror image is the same action.
_BOTH = re.compile(r"\b(?:left[\s_]+(?:and|or)[\s_]+right|right[\s_]+(?:and|or)[\s_]+left)\b", re.I)
_LETTER = re.compile(r"(?<![A-Za-z])([LR]|[lr](?=$))(?![A-Za-z])")


@dataclass(frozen=True)
class Mirror:
    """What a horizontal mirror does to the labels.

    Attributes:
        order: the label i of a clip becomes ``order[i]`` when the clip is mirrored; its own
            inverse. None = the names do not say, so clips must not be mirrored.
        pairs: the classes that change places.
        reason: why ``order`` is None; else "".
    """

    order: tuple[int, ...] | None
    pairs: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def mirror(names: Sequence[str]) -> Mirror:
    """Find the label of a mirrored clip from the (English) class names.

    Left and right change places, and so do clockwise and counterclockwise; the class that then
    bears the name is the partner. "Upright" or "pulling it right out" name no side; "left and
    right" is its own mirror image unless "right and left" is a class too. A class that names a
    side but has no partner, single letters L and R that tell classes apart, and classes that have
    numbers for names make the whole undecided.
    """
    if _numbered(names):
        return Mirror(None, reason="the classes have numbers for names")
    keys = [_key(name) for name in names]
    where = {key: index for index, key in enumerate(keys)}
    if len(where) < len(keys):
        twice = [name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1]
        return Mirror(None, reason=f"class names too much alike: {_some(twice)}")
    order: list[int] = []
    alone: list[str] = []
    for index, name in enumerate(names):
        partner = where.get(_key(_swap(name)))
        if partner is None and not _BOTH.search(name):
            alone.append(name)
        order.append(index if partner is None else partner)
    letters = [n for n in names if _letters_swapped(n) != n and _key(_letters_swapped(n)) in where]
    if alone:
        return Mirror(None, reason=f"no class is the mirror image of {_some(alone)}")
    if any(order[partner] != index for index, partner in enumerate(order) if not alone):
        return Mirror(None, reason="the class names do not go into pairs")
    if letters:
        return Mirror(None, reason=f"L and R may or may not be sides in {_some(letters)}")
    pairs = tuple((names[i], names[j]) for i, j in enumerate(order) if i < j)
    return Mirror(tuple(order), pairs)


def mirror_pairs(names: Sequence[str]) -> tuple[int, ...]:
    """``order`` of ``mirror``.

    Raises:
        UserError: the names do not decide it.
    """
    found = mirror(names)
    if found.order is None:
        raise UserError(f"clips of these classes cannot be mirrored: {found.reason}")
    return found.order


def mirror_permutation(names: Sequence[str]) -> np.ndarray | None:
    """``order`` of ``mirror`` as int64 of shape (classes,), or None (``mirror`` has the reason)."""
    order = mirror(names).order
    return None if order is None else np.asarray(order, dtype=np.int64)


def _swap(name: str) -> str:
    """``name`` with the sides and the senses of rotation exchanged, idioms untouched."""
    idioms = [found.span() for found in _IDIOM.finditer(name)]

    def side(found: re.Match[str]) -> str:
        if any(start <= found.start() < end for start, end in idioms):
            return found.group()
        word = found["side"]
        other = "right" if word.lower() == "left" else "left"
        return other.upper() if word.isupper() else other.title() if word[0].isupper() else other

    def turn(found: re.Match[str]) -> str:
        return "clockwise" if found["counter"] else "counterclockwise"

    return _TURN.sub(turn, _SIDE.sub(side, name))


def _letters_swapped(name: str) -> str:
    return _LETTER.sub(lambda found: found.group().translate(str.maketrans("LRlr", "RLrl")), name)


def _key(name: str) -> str:
    """What is compared: letters and digits, one spelling for counterclockwise."""
    plain = "".join(letter for letter in name.casefold() if letter.isalnum())
    return plain.replace("anticlockwise", "counterclockwise")
