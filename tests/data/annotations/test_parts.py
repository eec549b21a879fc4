"""Parts of recordings in a csv: their columns, their groups, splits and folds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.annotations.splits import draw_folds, groups_of
from smnet.data.annotations.times import seconds
from smnet.data.clips import Clip, Part
from smnet.errors import UserError


def table(folder: Path, header: str, *rows: str) -> Path:
    """A csv of recordings 0.mp4 to 9.mp4."""
    for number in range(10):
        (folder / f"{number}.mp4").write_bytes(b"")
    (folder / "parts.csv").write_text("\n".join([header, *rows, ""]))
    return folder / "parts.csv"


def parts(file: Path) -> list[Part | None]:
    clips = read_clips(ClipSource(file, val_fraction=0)).splits["train"]
    return [clip.part for clip in clips]


@pytest.mark.parametrize(
    ("header", "row", "part"),
    [
        ("start,end", "1.5,2", Part(1.5, 2)),
        ("start_s,end_s", "1.5,", Part(1.5, None)),
        ("Start (s),Stop (s)", ",2", Part(None, 2)),
        ("t_start,t_end", "0:01.5,1:02:03", Part(1.5, 3723)),
        ("time_start,time_end", "00:00:01.5,00:00:02", Part(1.5, 2)),
        ("Begin Time,End Time", "1.5,2", Part(1.5, 2)),
        ("start_ms,end_ms", "1500,2000", Part(1.5, 2)),
        ("start_frame,end_frame", "30,45", Part(30, 45, "frames")),
        ("startFrame,stopFrame", "30,45", Part(30, 45, "frames")),
        ("onset,offset_time", "1.5,2", Part(1.5, 2)),
        ("start_s,end_s,start_frame,end_frame", "1.5,2,30,45", Part(1.5, 2)),
        ("start_s,end_s,start_frame,end_frame", ",,30,45", Part(30, 45, "frames")),
        ("start,end", ",", None),
    ],
)
def test_columns_of_borders(header: str, row: str, part: Part | None, tmp_path: Path) -> None:
    file = table(tmp_path, f"path,label,{header}", f"0.mp4,a,{row}", f"1.mp4,b,{row}")
    assert parts(file) == [part, part]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("start,end", "2,1.5", "the part ends at 1.5, not after its start at 2"),
        ("start,end", "2,2", "not after its start"),
        ("start,end", "a,3", "start 'a' is not a time"),
        ("start,end", "-1,3", "start '-1' is not a time"),
        ("start_frame,end_frame", "1.5,3", "start '1.5' is not the number of a frame"),
        ("start_s,end_frame", "1.5,30", "start and end are in different units"),
    ],
)
def test_impossible_borders(header: str, row: str, message: str, tmp_path: Path) -> None:
    file = table(tmp_path, f"path,label,{header}", f"0.mp4,a,{row}", "1.mp4,b,,")
    with pytest.raises(UserError, match=r"parts.csv:2: ") as caught:
        read_clips(file)
    assert message in str(caught.value)


def test_two_columns_of_one_border(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label,start,start_time", "0.mp4,a,1,2", "1.mp4,b,1,2")
    with pytest.raises(UserError, match="the column 'start_time' means a part of the file"):
        read_clips(file)


@pytest.mark.parametrize("text", ["1:75", "1.2.3", "inf", "nan", "1e3", "", "1:2:3:4"])
def test_what_is_no_time(text: str) -> None:
    assert seconds(text) is None


def test_parts_of_a_file_are_different_clips(tmp_path: Path) -> None:
    rows = ["0.mp4,a,0,1", "0.mp4,b,1,2", "0.mp4,a,2,3", "1.mp4,b,0,1"]
    clips = read_clips(table(tmp_path, "path,label,start,end", *rows, "2.mp4,a,0,1"))
    assert "5 parts of 3 files" in clips.why
    assert "class, 3 groups kept whole" in clips.why
    again = table(tmp_path, "path,label,start,end", *rows, "0.mp4,b,2,3", "0.mp4,a,2.0,3.0")
    with pytest.raises(UserError, match=r"contradiction: 1, duplicate: 1"):
        read_clips(again)


def test_frames_of_a_folder_need_a_rate(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label,start,end,fps", "f,a,0.1,0.7,10", "f,b,0.7,,10")
    (tmp_path / "f").mkdir()
    assert parts(file) == [Part(1, 7, "frames"), Part(7, None, "frames")]
    file = table(tmp_path, "path,label,start,end", "f,a,0.1,0.3", "f,b,0.3,")
    with pytest.raises(UserError, match="a folder of frames has no rate: add the column fps"):
        read_clips(file)


def test_groups_are_read_and_kept_whole(tmp_path: Path) -> None:
    rows = [f"{n}.mp4,{'ab'[n % 2]},p{n // 2}" for n in range(10)]
    clips = read_clips(table(tmp_path, "path,label,Person", *rows))
    assert "person is read as group" in clips.why
    assert "5 groups kept whole" in clips.why
    sides = {split: {clip.group for clip in side} for split, side in clips.splits.items()}
    assert len(sides["val"]) == 1
    assert not sides["val"] & sides["train"]
    assert [Counter(c.label for c in side) for side in clips.splits.values()] == [
        {0: 4, 1: 4},
        {0: 1, 1: 1},
    ]


def test_the_seed_chooses_the_groups(tmp_path: Path) -> None:
    rows = [f"{n}.mp4,{c},{k},{k + 1}" for n in range(10) for k, c in enumerate("ab")]
    file = table(tmp_path, "path,label,start,end", *rows)
    chosen = {
        tuple(clip.path for clip in read_clips(ClipSource(file, split_seed=s)).splits["val"])
        for s in range(6)
    }
    assert len(chosen) > 1
    assert all(len(paths) == 4 and len(set(paths)) == 2 for paths in chosen)


def test_no_class_loses_its_only_group(tmp_path: Path) -> None:
    rows = ["0.mp4,a,0,1", "0.mp4,b,1,2", "1.mp4,a,0,1", "2.mp4,a,0,1"]
    for seed in range(4):
        source = ClipSource(table(tmp_path, "path,label,start,end", *rows), split_seed=seed)
        clips = read_clips(source)
        assert {clip.label for clip in clips.splits["train"]} == {0, 1}
        assert len(clips.splits["val"]) == 1


def test_groups_join_files_and_names() -> None:
    def clip(path: str, group: str | None = None) -> Clip:
        return Clip(path, 0, "x", group=group)

    clips = [clip("a", "p"), clip("b", "p"), clip("c"), clip("a", "q"), clip("d", "q"), clip("e")]
    assert groups_of(clips) == [0, 0, 1, 0, 0, 2]


labels = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(labels=labels, folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_folds_of_single_clips_are_balanced(labels: list[int], folds: int, seed: int) -> None:
    clips = [Clip(f"/d/{n}.mp4", label, "x") for n, label in enumerate(labels)]
    drawn = draw_folds(clips, folds, seed)
    for label in set(labels):
        counts = Counter(f for f, own in zip(drawn, labels, strict=True) if own == label)
        ideal = labels.count(label) / folds
        assert all(abs(counts[fold] - ideal) < 1 for fold in range(folds))
    assert drawn == draw_folds(clips, folds, seed)


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=60),
    folds=st.integers(2, 5),
)
def test_folds_never_divide_a_group(members: list[tuple[int, int]], folds: int) -> None:
    clips = [
        Clip(f"/d/{n}.mp4", label, "x", group=f"g{group}")
        for n, (group, label) in enumerate(members)
    ]
    drawn = draw_folds(clips, folds, 0)
    assert len({(clip.group, fold) for clip, fold in zip(clips, drawn, strict=True)}) == len(
        {clip.group for clip in clips}
    )
    assert set(drawn) <= set(range(folds))
