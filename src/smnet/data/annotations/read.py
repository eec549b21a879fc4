"""Reads a data set of any form: recognises the form, reads the rows, checks them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from smnet.data.addresses import is_url
from smnet.data.annotations.advice import nothing_recognised
from smnet.data.annotations.background import draw_background
from smnet.data.annotations.folds import hold_out
from smnet.data.annotations.form import Form, Reading
from smnet.data.annotations.formats import ALIASES, FORMATS
from smnet.data.annotations.forms.packed import read_place
from smnet.data.annotations.listing import listing_once
from smnet.data.annotations.places import Finder, subfolders
from smnet.data.annotations.problems import Problem, Problems
from smnet.data.annotations.source import ClipSource, Source, as_source
from smnet.data.clips import Clip, ClipSet
from smnet.errors import UserError

_WRAPPERS = 2  # folders around a data set, as archives unpack

__all__ = ["Clip", "ClipSet", "ClipSource", "read_clips", "recognise"]


@listing_once()
def read_clips(
    source: Source,
    *,
    missing: Literal["error", "report"] = "error",
    check_files: bool = True,
    problems: list[Problem] | None = None,
) -> ClipSet:
    """Read and check the annotation of a data set.

    The data set may be one or two folders deeper, if these contain nothing else. Lists made on
    another machine may begin their paths with folders that do not exist here. Leading folders that
    all paths share are left out as far as this finds the clips, and ``ClipSet.why`` says so.

    Args:
        source: the data set, see :class:`smnet.data.annotations.source.ClipSource`.
        missing: "report" moves listed clips that do not exist to ``ClipSet.missing``; "error"
            raises.
        check_files: False skips the test whether listed clips exist. Folder layouts always look.
        problems: a list that receives the problems of single rows and classes. These are left out
            instead of raised, so the result may be unfit for training.

    Raises:
        UserError: the form is not recognised or is ambiguous, or the annotation has problems
            (labels out of range, duplicates, missing files, classes without a training clip,
            malformed rows). One message names them all, each with file and line.
    """
    source = as_source(source).with_split(None)
    if not 0 <= (source.val_fraction or 0) < 1:
        raise UserError(f"val_fraction must be in [0, 1), not {source.val_fraction}")
    if missing not in ("error", "report"):
        raise UserError(f'missing must be "error" or "report", not {missing!r}')
    place, remote = os.fspath(source.data), is_url(os.fspath(source.data))
    if remote and source.format not in (None, "packed"):
        raise UserError(f"{place}: only packed sets are read from an address, not {source.format}")
    path, form = (Path(place), FORMATS["packed"]) if remote else _find(source)
    folds, fold = source.folds or 0, source.fold or 1
    reading = Reading(
        data=path,
        source=replace(source, fold=1) if folds else source,
        root=None if source.root is None else _existing(source.root, "root"),
        labels=None if source.labels is None else _existing(source.labels, "labels"),
        missing=missing,
        problems=Problems(str(path), problems),
        finder=Finder(check_files),
    )
    try:
        clips = read_place(place, reading) if remote else form.read(reading)
    except OSError as error:
        raise _unreadable(path, error) from error
    seed = source.split_seed or 0
    if folds:
        clips = hold_out(clips, folds, fold, seed)
    return draw_background(clips, seed) if source.background == "auto" else clips


@listing_once()
def recognise(data: str | os.PathLike[str]) -> tuple[Form, str]:
    """The form of ``data`` and the reason, from file names and first lines.

    Raises:
        UserError: no form fits, or several fit equally well.
    """
    path, reasons = _unwrapped(_existing(data, "data"))
    best = _best(path, reasons)
    return best, reasons[best.name]


def _find(source: ClipSource) -> tuple[Path, Form]:
    """The folder or file of a data set, and its form."""
    path = _existing(source.data, "data")
    if source.format is not None:
        return path, _by_name(source.format)
    path, reasons = _unwrapped(path)
    return path, _best(path, reasons)


def _best(path: Path, reasons: dict[str, str]) -> Form:
    if not reasons:
        raise UserError(
            f"{nothing_recognised(path)}\nForms: {', '.join(FORMATS)} (docs/datasets.md)"
        )
    rank = min(FORMATS[name].rank for name in reasons)
    best = [name for name in reasons if FORMATS[name].rank == rank]
    if len(best) > 1:
        candidates = "; ".join(f"{name}: {reasons[name]}" for name in best)
        raise UserError(
            f"{path} could be of several forms ({candidates}); choose one with --format"
            " (format= for train)"
        )
    return FORMATS[best[0]]


def _reasons(path: Path) -> dict[str, str]:
    """{name of a form that fits: why}"""
    reasons: dict[str, str] = {}
    for name, form in FORMATS.items():
        try:
            reason = form.recognise(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        if reason is not None:
            reasons[name] = reason
    return reasons


def _unwrapped(path: Path) -> tuple[Path, dict[str, str]]:
    """(``path``, or the data set in it below single folders; the forms that fit)"""
    inner = path
    for _ in range(_WRAPPERS + 1):
        if reasons := _reasons(inner):
            return inner, reasons
        folders = subfolders(inner) if inner.is_dir() else []
        if len(folders) != 1:
            break
        inner = folders[0]
    return path, {}


def _by_name(format: str) -> Form:
    name = format.lower()
    name = ALIASES.get(name, name)
    if name not in FORMATS:
        known = ", ".join([*FORMATS, *ALIASES])
        raise UserError(f"there is no annotation format {format!r}; there are: {known}")
    return FORMATS[name]


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {error.filename or path}: {error.strerror or error}")


def _existing(path: str | os.PathLike[str], option: str) -> Path:
    try:
        found = Path(path).expanduser().absolute()
        found.stat()
    except (ValueError, OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(f"{option}: cannot open {os.fspath(path)!r}: {reason}") from error
    return found
