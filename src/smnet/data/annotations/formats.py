"""The annotation formats: a table of what is recognised and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smnet.data.annotations import csv_table as table
from smnet.data.annotations import diving48, folders, kinetics, lists, packed, twentybn
from smnet.data.annotations import ucf_hmdb as divisions
from smnet.data.annotations.rows import Hints
from smnet.data.clips import ClipSet


@dataclass(frozen=True)
class Format:
    """One annotation format.

    Attributes:
        name: what ``format=`` takes.
        doc: one line for people.
        rank: who goes first where several recognise the same data: the lower one. Files that
            say what they are outrank files that merely could be it. Equal ranks are ambiguous.
        recognise: path -> the reason why it is this format, or None.
        read: (path, hints) -> the clips.
    """

    name: str
    doc: str
    rank: int
    recognise: Callable[[Path], str | None]
    read: Callable[[Path, Hints], ClipSet]


_ALL = (
    Format(
        "packed",
        "what smnet data pack wrote: manifest.json, index.arrow and shards",
        0,
        packed.recognise,
        packed.read,
    ),
    Format(
        "something-v2",
        "labels.json beside train.json and validation.json, clips <id>.webm",
        0,
        twentybn.recognise_v2,
        twentybn.read_v2,
    ),
    Format(
        "something-v1",
        "labels.csv beside train.csv and validation.csv with lines of id;class, frame folders",
        0,
        twentybn.recognise_v1,
        twentybn.read_v1,
    ),
    Format(
        "jester",
        "jester-v1-labels.csv beside jester-v1-train.csv and -validation.csv, frame folders",
        0,
        twentybn.recognise_jester,
        twentybn.read_jester,
    ),
    Format(
        "kinetics",
        "the official csv of Kinetics-400/600/700, clips <id>_<start>_<end>.mp4 in any folder",
        0,
        kinetics.recognise,
        kinetics.read,
    ),
    Format(
        "ucf101",
        "trainlist01.txt and testlist01.txt (fold 1, 2 or 3), classInd.txt",
        0,
        divisions.recognise_ucf,
        divisions.read_ucf,
    ),
    Format(
        "hmdb51",
        "<class>_test_split1.txt (fold 1, 2 or 3), or lists as for ucf101",
        0,
        divisions.recognise_hmdb,
        divisions.read_hmdb,
    ),
    Format(
        "diving48",
        "Diving48_V2_train.json and _test.json beside Diving48_vocab.json",
        0,
        diving48.recognise,
        diving48.read,
    ),
    Format(
        "csv",
        "a csv with the columns path, label and perhaps split, frames",
        1,
        table.recognise,
        table.read,
    ),
    Format(
        "list",
        "lines of path [frames] label: TSN, TSM, TEA, TDN, mmaction2, SlowFast, VideoMAE",
        2,
        lists.recognise,
        lists.read,
    ),
    Format(
        "folders",
        "a folder per class, with or without train/ and val/ above",
        3,
        folders.recognise,
        folders.read,
    ),
)

FORMATS: dict[str, Format] = {entry.name: entry for entry in _ALL}

# Other names for "list", by whose lists they are.
ALIASES = dict.fromkeys(("tsn", "tsm", "tea", "tdn", "mmaction2", "slowfast", "videomae"), "list")
