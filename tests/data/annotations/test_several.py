"""Annotations with several labels per clip, and lists that look alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError


def tree(root: Path, *clips: str) -> None:
    for name in clips:
        path = root / name if Path(name).suffix else root / name / "00001.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def error_of(data: Path, check_files: bool = True, **hints: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_clips(ClipSource(data, **hints), check_files=check_files)
    return str(caught.value)


VIDEOS = ["a.mp4", "b.mp4", "c d.mp4", "e.mp4"]
FOLDERS = ["a", "b", "c d", "e"]


@pytest.mark.parametrize(
    ("clips", "rows", "labels"),
    [
        (VIDEOS, ["3", "3 7", "7", "1"], [(3,), (3, 7), (7,), (1,)]),
        (VIDEOS, ["0 1", "3 7", "1 0", "1 2"], [(0, 1), (3, 7), (1, 0), (1, 2)]),
        (VIDEOS, ["3 7", "3", "7 8", "8 2"], [(3, 7), (3,), (7, 8), (8, 2)]),
        (VIDEOS, ["1", "3", "7 8 9", "8"], [(1,), (3,), (7, 8, 9), (8,)]),
        (VIDEOS, ["48 1 2", "60 2", "40 2", "61 3"], [(1, 2), (2,), (2,), (3,)]),
        (VIDEOS, ["1", "3,7", "2", "8"], [(1,), (3, 7), (2,), (8,)]),
        (VIDEOS, ["1", "3|7|8|3", "2", "8"], [(1,), (3, 7, 8), (2,), (8,)]),
        (FOLDERS, ["48 1", "48 2,7", "60 3", "50 2"], [(1,), (2, 7), (3,), (2,)]),
    ],
)
def test_several_labels_in_a_list(
    clips: list[str], rows: list[str], labels: list[tuple[int, ...]], tmp_path: Path
) -> None:
    """As mmaction2 writes them for videos, and joined."""
    tree(tmp_path, *clips)
    text = "\n".join(f"{clip} {row}" for clip, row in zip(clips, rows, strict=True))
    (tmp_path / "val.txt").write_text(text)
    (tmp_path / "labels.txt").write_text("\n".join("abcdefghij"))
    found = read_clips(tmp_path)
    assert found.several
    assert [clip.path for clip in found.splits["val"]] == [str(tmp_path / clip) for clip in clips]
    assert [clip.labels for clip in found.splits["val"]] == labels


def test_two_numbers_that_may_be_labels(tmp_path: Path) -> None:
    tree(tmp_path, *VIDEOS)
    rows = ["2 3", "3 7", "7 8", "8 9"]
    text = "\n".join(f"{clip} {row}" for clip, row in zip(VIDEOS, rows, strict=True))
    (tmp_path / "train.txt").write_text(text)
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}/train.txt:1: 2 and 3 may be frames and label, or two")
    assert "2|3" in message


def test_one_of_several_labels_is_out_of_range(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "val.txt").write_text("a.mp4 0\nb.mp4 1 9\n")
    (tmp_path / "labels.txt").write_text("x\ny\n")
    assert "label 9 is not in 0..1" in error_of(tmp_path)


def test_two_labels_of_a_frame_folder_make_a_missing_clip(tmp_path: Path) -> None:
    tree(tmp_path, *FOLDERS)
    (tmp_path / "train.txt").write_text("a 48 1\nb 48 2 0\nc d 60 1\ne 50 0\n")
    assert f"train.txt:2: no such clip: {tmp_path}/b 48" in error_of(tmp_path)


@pytest.mark.parametrize("rows", ['a.mp4,1\nb.mp4,"0,1"\n', "a.mp4,1\nb.mp4,0 1\n"])
def test_several_labels_with_commas(rows: str, tmp_path: Path) -> None:
    tree(tmp_path, *VIDEOS)
    (tmp_path / "val.csv").write_text(rows)
    assert [clip.labels for clip in read_clips(tmp_path).splits["val"]] == [(1,), (0, 1)]


@pytest.mark.parametrize(
    ("clips", "rows"),
    [
        (VIDEOS, ["48 0", "50 1", "60 3", "47 2"]),  # frames, though nobody needs them
        (VIDEOS, ["0", "1", "2", "3"]),
        (["take 1", "take 2", "take 3", "take 4"], ["40 0", "30 1", "2 2", "4 3"]),
        (["1", "1 2", "1 2 3", "take 4"], ["40 0", "30 1", "2 2", "4 3"]),
        (["take 1", "take 2", "take 3", "take 4"], ["0", "1", "2", "3"]),
        (["x 1.mp4", "x 2 2.mp4", "x,3.mp4", "x 4.mp4"], ["0", "1", "2", "3"]),
    ],
)
def test_lists_that_only_look_like_several_labels(
    clips: list[str], rows: list[str], tmp_path: Path
) -> None:
    tree(tmp_path, *clips)
    text = "\n".join(f"{clip} {row}" for clip, row in zip(clips, rows, strict=True))
    (tmp_path / "val.txt").write_text(text)
    found = read_clips(tmp_path).splits["val"]
    assert [clip.path for clip in found] == [str(tmp_path / clip) for clip in clips]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1", "3,7", "0"], "3, 7"),
        (["1", "3 7 8", "0"], "3, 7, 8"),
        (["run", "jump", "run; jump"], "run, jump"),
    ],
)
def test_several_labels_in_a_csv(labels: list[str], message: str, tmp_path: Path) -> None:
    tree(tmp_path, *VIDEOS)
    rows = [f'{clip},"{label}"\n' for clip, label in zip(VIDEOS, labels, strict=False)]
    (tmp_path / "all.csv").write_text("path,label\n" + "".join(rows))
    assert f"all.csv:{4 if 'run' in labels else 3}: several labels for one clip ({message})" in (
        error_of(tmp_path)
    )


def test_a_bar_separates_several_labels(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    rows = "a.mp4,run|jump\nb.mp4, jump |swim|jump\nc.mp4,run\n"
    (tmp_path / "all.csv").write_text("path,label\n" + rows)
    found = read_clips(ClipSource(tmp_path, val_fraction=0.0))
    assert found.classes == ("jump", "run", "swim")
    assert found.several
    assert [clip.labels for clip in found.splits["train"]] == [(1, 0), (0, 2), (1,)]
    assert [clip.label for clip in found.splits["train"]] == [1, 0, 1]
    assert "several of a clip separated by |" in found.why


def test_numbers_with_a_bar(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "all.csv").write_text("path,label\na.mp4,0|2\nb.mp4,1\nc.mp4,2|9\n")
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    assert "label '9' is not in 0..2" in error_of(tmp_path)


def test_a_listed_class_name_may_hold_a_bar(tmp_path: Path) -> None:
    tree(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "all.csv").write_text("path,label\na.mp4,sit|stand\nb.mp4,run\n")
    (tmp_path / "labels.txt").write_text("run\nsit|stand\n")
    found = read_clips(tmp_path)
    assert not found.several
    assert found.classes == ("run", "sit|stand")


def test_class_names_may_hold_commas(tmp_path: Path) -> None:
    tree(tmp_path, *VIDEOS)
    rows = 'a.mp4,"Moving a, b"\nb.mp4,"a, b"\n'
    (tmp_path / "all.csv").write_text("path,label\n" + rows)
    assert read_clips(tmp_path).classes == ("Moving a, b", "a, b")
    (tmp_path / "labels.txt").write_text("a\nb\na, b\nMoving a, b\n")
    assert "no training clip of 'a'" in error_of(tmp_path)


def test_a_column_of_labels(tmp_path: Path) -> None:
    tree(tmp_path, *VIDEOS)
    (tmp_path / "train.csv").write_text('path,labels\na.mp4,1\nb.mp4,"1,2"\n')
    assert "train.csv:3: several labels for one clip (1, 2)" in error_of(tmp_path)
    (tmp_path / "train.csv").write_text("path,labels\na.mp4,1\nb.mp4,0\n")
    assert read_clips(tmp_path).classes == ("0", "1")
