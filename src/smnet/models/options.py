"""Typed options: how families, trunks and recipes declare what can be chosen.

The annotation of a field gives its kind, its choices and its range. The string below a field gives
its meaning. pydantic checks values against the declaration, and the error messages and the tables
of ``smnet models NAME`` and ``smnet recipes NAME`` are made from the same declaration.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
)

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=8, le=512, multiple_of=8)]
ShiftDiv = Annotated[int, Field(ge=2)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Head = Literal["mean", "motion", "phases"]


T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def declared(declaration: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose values are checked without conversion."""
    config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)
    checked: Any = dataclass(frozen=True, config=config)(declaration)
    return checked


@declared
class Options:
    """Base of all options of models, and the options of a family without any."""


@declared
class TrunkOptions(Options):
    """Options of every trunk."""

    width: Width = 64
    """Channels of the first convolution. All layers scale with it. 64 is the published network."""
    dropout: Fraction = 0.5
    """Dropout probability before the classifier."""
    head: Head = "mean"
    """What the classifier sees of a clip. mean: the mean of the features over time. motion: also
    their deviation over time and the mean absolute difference between adjacent frames. phases: also
    mean and difference within each third of the clip, so that the order counts."""


class Row(NamedTuple):
    """One option as ``smnet models NAME`` prints it."""

    name: str
    default: str
    accepted: str
    meaning: str


def option_fields(declaration: type) -> Mapping[str, FieldInfo]:
    """The fields of a pydantic dataclass or model by name."""
    found: Mapping[str, FieldInfo] = declaration.__pydantic_fields__  # type: ignore[attr-defined]
    return found


def read_options(
    owner: str, declarations: Sequence[type[Any]], values: Mapping[str, Any]
) -> list[Any]:
    """One instance of each declaration, from the values of the options by name.

    Args:
        owner: the name that error messages begin with, such as ``tsm_resnet50``.
        declarations: classes of options without common fields.
        values: options by name.

    Raises:
        ValueError: an unknown option, a value of the wrong kind, or an impossible value.
    """
    known = [name for declaration in declarations for name in option_fields(declaration)]
    for name in values:
        if name not in known:
            hint = did_you_mean(name, known) or f"; `smnet models {owner}` lists its options"
            raise ValueError(f"{owner} has no option {name!r}{hint}")
    try:
        return [
            declaration(**{k: v for k, v in values.items() if k in option_fields(declaration)})
            for declaration in declarations
        ]
    except ValidationError as error:
        kind = next(d for d in declarations if d.__name__ == error.title)
        raise ValueError(explain(error, kind)) from None


def explain(error: ValidationError, declaration: type) -> str:
    """One sentence on the first problem: the field, what it accepts, and the value."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    if first["type"] in ("value_error", "assertion_error"):
        return first["msg"].partition(", ")[2]
    path, value = first["loc"], first["input"]
    field = option_fields(declaration)[str(path[0])]
    if first["type"] in ("extra_forbidden", "missing") and len(path) > 1:
        problem = "has no key" if first["type"] == "extra_forbidden" else "needs the key"
        return f"{path[0]} {problem} {path[-1]!r}"
    return f"{path[0]} must be {accepted(field.annotation, field.metadata)}, not {value!r}"


def describe(declaration: type) -> list[Row]:
    """A row for each field of a declaration."""
    return [
        Row(
            name,
            as_yaml(field.default),
            accepted(field.annotation, field.metadata),
            _meaning(declaration, name),
        )
        for name, field in option_fields(declaration).items()
    ]


def _meaning(declaration: type, name: str) -> str:
    """The string below a field, in the class or, for an inherited field, in a base."""
    for cls in declaration.__mro__:
        field = getattr(cls, "__pydantic_fields__", {}).get(name)
        if field is not None and field.description:
            return " ".join(field.description.split())
    return ""


def accepted(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """The values of an annotation in words: ``a whole number from 1 to 256``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [m for a in arguments[1:] for m in getattr(a, "metadata", [a])]
        return accepted(arguments[0], [*metadata, *inner])
    if origin in (Union, types.UnionType):
        given = next(a for a in arguments if a is not type(None))
        return f"{accepted(given, metadata)}, or null"
    if origin is Literal:
        return _alternatives([as_yaml(choice) for choice in arguments])
    if origin is tuple:
        some = (
            "a non-empty list" if any(getattr(m, "min_length", 0) for m in metadata) else "a list"
        )
        return f"{some}, each {accepted(arguments[0])}"
    if annotation is bool:
        return "true or false"
    if annotation is str:
        return "text"
    if annotation in (int, float):
        return _number(annotation is int, metadata)
    return "a table"


def as_yaml(value: Any) -> str:
    """A default as recipes write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(as_yaml, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'width'?``, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, [k for k in known if k != word], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


_RANGES = {
    (): "",
    ("ge",): " of at least {ge}",
    ("gt",): " above {gt}",
    ("ge", "le"): " from {ge} to {le}",
    ("gt", "le"): " above {gt} and at most {le}",
    ("ge", "lt"): " from {ge} to below {lt}",
    ("gt", "lt"): " above {gt} and below {lt}",
}


def _number(whole: bool, metadata: Iterable[Any]) -> str:
    limits = {
        name: getattr(constraint, name)
        for constraint in metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if getattr(constraint, name, None) is not None
    }
    noun = "a whole number" if whole else "a number"
    if "multiple_of" in limits:
        noun = f"a multiple of {limits.pop('multiple_of')}"
    return noun + _RANGES[tuple(sorted(limits))].format(**limits)


def _alternatives(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
