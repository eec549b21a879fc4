"""Clips with labels in splits: what every annotation form is read into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Unit = Literal["s", "frames"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a recording: the frames with ``start <= t < end``.

    Attributes:
        start, end: presentation time in seconds, counted from the first frame of the recording; or
            frame numbers in the order of presentation, counted from 0. None is the beginning or the
            end of the recording.
        unit: ``"s"`` or ``"frames"``.
    """

    start: float | None = None
    end: float | None = None
    unit: Unit = "s"

    def __str__(self) -> str:
        start = f"{self.start or 0:.10g}"
        if self.unit == "frames":
            return f"frames {start} to {'the last' if self.end is None else f'{self.end:.10g}'}"
        return f"{start} s to the end" if self.end is None else f"{start} to {self.end:.10g} s"


def part_name(path: str, part: Part | None) -> str:
    """A recording, or a part of it, in words."""
    return path if part is None else f"{path} ({part})"


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of an annotation: a recording, or a part of one.

    Attributes:
        path: absolute path of a video file or of a folder of frames, or of a clip in a packed set
            (``<folder>/index.arrow#<row>``).
        label: index into ``ClipSet.classes``; -1 where the row has no label (official test lists).
        source: its row, such as ``"train.csv:17"``; the path itself for folder layouts.
        num_frames: number of frames by the annotation, for folders of frames; otherwise None.
        template: file name pattern of the frames, such as ``"img_%05d.jpg"``; None = look.
        start, end, unit: the part of the recording, see :class:`Part`; both None = all of it.
        labels: all labels, the first is ``label``; () where there is none.
        group: the recording, person or camera that the clip is of; clips of a group are never
            divided between splits. None = no group is known.
        fold: the fold of a protocol that the clip belongs to; None = none.
    """

    path: str
    label: int
    source: str
    num_frames: int | None = None
    template: str | None = None
    start: float | None = None
    end: float | None = None
    unit: Unit = "s"
    labels: tuple[int, ...] = ()
    group: str | None = None
    fold: str | None = None

    def __post_init__(self) -> None:
        if not self.labels and self.label >= 0:
            object.__setattr__(self, "labels", (self.label,))

    @property
    def part(self) -> Part | None:
        """The part of the recording; None = all of it."""
        whole = self.start is None and self.end is None
        return None if whole else Part(self.start, self.end, self.unit)

    @property
    def name(self) -> str:
        """The path, and the part if it is one: for messages, and distinct within a data set."""
        return part_name(self.path, self.part)

    @property
    def place(self) -> str:
        """Its row, if an annotation lists it, and its name: the subject of a message."""
        return self.name if self.source == self.path else f"{self.source}: {self.name}"


@dataclass(frozen=True)
class ClipSet:
    """A data set as its annotation describes it, checked.

    Attributes:
        root: the folder or file of the annotation.
        format: name of the form, see ``smnet.data.annotations.formats.FORMATS``.
        why: one line for the user: how the form was recognised, and what was decided.
        classes: class names, indexed by ``Clip.label``. Classes are identified by name: their order
            differs between annotations of one data set, see ``smnet.data.annotations.classes``.
        splits: "train", "val" and "test", as far as the annotation has them. Packed sets make their
            clips on access.
        missing: per split, listed clips that do not exist. Empty unless read with
            ``missing="report"``; the full size of a split is
            ``len(splits[s]) + len(missing.get(s, ()))``.
        drawn: whether "train" and "val" were drawn at random, as the annotation names neither.
    """

    root: str
    format: str
    why: str
    classes: tuple[str, ...]
    splits: dict[str, Sequence[Clip]]
    missing: dict[str, list[Clip]] = field(default_factory=dict)
    drawn: bool = False

    @cached_property
    def several(self) -> bool:
        """Whether any clip has several labels."""
        sides = (*self.splits.values(), *self.missing.values())
        return any(len(clip.labels) > 1 for side in sides for clip in side)
