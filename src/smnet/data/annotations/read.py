"""Annotations: point at a folder or file, get clips with labels in splits, checked.

The formats are in ``smnet.data.annotations``, one a file; this module chooses among them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from smnet.data.annotations import packed
from smnet.data.annotations.formats import ALIASES, FORMATS, Format
from smnet.data.annotations.listing import listing, listing_once
from smnet.data.annotations.places import is_video, subfolders
from smnet.data.annotations.problems import Problem
from smnet.data.annotations.rows import Hints
from smnet.data.annotations.source import ClipSource, Source, as_source
from smnet.data.clips import Clip, ClipSet
from smnet.data.packed.storage import is_url
from smnet.errors import UserError

_WRAPPINGS = 2

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

    A folder that holds nothing but the folder of the data set, as archives unpack, will do. Lists
    made on another machine may begin their paths with folders that are not here. Leading folders
    that all paths share are left out as far as this finds the clips, and ``ClipSet.why`` says so.

    Args:
        source: the data set, see :class:`smnet.data.annotations.source.ClipSource`.
        missing: "report" moves listed clips that do not exist to ``ClipSet.missing``; "error"
            raises.
        check_files: False skips the test whether listed clips exist. Folder layouts always look.
        problems: a list that receives the problems of single rows and classes. These are left out
            instead of raised, so the result may be unfit for training.

    Raises:
        UserError: the format is not recognised or is ambiguous, or the annotation has problems
            (labels out of range, duplicates, missing files, classes without a training clip,
            malformed rows). One message names them all, each with file and line.
    """
    source = as_source(source).with_split(None)
    if not 0 <= (source.val_fraction or 0) < 1:
        raise UserError(f"val_fraction must be in [0, 1), not {source.val_fraction}")
    if missing not in ("error", "report"):
        raise UserError(f'missing must be "error" or "report", not {missing!r}')
    hints = Hints(
        root=None if source.root is None else _existing(source.root, "root"),
        labels=None if source.labels is None else _existing(source.labels, "labels"),
        source=source,
        missing=missing,
        check_files=check_files,
        found=problems,
    )
    place = os.fspath(source.data)
    if is_url(place):
        if source.format not in (None, "packed"):
            raise UserError(
                f"{place}: only packed sets are read from an address, not {source.format}"
            )
        return packed.read_place(place, hints)
    path = _existing(source.data, "data")
    if source.format is None:
        path, reasons = _unwrapped(path)
        chosen = _best(path, reasons)
    else:
        chosen = _by_name(source.format)
    try:
        return chosen.read(path, hints)
    except OSError as error:
        raise _unreadable(path, error) from error


@listing_once()
def recognise(data: str | os.PathLike[str]) -> tuple[Format, str]:
    """The format of ``data`` and the reason, by looking at names and first lines.

    Raises:
        UserError: no format fits, or several fit equally well.
    """
    path, reasons = _unwrapped(_existing(data, "data"))
    best = _best(path, reasons)
    return best, reasons[best.name]


def _best(path: Path, reasons: dict[str, str]) -> Format:
    if not reasons:
        raise UserError(_nothing(path))
    rank = min(FORMATS[name].rank for name in reasons)
    best = [name for name in reasons if FORMATS[name].rank == rank]
    if len(best) > 1:
        found = "; ".join(f"{name}: {reasons[name]}" for name in best)
        raise UserError(f"{path} could be several formats ({found}); say which one with format=")
    return FORMATS[best[0]]


def _reasons(path: Path) -> dict[str, str]:
    """{name of a format that fits: why}"""
    reasons: dict[str, str] = {}
    for name, entry in FORMATS.items():
        try:
            reason = entry.recognise(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        if reason is not None:
            reasons[name] = reason
    return reasons


def _unwrapped(path: Path) -> tuple[Path, dict[str, str]]:
    """(``path``, or the data set in it that was unpacked into a folder of its own; its formats)"""
    inner = path
    for _ in range(_WRAPPINGS + 1):
        if reasons := _reasons(inner):
            return inner, reasons
        folders = subfolders(inner) if inner.is_dir() else []
        if len(folders) != 1:
            break
        inner = folders[0]
    return path, {}


def _by_name(format: str) -> Format:
    name = format.lower()
    name = ALIASES.get(name, name)
    if name not in FORMATS:
        known = ", ".join([*FORMATS, *ALIASES])
        raise UserError(f"there is no annotation format {format!r}; there are: {known}")
    return FORMATS[name]


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {error.filename or path}: {error.strerror or error}")


def _existing(path: str | os.PathLike[str], what: str) -> Path:
    try:
        found = Path(path).expanduser().absolute()
        found.stat()
    except (ValueError, OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(f"{what}: cannot open {os.fspath(path)!r}: {reason}") from error
    return found


def _nothing(path: Path) -> str:
    docs = "; ".join(f"{entry.name}: {entry.doc}" for entry in FORMATS.values())
    hint = ""
    if path.is_dir():
        names = sorted(name + "/" * bool(is_dir) for name, is_dir in listing(path).kinds.items())
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        seen = f"it holds {', '.join(names[:6])}{more}" if names else "it is empty"
        if any(map(is_video, names)):
            hint = (
                " Nothing says of which class its videos are: put them into a folder per class, or"
                " write a csv with the columns path,label."
            )
    else:
        seen = "it is a file"
    return f"{path}: no annotation recognised ({seen}).{hint} Known are: {docs}. Or say format="
