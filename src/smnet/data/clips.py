"""What an annotation format is read into: clips with a label, in named splits."""

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
        source: where it was said, such as ``"train.csv:17"``; the path itself for folder layouts.
        num_frames: number of frames as the list says, for folders of frames; otherwise None.
        template: file name pattern of the frames such as ``"img_%05d.jpg"``; None = look.
    """

    path: str
    label: int
    source: str
    num_frames: int | None = None
    template: str | None = None


@dataclass(frozen=True)
class ClipSet:
    """A data set as its annotation describes it, checked.

    Attributes:
        root: the folder that the annotation was read from.
        format: name of the format, see ``smnet.data.annotations.formats.FORMATS``.
        why: one line for people: what it was recognised by, and what was decided on the way.
        classes: class names; ``Clip.label`` counts into them. Identity is by name: the order is
            that of the source and differs between sources of one data set (see ``data.classes``).
        splits: "train", "val" and "test", those that the annotation has. Lists, but for packed
            sets, whose clips are made as they are asked for.
        missing: per split, the clips that the list names and the disk lacks. Empty unless asked
            for with ``missing="report"``; the full size of a split is
            ``len(splits[s]) + len(missing.get(s, ()))``.
        drawn: whether "train" and "val" were drawn by chance, the annotation having no split.
    """

    root: str
    format: str
    why: str
    classes: tuple[str, ...]
    splits: dict[str, Sequence[Clip]]
    missing: dict[str, list[Clip]] = field(default_factory=dict)
    drawn: bool = False
