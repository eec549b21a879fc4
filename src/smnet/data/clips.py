"""Clips with labels in splits: what every annotation form is read into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of an annotation.

    Attributes:
        path: absolute path of a video file or of a folder of frames, or of a clip in a packed set
            (``<folder>/index.arrow#<row>``).
        label: index into ``ClipSet.classes``; -1 where the row has no label (official test lists).
        source: its row, such as ``"train.csv:17"``; the path itself for folder layouts.
        num_frames: number of frames by the annotation, for folders of frames; otherwise None.
        template: file name pattern of the frames, such as ``"img_%05d.jpg"``; None = look.
    """

    path: str
    label: int
    source: str
    num_frames: int | None = None
    template: str | None = None

    @property
    def place(self) -> str:
        """Its row, if an annotation lists it, and its path: the subject of a message."""
        return self.path if self.source == self.path else f"{self.source}: {self.path}"


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
        drawn: whether "train" and "val" were drawn at random, as the annotation has no split.
    """

    root: str
    format: str
    why: str
    classes: tuple[str, ...]
    splits: dict[str, Sequence[Clip]]
    missing: dict[str, list[Clip]] = field(default_factory=dict)
    drawn: bool = False
