"""Folders, csv and list files: what is read, and the messages for what cannot be read."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smnet.console import printable
from smnet.data.annotations import text as text_module
from smnet.data.annotations.formats import ALIASES, FORMATS
from smnet.data.annotations.names import read_class_names
from smnet.data.annotations.problems import SHOWN, Problems
from smnet.data.annotations.read import ClipSet, read_clips, recognise
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def sizes(clips: ClipSet) -> dict[str, int]:
    return {split: len(rows) for split, rows in clips.splits.items()}


def labelled(clips: ClipSet, split: str) -> dict[str, str]:
    """{path below the root: class name}"""
    return {
        os.path.relpath(clip.path, clips.root): clips.classes[clip.label]
        for clip in clips.splits[split]
    }


def error_of(data: Path, **hints: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_clips(ClipSource(data, **hints))
    return str(caught.value)


# --- folders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["val", "validation", "Test", "valid"])
def test_folder_per_class_in_splits(tmp_path: Path, second: str) -> None:
    touch(tmp_path, "train/run/1.mp4", "train/run/2.MP4", "train/jump high/1.avi")
    touch(tmp_path, f"{second}/run/9.webm", f"{second}/jump high/9.mp4")
    clips = read_clips(tmp_path)
    assert clips.format == "folders"
    assert clips.classes == ("jump high", "run")
    assert labelled(clips, "train") == {
        "train/run/1.mp4": "run",
        "train/run/2.MP4": "run",
        "train/jump high/1.avi": "jump high",
    }
    assert labelled(clips, "val") == {
        f"{second}/run/9.webm": "run",
        f"{second}/jump high/9.mp4": "jump high",
    }
    assert ("test is used as val" in clips.why) == (second == "Test")
    assert all(Path(clip.path).is_absolute() for clip in clips.splits["train"])


def test_val_and_test_are_both_kept(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        touch(tmp_path, f"{split}/a/{split}.mp4", f"{split}/b/{split}.mp4")
    assert sizes(read_clips(tmp_path)) == {"train": 2, "val": 2, "test": 2}


def test_folders_of_frames_are_clips(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/x/00001.jpg", "train/a/x/00002.jpg", "train/b/y/1.png")
    touch(tmp_path, "val/a/z/00001.JPEG", "val/b/z.mp4")
    clips = read_clips(tmp_path)
    assert labelled(clips, "train") == {"train/a/x": "a", "train/b/y": "b"}
    assert labelled(clips, "val") == {"val/a/z": "a", "val/b/z.mp4": "b"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{i}.mp4" for name in ("train", "bus") for i in range(5)))
    assert read_clips(tmp_path).classes == ("bus", "train")


def test_a_class_of_frame_folders_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/c{i}/1.jpg" for name in ("train", "bus") for i in range(5)))
    assert read_clips(tmp_path).classes == ("bus", "train")


def test_split_is_drawn_by_class_and_seed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/{i}.mp4" for i in range(20)), *(f"b/{i}.mp4" for i in range(3)))
    touch(tmp_path, "alone/1.mp4")
    first = read_clips(tmp_path)
    val = list(labelled(first, "val").values())
    assert val.count("a") == 4
    assert val.count("b") == 1
    assert "alone" not in val
    assert sizes(first) == {"train": 19, "val": 5}
    assert read_clips(tmp_path).splits == first.splits
    assert read_clips(ClipSource(tmp_path, split_seed=1)).splits != first.splits
    assert "seed 0" in first.why


def test_drawn_split_does_not_depend_on_place_or_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{c}/{i}.mp4" for c in "ab" for i in range(12)]
    touch(tmp_path / "here", *names)
    touch(tmp_path / "there", *reversed(names))
    here = read_clips(tmp_path / "here")
    real = os.scandir

    class Shuffled:
        def __init__(self, path: str) -> None:
            self.path = path

        def __enter__(self) -> object:
            with real(self.path) as entries:
                listed = list(entries)
            random.Random(5).shuffle(listed)
            return iter(listed)

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Shuffled)
    there = read_clips(tmp_path / "there")
    assert labelled(here, "val") == labelled(there, "val")
    assert labelled(here, "train") == labelled(there, "train")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    fraction=st.floats(0, 0.999),
    seed=st.integers(0, 3),
)
def test_drawn_split_keeps_every_class_on_both_sides(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], fraction: float, seed: int
) -> None:
    root = tmp_path_factory.mktemp("drawn")
    rows = [f"c{k}/{i}.mp4,c{k}" for k, count in enumerate(counts) for i in range(count)]
    data = write(root / "list.csv", "path,label\n" + "\n".join(rows))
    clips = read_clips(ClipSource(data, val_fraction=fraction, split_seed=seed), check_files=False)
    train = [clip.label for clip in clips.splits["train"]]
    val = [clip.label for clip in clips.splits.get("val", [])]
    for label, count in enumerate(counts):
        assert train.count(label) + val.count(label) == count
        assert train.count(label) >= 1
        if fraction == 0 or count == 1:
            assert val.count(label) == 0
        else:
            assert val.count(label) >= 1
            assert abs(val.count(label) - count * fraction) <= 1


def test_val_is_drawn_from_a_lone_train_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/{c}/{i}.mp4" for c in "ab" for i in range(5)))
    assert sizes(read_clips(tmp_path)) == {"train": 8, "val": 2}


def test_only_val_folder_is_val(tmp_path: Path) -> None:
    touch(tmp_path, "val/a/1.mp4", "val/b/1.mp4")
    assert sizes(read_clips(tmp_path)) == {"val": 2}


def test_folder_problems_are_in_one_error(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4", "train/loose.mp4", "val/a/2.mp4")
    touch(tmp_path, "val/z/1.mp4", "train/framed/00001.jpg")
    (tmp_path / "train/empty").mkdir()
    (tmp_path / "train/a/hollow").mkdir()
    message = error_of(tmp_path)
    assert f"{tmp_path / 'train/loose.mp4'}: is outside" in message
    assert f"{tmp_path / 'val/z'}: there is no training folder 'z'" in message
    assert f"{tmp_path / 'train/framed'}: frames are in the class folder itself" in message
    assert f"{tmp_path / 'train/a/hollow'}: no jpg or png" in message
    assert "no training clip of 'empty'" in message
    assert "6 problems" in message


def test_other_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4", "a/notes.txt", "a/.DS_Store")
    touch(tmp_path, "__MACOSX/a/1.mp4", ".cache/1.mp4", "README.md")
    clips = read_clips(tmp_path)
    assert clips.classes == ("a", "b")
    assert "1 other files skipped" in clips.why
    assert "notes.txt" in clips.why


def test_one_class_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "videos/1.mp4", "videos/2.mp4")
    assert "only one class folder (videos)" in error_of(tmp_path)


def test_val_twice_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val", "validation"):
        touch(tmp_path, f"{split}/a/1.mp4", f"{split}/b/1.mp4")
    assert "val/ and validation/ both mean 'val'" in error_of(tmp_path)


def test_class_names_are_composed(tmp_path: Path) -> None:
    touch(tmp_path, "train/cafe\u0301/1.mp4", "train/走る/1.mp4", "val/caf\u00e9/2.mp4")
    clips = read_clips(tmp_path)
    assert clips.classes == ("caf\u00e9", "走る")
    assert [clip.label for clip in clips.splits["val"]] == [0]


# --- csv -------------------------------------------------------------------------------------


def csv_tree(root: Path) -> None:
    touch(root, "v/1.mp4", "v/2.mp4", "v/3.mp4", "v/4.mp4")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [True, False])
def test_csv_dialects(tmp_path: Path, delimiter: str, newline: str, bom: bytes, end: bool) -> None:
    csv_tree(tmp_path)
    rows = [
        ["Path", "label", "split"],
        ["v/1.mp4", '"open, ""wide"""', "train"],
        ["v/2.mp4", "shut", "Training"],
        ["v/3.mp4", '"open, ""wide"""', "validation"],
        ["v/4.mp4", "shut", "val"],
    ]
    content = newline.join(delimiter.join(row) for row in rows) + (newline if end else "")
    data = write(tmp_path / "annotations.csv", bom + content.encode())
    for given_as in (tmp_path, data):
        clips = read_clips(given_as)
        assert clips.format == "csv"
        assert clips.classes == ('open, "wide"', "shut")
        assert sizes(clips) == {"train": 2, "val": 2}
    assert clips.splits["val"][1].path == str(tmp_path / "v/4.mp4")
    assert clips.splits["val"][1].source == "annotations.csv:5"


def test_csv_frames_belong_to_folders_of_frames(tmp_path: Path) -> None:
    touch(tmp_path, "f/1.jpg", "v.mp4")
    write(tmp_path / "a.csv", "path,label,split,frames\nf,a,train,31\nv.mp4,b,train,20\n")
    assert [clip.num_frames for clip in read_clips(tmp_path).splits["train"]] == [31, None]


def test_csv_with_quoted_path_and_line_numbers_across_quoted_breaks(tmp_path: Path) -> None:
    touch(tmp_path, "a, b.mp4")
    write(tmp_path / "a.csv", 'path,label,split\n"a, b.mp4","two\nlines",train\ngone.mp4,x,train\n')
    message = error_of(tmp_path)
    assert "a.csv:4: no such clip" in message
    assert "1 problem (missing file: 1)" in message


def test_csv_numbers_take_their_names_from_labels_txt(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    rows = "path,label,split\nv/1.mp4,1,train\nv/2.mp4,0,train\nv/3.mp4,1,val\n"
    write(tmp_path / "a.csv", rows)
    assert read_clips(tmp_path).classes == ("0", "1")
    assert "no class names" in read_clips(tmp_path).why
    write(tmp_path / "labels.txt", "zebra\nape\n")
    clips = read_clips(tmp_path)
    assert clips.classes == ("zebra", "ape")
    assert labelled(clips, "train") == {"v/1.mp4": "ape", "v/2.mp4": "zebra"}
    # The file with the names decides about the order of names, too.
    write(tmp_path / "a.csv", rows.replace(",1,", ",ape,").replace(",0,", ",zebra,"))
    assert read_clips(tmp_path).splits == clips.splits


def test_csv_all_problems_at_once(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    write(tmp_path / "labels.txt", "a\nb\nnever\n")
    write(
        tmp_path / "a.csv",
        "path,label,split,frames\n"
        "v/1.mp4,a,train,3\n"
        "v/2.mp4,b,train,3\n"
        "v/1.mp4,b,val,3\n"  # in both splits
        "./v/2.mp4,b,train,3\n"  # twice in one, spelled otherwise
        "v/3.mp4,c,train,3\n"  # no such class
        "gone.mp4,a,val,3\n"
        "v/4.mp4,a,maybe,3\n"
        "v/4.mp4,a\n"
        "v/4.mp4,a,val,3,surplus\n"
        "v/4.mp4,a,val,many\n"
        ",a,val,3\n"
        "v/4.mp4,,val,3\n",
    )
    message = error_of(tmp_path)
    assert "11 problems" in message
    for line in (
        "a.csv:4: in val, already listed at a.csv:2 in train, with another label: " + str(tmp_path),
        "a.csv:5: already listed at a.csv:3: " + str(tmp_path / "v/2.mp4"),
        "a.csv:6: label 'c' is not in labels.txt",
        "a.csv:7: no such clip: " + str(tmp_path / "gone.mp4"),
        "a.csv:8: split 'maybe' is not train, val or test",
        "a.csv:9: 2 fields, but the header has 4",
        "a.csv:10: 5 fields, but the header has 4",
        "a.csv:11: frames 'many' is not a positive whole number",
        "a.csv:12: the path is empty",
        "a.csv:13: the label is empty",
        "no training clip of 'never'",
        "leave these classes out of the class names",
    ):
        assert line in message


def test_csv_unlabelled_test_rows(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    write(
        tmp_path / "a.csv",
        "path,label,split\nv/1.mp4,a,train\nv/2.mp4,b,train\nv/3.mp4,,test\n",
    )
    clips = read_clips(tmp_path)
    assert [clip.label for clip in clips.splits["test"]] == [-1]
    assert "val" not in clips.splits


def test_csv_per_split(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    write(tmp_path / "train.csv", "path,label\nv/1.mp4,a\nv/2.mp4,b\n")
    write(tmp_path / "validation.csv", "label,path\nb,v/3.mp4\n")
    clips = read_clips(tmp_path)
    assert labelled(clips, "val") == {"v/3.mp4": "b"}
    assert sizes(clips) == {"train": 2, "val": 1}


def test_two_csv_files_are_refused(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    write(tmp_path / "one.csv", "path,label\nv/1.mp4,a\nv/2.mp4,b\n")
    write(tmp_path / "two.csv", "path,label\nv/1.mp4,a\nv/2.mp4,b\n")
    message = error_of(tmp_path)
    assert "one.csv, two.csv" in message
    assert read_clips(tmp_path / "two.csv").classes == ("a", "b")


def test_csv_root(tmp_path: Path) -> None:
    csv_tree(tmp_path / "clips")
    data = write(tmp_path / "a/b.csv", "path,label\nv/1.mp4,a\nv/2.mp4,b\nv\\3.mp4,b\n")
    assert "--root DIR" in error_of(data)
    assert sum(sizes(read_clips(ClipSource(data, root=tmp_path / "clips"))).values()) == 3


def test_many_problems_are_counted_and_every_kind_is_shown(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,{'ab'[i % 2]},train\n" for i in range(500))
    write(tmp_path / "a.csv", "path,label,split\n" + rows + "bad\n")
    message = error_of(tmp_path)
    assert "501 problems" in message
    assert "missing file: 500" in message
    assert "a.csv:502: 1 fields" in message
    assert message.count("\n  ") == SHOWN + 1
    assert "... and 481 more" in message


def test_missing_can_be_reported_instead(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    write(
        tmp_path / "a.csv",
        "path,label,split\nv/1.mp4,a,train\nv/2.mp4,b,train\ngone.mp4,b,val\nv/3.mp4,a,val\n",
    )
    clips = read_clips(tmp_path, missing="report")
    assert sizes(clips) == {"train": 2, "val": 1}
    assert [clip.source for clip in clips.missing["val"]] == ["a.csv:4"]
    assert "listed but missing: val 1" in clips.why
    (tmp_path / "v/3.mp4").unlink()
    with pytest.raises(UserError, match="none of the 2 val clips exists"):
        read_clips(tmp_path, missing="report")


def test_unreadable_content(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", b"path,label\nv/\xff.mp4,a\n")
    assert "a.csv:2: not UTF-8" in error_of(data)
    write(data, 'path,label\nv/1.mp4,"a\nv/2.mp4,b\n')
    assert "a.csv:2" in error_of(data)
    write(data, "path,label\n" + "x" * 70_000 + ",a\n")
    assert "a.csv:2: not a text file" in error_of(data)
    write(data, "path,label\na\0b,a\n")
    assert "a.csv:2: not a text file" in error_of(data)
    write(data, "path,label\nv,a\n".encode("utf-16"))
    assert "UTF-16" in error_of(data, format="list")
    write(data, "path,label\n")
    assert "no clip at all" in error_of(data)
    write(data, "")
    assert "no annotation recognised" in error_of(data)


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "labels.txt", "a name of a class\n")
    monkeypatch.setattr(text_module, "MAX_BYTES", 10)
    for read in (
        read_class_names,
        text_module.read_json,
        lambda path: list(text_module.lines(path)),
    ):
        with pytest.raises(UserError, match="annotation files have at most"):
            read(data)


def test_large_numbers_do_not_make_a_million_classes(tmp_path: Path) -> None:
    csv_tree(tmp_path)
    data = write(tmp_path / "a.csv", "path,label\nv/1.mp4,0\nv/2.mp4,999999999\n")
    assert "numbers up to 999999999" in error_of(data)
    data = write(tmp_path / "a.txt", "v/1.mp4 0\nv/2.mp4 999999999\n")
    assert "numbers up to 999999999" in error_of(data)


# --- lists -----------------------------------------------------------------------------------


def frames_tree(root: Path) -> None:
    touch(root, *(f"{i}/{n:05d}.jpg" for i in range(1, 5) for n in (1, 2)))


def test_tsn_frame_lists(tmp_path: Path) -> None:
    frames_tree(tmp_path)
    write(tmp_path / "train_videofolder.txt", "1 40 0\n2 41 1\r\n\n3 42 1")
    write(tmp_path / "val_videofolder.txt", "4 43 0\n")
    write(tmp_path / "category.txt", "sit down\nstand up")
    clips = read_clips(tmp_path)
    assert clips.format == "list"
    assert clips.classes == ("sit down", "stand up")
    assert [clip.num_frames for clip in clips.splits["train"]] == [40, 41, 42]
    assert clips.splits["val"][0].source == "val_videofolder.txt:1"
    assert [clip.source for clip in clips.splits["train"]][2] == "train_videofolder.txt:4"
    # A training list brings its companion, a val list stands alone.
    assert read_clips(tmp_path / "train_videofolder.txt").splits == clips.splits
    assert sizes(read_clips(tmp_path / "val_videofolder.txt")) == {"val": 1}


@pytest.mark.parametrize("delimiter", [" ", ",", "\t", ";"])
def test_video_lists(tmp_path: Path, delimiter: str) -> None:
    touch(tmp_path, "v/one.mp4", "v/two words.webm", "v/three.mp4")
    names = ["v/one.mp4", "v/two words", "v/three"]
    rows = [f"{name}{delimiter}{label}" for name, label in zip(names, (0, 1, 1), strict=True)]
    write(tmp_path / "train.csv", "\n".join(rows[:2]))
    write(tmp_path / "val.csv", rows[2])
    clips = read_clips(tmp_path)
    assert clips.format == "list"
    assert labelled(clips, "train") == {"v/one.mp4": "0", "v/two words.webm": "1"}
    assert labelled(clips, "val") == {"v/three.mp4": "1"}


def test_folder_with_a_blank_and_a_number(tmp_path: Path) -> None:
    touch(tmp_path, "take 1/1.jpg", "take 2/1.jpg")
    write(tmp_path / "train.txt", "take 1 0\ntake 2 1\n")
    clips = read_clips(ClipSource(tmp_path, val_fraction=0))
    assert [Path(clip.path).name for clip in clips.splits["train"]] == ["take 1", "take 2"]
    assert [clip.num_frames for clip in clips.splits["train"]] == [None, None]


def test_val_is_drawn_from_a_single_list(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(10)))
    data = write(tmp_path / "all.txt", "".join(f"{i}.mp4 {i % 2}\n" for i in range(10)))
    assert sizes(read_clips(data)) == {"train": 8, "val": 2}


def test_list_problems(tmp_path: Path) -> None:
    frames_tree(tmp_path)
    write(tmp_path / "labels.txt", "a\nb\nc\n")
    write(
        tmp_path / "train.txt",
        "1 40 0\n2 41 1\n3 41 3\n4 42\n4 0 1\n4 42 x\n9 40 1\n2 41 1\n4 40 -1\n",
    )
    message = error_of(tmp_path)
    for line in (
        "train.txt:3: label 3 is not in 0..2",
        "train.txt:4: '4 42' is not path, number of frames, label",
        "train.txt:5: frames '0' is not a positive whole number",
        "train.txt:6: label 'x' is not a whole number",
        f"train.txt:7: no such clip: {tmp_path / '9'}",
        "train.txt:8: already listed at train.txt:2",
        "train.txt:9: label -1 is not in 0..2",
        "no training clip of 'c'",
    ):
        assert line in message
    assert "8 problems" in message


def test_labels_from_one(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(4)))
    data = write(tmp_path / "all.txt", "0.mp4 1\n1.mp4 2\n2.mp4 1\n3.mp4 2\n")
    assert "--first-label 1" in error_of(data)
    assert read_clips(ClipSource(data, first_label=1)).classes == ("0", "1")
    write(tmp_path / "labels.txt", "a\nb\n")
    assert "--first-label 1" in error_of(data)
    clips = read_clips(ClipSource(data, first_label=1))
    assert labelled_all(clips) == {"0.mp4": "a", "1.mp4": "b", "2.mp4": "a", "3.mp4": "b"}


def labelled_all(clips: ClipSet) -> dict[str, str]:
    return {Path(k).name: v for s in clips.splits for k, v in labelled_in(clips, s)}


def labelled_in(clips: ClipSet, split: str) -> list[tuple[str, str]]:
    return [(clip.path, clips.classes[clip.label]) for clip in clips.splits[split]]


def test_several_sets_of_lists(tmp_path: Path) -> None:
    frames_tree(tmp_path)
    for kind in ("rawframes", "videos"):
        write(tmp_path / f"x_train_list_{kind}.txt", "1 40 0\n2 41 1\n")
        write(tmp_path / f"x_val_list_{kind}.txt", "3 40 0\n")
    assert "choose one of" in error_of(tmp_path)
    clips = read_clips(tmp_path / "x_train_list_videos.txt")
    assert sizes(clips) == {"train": 2, "val": 1}
    assert clips.splits["val"][0].source == "x_val_list_videos.txt:1"


def test_labels_may_be_elsewhere_and_must_agree(tmp_path: Path) -> None:
    frames_tree(tmp_path)
    write(tmp_path / "train.txt", "1 40 0\n2 41 1\n")
    write(tmp_path / "val.txt", "3 40 1\n")
    write(tmp_path / "labels.txt", "a\nb\n")
    write(tmp_path / "category.txt", "b\na\n")
    assert "labels.txt and category.txt" in error_of(tmp_path)
    chosen = write(tmp_path / "my names.csv", "id,name\n0,x\n1,y\n")
    assert read_clips(ClipSource(tmp_path, labels=chosen)).classes == ("x", "y")


def test_without_looking_for_files(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "1 40 0\n2 41 1\n")
    write(tmp_path / "val.txt", "3 40 1\n")
    clips = read_clips(tmp_path, check_files=False)
    assert clips.splits["train"][0].num_frames == 40
    assert "missing file: 3" in error_of(tmp_path)


@pytest.mark.parametrize("rows", ["{i} 40 {y}", "{i} {y}"])
def test_lists_beside_a_folder_of_clips_for_each_split(tmp_path: Path, rows: str) -> None:
    for split, ids in (("train", (1, 2)), ("val", (1, 3))):
        touch(tmp_path, *(f"clips_{split}/{i}/1.jpg" for i in ids))
        text = "\n".join(rows.format(i=i, y=y) for y, i in enumerate(ids))
        write(tmp_path / f"x_{split}_list.txt", text)
    clips = read_clips(tmp_path)
    assert labelled(clips, "val") == {"clips_val/1": "0", "clips_val/3": "1"}
    assert labelled(clips, "train") == {"clips_train/1": "0", "clips_train/2": "1"}
    assert f"clips in {tmp_path / 'clips_train'} and {tmp_path / 'clips_val'}" in clips.why


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    monkeypatch.setattr(os, "scandir", refuse)
    assert f"cannot read {tmp_path}: Permission denied" in error_of(tmp_path)
    assert "Permission denied" in error_of(tmp_path, format="list")


def test_messages_are_safe_for_terminals(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", 'path,label\n\x1b[31mred,a\n"two\nlines",b\n')
    message = error_of(data)
    assert "\x1b" not in message
    assert "\\x1b[31mred" in message
    assert "two\\nlines" in message
    assert printable("\ud800a\u00e9") == "\\ud800a\u00e9"


def test_dangling_link_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "3.mp4").symlink_to(tmp_path / "nowhere.mp4")
    data = write(tmp_path / "a.txt", "1.mp4 0\n2.mp4 1\n3.mp4 0\n")
    assert "a.txt:3: no such clip" in error_of(data)


# --- class names, recognition, problems ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "b c\na\n"),
        ("labels.txt", "\ufeffb c\r\n\r\na"),
        ("classInd.txt", "1 b c\r\n2 a\r\n"),
        ("classInd.txt", "1 a\n0 b c\n"),
        ("map.csv", "id,name\n0,b c\n1,a\n"),
        ("map.json", json.dumps({"a": "1", "b c": "0"})),
        ("map.json", json.dumps({"a": 1, "b c": 0})),
        ("map.json", json.dumps(["b c", "a"])),
        ("id2label.json", json.dumps({"1": "a", "0": "b c"})),
    ],
)
def test_class_name_files(tmp_path: Path, name: str, content: str) -> None:
    assert read_class_names(write(tmp_path / name, content)) == ("b c", "a")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", "a\nb\na\n", "'a' occurs twice"),
        ("labels.txt", "", "contains no class names"),
        ("classInd.txt", "1 a\n3 b\n", "from 1 to 3"),
        ("classInd.txt", "2 a\n3 b\n", "from 2 to 3"),
        ("classInd.txt", "1 a\n1 b\n", "occurs twice"),
        ("map.json", '{"a": "x"}', "not a whole number"),
        ("map.json", '{"a": [', "map.json:1: not json"),
        ("map.json", "[" * 100_000, "not json"),
        ("map.json", "3", "expected class names as"),
    ],
)
def test_bad_class_name_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_class_names(write(tmp_path / name, content))


def test_class_names_that_begin_with_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.txt", "1 hand\n2 hands\nno hand\n")
    assert read_class_names(path) == ("1 hand", "2 hands", "no hand")
    path = write(tmp_path / "labels.json", json.dumps({"7": "1", "3": "0"}))  # names of digits
    assert read_class_names(path) == ("3", "7")
    with pytest.raises(UserError, match="'a' of '0' is not a whole number"):
        read_class_names(write(tmp_path / "mixed.json", json.dumps({"0": "a", "1": "x", "b": 2})))


def test_nothing_is_recognised(tmp_path: Path) -> None:
    assert "the folder is empty" in error_of(tmp_path)
    touch(tmp_path, "x.bin", "y.bin")
    message = error_of(tmp_path)
    assert "it contains x.bin, y.bin" in message
    assert all(name in message for name in FORMATS)
    assert "No such file" in error_of(tmp_path / "not here")
    assert "null" in error_of(Path("a\0b"))


def test_invalid_options(tmp_path: Path) -> None:
    assert "no annotation format 'tns'" in error_of(tmp_path, format="tns")
    assert "val_fraction" in error_of(tmp_path, val_fraction=1.0)
    assert "val_fraction" in error_of(tmp_path, val_fraction=float("nan"))
    with pytest.raises(UserError, match="missing must be"):
        read_clips(tmp_path, missing="ignore")


def test_a_csv_outranks_lists_and_lists_outrank_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4")
    assert recognise(tmp_path)[0].name == "folders"
    write(tmp_path / "train.txt", "a/1.mp4 0\nb/1.mp4 1\n")
    assert recognise(tmp_path)[0].name == "list"
    write(tmp_path / "mine.csv", "path,label\na/1.mp4,a\nb/1.mp4,b\n")
    entry, why = recognise(tmp_path)
    assert entry.name == "csv"
    assert "mine.csv" in why
    assert read_clips(ClipSource(tmp_path, format="TSN", val_fraction=0)).format == "list"


def test_a_wrong_format_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    for name in FORMATS:
        if name != "folders":
            assert str(tmp_path) in error_of(tmp_path, format=name)
    assert set(ALIASES.values()) <= set(FORMATS)


def test_problems_show_every_kind() -> None:
    problems = Problems("here")
    problems.raise_any()
    for i in range(40):
        problems.add("one", f"one {i}", "bad")
    for i in range(3):
        problems.add("two", f"two {i}", "bad")
    with pytest.raises(UserError) as caught:
        problems.raise_any()
    message = str(caught.value).splitlines()
    assert message[0] == "here: 43 problems (one: 40, two: 3)"
    assert sum(line.startswith("  one") for line in message) == 17
    assert sum(line.startswith("  two") for line in message) == 3
    assert message[-1] == "  ... and 23 more"


def test_no_torch_at_import() -> None:
    import subprocess

    code = "import sys, smnet.data.annotations.read as a; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
