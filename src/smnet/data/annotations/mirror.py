"""The label of a mirrored clip, from the class names: "swipe left" becomes "swipe right"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smnet.data.annotations.classes import numbered, some

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
# Idioms in which "right" and "left" are not sides.
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
    """The effect of a horizontal mirror on the labels.

    Attributes:
        order: label i of a clip becomes ``order[i]`` when the clip is mirrored; its own inverse.
            None: the names do not decide it, so clips must not be mirrored.
        pairs: the classes that are exchanged.
        reason: why ``order`` is None; otherwise "".
    """

    order: tuple[int, ...] | None
    pairs: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def mirror(names: Sequence[str]) -> Mirror:
    """The labels of mirrored clips, from English class names.

    Left and right are exchanged, and clockwise and counterclockwise. The class with the resulting
    name is the partner. "Upright" and "pulling it right out" name no side. "Left and right" is its
    own mirror image unless "right and left" is also a class. The result is undecided if a class
    names a side but has no partner, if classes differ in single letters L and R only, and if
    classes have numbers for names.
    """
    if numbered(names):
        return Mirror(None, reason="the classes have numbers for names")
    keys = [_key(name) for name in names]
    where = {key: index for index, key in enumerate(keys)}
    if len(where) < len(keys):
        twice = [name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1]
        return Mirror(None, reason=f"class names too much alike: {some(twice)}")
    order: list[int] = []
    alone: list[str] = []
    for index, name in enumerate(names):
        partner = where.get(_key(_swap(name)))
        if partner is None and not _BOTH.search(name):
            alone.append(name)
        order.append(index if partner is None else partner)
    letters = [n for n in names if _letters_swapped(n) != n and _key(_letters_swapped(n)) in where]
    if alone:
        return Mirror(None, reason=f"no class is the mirror image of {some(alone)}")
    if any(order[partner] != index for index, partner in enumerate(order) if not alone):
        return Mirror(None, reason="the class names do not form pairs")
    if letters:
        return Mirror(None, reason=f"L and R may or may not be sides in {some(letters)}")
    pairs = tuple((names[i], names[j]) for i, j in enumerate(order) if i < j)
    return Mirror(tuple(order), pairs)


def _swap(name: str) -> str:
    """``name`` with sides and senses of rotation exchanged, except in idioms."""
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
    """A name for comparison: letters and digits, one spelling of counterclockwise."""
    plain = "".join(letter for letter in name.casefold() if letter.isalnum())
    return plain.replace("anticlockwise", "counterclockwise")
