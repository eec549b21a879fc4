"""The interface of an annotation form: what it is given and what it provides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smnet.data.annotations.places import Finder
from smnet.data.annotations.problems import Problems
from smnet.data.annotations.source import ClipSource
from smnet.data.clips import ClipSet


@dataclass(frozen=True)
class Reading:
    """One data set while it is read.

    Attributes:
        data: the folder or file that the form recognised.
        source: what the caller asked for, with all split options set.
        root: ``source.root`` as an absolute path that exists; None = find the clips.
        labels: ``source.labels`` as an absolute path that exists; None = beside the data.
        missing: "report" puts listed clips that do not exist into ``ClipSet.missing``.
        problems: collects what is wrong with single rows.
        finder: finds clips by the names that rows give them.
    """

    data: Path
    source: ClipSource
    root: Path | None
    labels: Path | None
    missing: Literal["error", "report"]
    problems: Problems
    finder: Finder


@dataclass(frozen=True)
class Form:
    """One annotation form.

    Attributes:
        name: the value of ``format``.
        doc: one line on what the form looks like.
        rank: where several forms recognise the same data, the lowest rank is taken. 0: files that
            state their form; 1 to 3: files that could have it. Equal ranks are ambiguous.
        recognise: path -> why the data have this form, or None.
        read: reads data of this form; ends in :func:`smnet.data.annotations.rows.assemble`.
    """

    name: str
    doc: str
    rank: int
    recognise: Callable[[Path], str | None]
    read: Callable[[Reading], ClipSet]
