"""Folds of a cross-validation: by a column, or drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError


def write_list(folder: Path, rows: list[str]) -> Path:
    """A csv whose clips are empty files; columns path, label, split, fold or group."""
    for row in rows[1:]:
        (folder / row.partition(",")[0]).write_bytes(b"x")
    file = folder / "list.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def names(file: Path, folds: int, fold: int, split: str = "val") -> list[str]:
    clips = read_clips(ClipSource(file, folds=folds, fold=fold))
    return sorted(Path(clip.path).stem for clip in clips.splits[split])


def test_the_column_names_the_folds(tmp_path: Path) -> None:
    rows = [f"{k}{n}.mp4,{k},{'train' if n < 9 else 'val'},{n}" for k in "ab" for n in (2, 9, 10)]
    file = write_list(tmp_path, ["path,label,split,fold", *rows])
    assert [names(file, 3, fold) for fold in (1, 2, 3)] == [
        ["a2", "b2"],
        ["a9", "b9"],
        ["a10", "b10"],
    ]
    assert names(file, 3, 1, "train") == ["a10", "a9", "b10", "b9"]
    why = read_clips(ClipSource(file, folds=3, fold=2)).why
    assert "fold 2 of 3 held out, by the column fold" in why
    with pytest.raises(UserError, match=r"names 3 folds \(2, 9, 10\); use folds=3"):
        names(file, 5, 1)
    with pytest.raises(UserError, match="fold=4: there are folds 1 to 3"):
        names(file, 3, 4)


def test_a_column_of_folds_is_the_split_where_there_is_no_other(tmp_path: Path) -> None:
    rows = [f"{k}{n}.mp4,{k},{n}" for k in "ab" for n in (2, 9, 10)]
    file = write_list(tmp_path, ["path,label,fold", *rows])
    clips = read_clips(file)
    assert sorted(Path(clip.path).stem for clip in clips.splits["val"]) == ["a2", "b2"]
    assert "fold 1 of 3 held out, by the column fold; folds=3 (train) measures each" in clips.why
    third = read_clips(ClipSource(file, fold=3)).splits["val"]
    assert sorted(Path(clip.path).stem for clip in third) == ["a10", "b10"]
    with pytest.raises(UserError, match=r"fold=4: the column fold names 3 folds \(2, 9, 10\)"):
        read_clips(ClipSource(file, fold=4))
    file = write_list(tmp_path, ["path,label,fold", *rows[:-1], "b10.mp4,b,"])
    assert "the column fold is not used, as 1 clips have none" in read_clips(file).why


def test_drawn_folds_are_a_partition_that_keeps_groups(tmp_path: Path) -> None:
    rows = [f"{k}{n}.mp4,{k},p{n // 2}" for k in "ab" for n in range(12)]
    file = write_list(tmp_path, ["path,label,group", *rows])
    held = [names(file, 3, fold) for fold in (1, 2, 3)]
    everything = sorted(name for fold in held for name in fold)
    assert everything == sorted(row.partition(".")[0] for row in rows)
    people = [{int(name[1:]) // 2 for name in fold} for fold in held]
    assert sum(map(len, people)) == 6
    assert names(file, 3, 2) == held[1]
    with pytest.raises(UserError, match="6 groups of clips, too few for folds=7"):
        names(file, 7, 1)


def test_a_class_in_one_fold_only_is_refused(tmp_path: Path) -> None:
    rows = ["a1.mp4,a,1", "a2.mp4,a,2", "b1.mp4,b,1"]
    file = write_list(tmp_path, ["path,label,fold", *rows])
    assert names(file, 2, 2) == ["a2"]
    with pytest.raises(UserError, match="fold 1 holds all clips of 'b'"):
        names(file, 2, 1)
