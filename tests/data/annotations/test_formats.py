"""The official forms, each as a small tree with invented clips."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smnet.data.annotations.formats import FORMATS
from smnet.data.annotations.read import ClipSet, read_clips, recognise
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError

LABELMAPS = os.environ.get("SMNET_TEST_LABELMAPS")
needs_labelmaps = pytest.mark.skipif(
    not LABELMAPS, reason="SMNET_TEST_LABELMAPS is not set: the data sets' lists are not here"
)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def dump(path: Path, content: object) -> Path:
    return write(path, json.dumps(content))


def named(clips: ClipSet, split: str) -> dict[str, str]:
    """{path below the root: class name}"""
    return {
        os.path.relpath(clip.path, clips.root): clips.classes[clip.label]
        for clip in clips.splits[split]
    }


def error_of(data: Path, **hints: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_clips(ClipSource(data, **hints))
    return str(caught.value)


# --- Something-Something V2 ------------------------------------------------------------------

V2 = "something-something-v2-"


def something_v2(root: Path, prefix: str = V2) -> None:
    names = {"Closing something": "0", "Something falling": "1", "Moving a, b": 2}
    dump(root / f"{prefix}labels.json", names)
    train = [
        {"id": "1", "label": "closing box", "template": "Closing [something]"},
        {"id": 2, "label": "box falling", "template": "[Something] falling"},
        {"id": "3", "label": "moving", "template": "Moving a, b", "placeholders": []},
    ]
    dump(root / f"{prefix}train.json", train)
    dump(root / f"{prefix}validation.json", [{"id": "4", "template": "[Something] falling"}])
    dump(root / f"{prefix}test.json", [{"id": "5"}])


def test_annotations_of_any_prefix(tmp_path: Path) -> None:
    something_v2(tmp_path, prefix="sth")
    clips = read_clips(tmp_path, check_files=False)
    assert {split: len(rows) for split, rows in clips.splits.items()}["train"] == 3


@pytest.mark.parametrize("folder", ["", "20bn-something-something-v2/", "videos/"])
@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_something_v2(tmp_path: Path, folder: str, suffix: str) -> None:
    something_v2(tmp_path)
    touch(tmp_path, *(f"{folder}{i}{suffix}" for i in range(1, 6)))
    clips = read_clips(tmp_path)
    assert clips.format == "something-v2"
    assert "something-something-v2-labels.json" in clips.why
    assert clips.classes == ("Closing something", "Something falling", "Moving a, b")
    assert named(clips, "train") == {
        f"{folder}1{suffix}": "Closing something",
        f"{folder}2{suffix}": "Something falling",
        f"{folder}3{suffix}": "Moving a, b",
    }
    assert named(clips, "val") == {f"{folder}4{suffix}": "Something falling"}
    assert [clip.label for clip in clips.splits["test"]] == [-1]


def test_something_v2_with_labels_in_a_folder_beside_the_clips(tmp_path: Path) -> None:
    something_v2(tmp_path / "labels", prefix="")
    touch(tmp_path, *(f"20bn-something-something-v2/{i}.webm" for i in range(1, 6)))
    for data in (tmp_path, tmp_path / "labels"):
        clips = read_clips(data)
        assert clips.splits["val"][0].path == str(tmp_path / "20bn-something-something-v2/4.webm")
        assert clips.splits["val"][0].source == "validation.json: entry 1"


def test_something_v2_as_frames(tmp_path: Path) -> None:
    something_v2(tmp_path)
    touch(tmp_path, *(f"frames/{i}/000001.jpg" for i in range(1, 6)))
    clips = read_clips(tmp_path)
    assert clips.splits["val"][0].path == str(tmp_path / "frames/4")
    assert clips.splits["val"][0].template is None


def test_something_v2_problems(tmp_path: Path) -> None:
    something_v2(tmp_path)
    touch(tmp_path, *(f"{i}.webm" for i in range(1, 5)))
    entries = [
        {"id": "4", "template": "[Something] falling"},
        {"id": "3", "template": "Moving a, b"},
        {"id": "4", "template": "Opening [something]"},
        {"id": "9", "template": "Closing [something]"},
        {"template": "Closing [something]"},
        {"id": "4"},
        "what",
    ]
    dump(tmp_path / f"{V2}validation.json", entries)
    message = error_of(tmp_path)
    for line in (
        f"{V2}validation.json: entry 2: in val, already listed at {V2}train",
        f"{V2}validation.json: entry 3: 'Opening something' is not in {V2}labels.json",
        f"{V2}validation.json: entry 4: no such clip: {tmp_path / '9.webm'}",
        f"{V2}validation.json: entry 5: no id",
        f"{V2}validation.json: entry 6: no template",
        f"{V2}validation.json: entry 7: no id",
        f"{V2}test.json: entry 1: no such clip",
    ):
        assert line in message
    assert "7 problems" in message
    write(tmp_path / f"{V2}validation.json", '[{"id": 4},\n}')
    assert f"{V2}validation.json:2: not json" in error_of(tmp_path)
    write(tmp_path / f"{V2}validation.json", '{"id": 4}')
    assert "expected a list of clips" in error_of(tmp_path)


# --- Something-Something V1 and Jester -------------------------------------------------------


def twentybn(root: Path, prefix: str) -> None:
    write(root / f"{prefix}labels.csv", "Zooming something\nClosing something, slowly\n")
    write(root / f"{prefix}train.csv", "1;Zooming something\r\n2;Closing something, slowly\r\n")
    write(
        root / f"{prefix}validation.csv", "\ufeff3;Closing something, slowly\n4;Zooming something"
    )
    write(root / f"{prefix}test.csv", "5\n")


@pytest.mark.parametrize(
    ("prefix", "name"), [("something-something-v1-", "something-v1"), ("jester-v1-", "jester")]
)
@pytest.mark.parametrize("folder", ["", "20bn-frames/"])
def test_twentybn_csv(tmp_path: Path, prefix: str, name: str, folder: str) -> None:
    twentybn(tmp_path, prefix)
    touch(tmp_path, *(f"{folder}{i}/{n:05d}.jpg" for i in range(1, 6) for n in (1, 2)))
    clips = read_clips(tmp_path)
    assert clips.format == name
    # The order of the file, not the alphabet; message, since others sort.
    assert clips.classes == ("Zooming something", "Closing something, slowly")
    assert "not alphabetical" in clips.why
    assert named(clips, "val") == {
        f"{folder}3": "Closing something, slowly",
        f"{folder}4": "Zooming something",
    }
    assert clips.splits["train"][1].source == f"{prefix}train.csv:2"
    assert {clip.template for clip in clips.splits["train"]} == {"%05d.jpg"}
    assert [clip.label for clip in clips.splits["test"]] == [-1]


def test_twentybn_csv_problems(tmp_path: Path) -> None:
    twentybn(tmp_path, "jester-v1-")
    touch(tmp_path, *(f"{i}/00001.jpg" for i in range(1, 6)))
    write(tmp_path / "jester-v1-validation.csv", "3;Opening something\n4\n;\n1;Zooming something\n")
    message = error_of(tmp_path)
    assert (
        "jester-v1-validation.csv:1: 'Opening something' is not in jester-v1-labels.csv" in message
    )
    assert "jester-v1-validation.csv:2: '4' is not id;class name" in message
    assert "jester-v1-validation.csv:3: ';' is not id;class name" in message
    assert "jester-v1-validation.csv:4: " in message
    assert "already listed at jester-v1-train.csv:1" in message


def test_json_goes_before_csv_of_the_same_clips(tmp_path: Path) -> None:
    something_v2(tmp_path, prefix="")
    twentybn(tmp_path, "")
    touch(tmp_path, *(f"videos/{i}.mp4" for i in range(1, 6)))
    assert read_clips(tmp_path).format == "something-v2"
    clips = read_clips(ClipSource(tmp_path, format="something-v1"))
    assert named(clips, "val") == {
        "videos/3.mp4": "Closing something, slowly",
        "videos/4.mp4": "Zooming something",
    }
    assert clips.splits["val"][0].template is None


def test_two_official_forms_are_ambiguous(tmp_path: Path) -> None:
    something_v2(tmp_path)
    kinetics(tmp_path)
    message = error_of(tmp_path)
    assert "something-v2: " in message
    assert "kinetics: " in message
    assert "--format" in message


# --- Kinetics --------------------------------------------------------------------------------

ROWS = {
    "train": [("Abcdefghij1", "folding napkins"), ("-bcdefgh_j2", "petting animal (not cat)")],
    "validate": [("Abcdefghij3", "folding napkins")],
    "test": [("Abcdefghij4", "petting animal (not cat)")],
}


def kinetics(root: Path) -> None:
    for split, rows in ROWS.items():
        lines = ["label,youtube_id,time_start,time_end,split,is_cc"]
        lines += [f'"{label}",{video},7,17,{split},0' for video, label in rows]
        write(root / f"{split}.csv", "\n".join(lines))


@pytest.mark.parametrize(
    "layout",
    [
        "{id}_000007_000017.mp4",
        "{split}/{id}_000007_000017.mkv",
        "{label}/{id}_000007_000017.mp4",
        "videos/{split}/{label_}/{id}_000007_000017.mp4",
        "rawframes/{label}/{id}_000007_000017/img_00001.jpg",
    ],
)
def test_kinetics_layouts(tmp_path: Path, layout: str) -> None:
    kinetics(tmp_path)
    for split, rows in ROWS.items():
        for video, label in rows:
            label_ = label.replace(" ", "_").replace("(", "").replace(")", "")
            touch(tmp_path, layout.format(id=video, split=split, label=label, label_=label_))
    clips = read_clips(tmp_path)
    assert clips.format == "kinetics"
    assert clips.classes == ("folding napkins", "petting animal (not cat)")
    got = {s: [(Path(c.path).name[:11], clips.classes[c.label]) for c in clips.splits[s]] for s in
           ("train", "val", "test")}  # fmt: skip
    assert got == {"train": ROWS["train"], "val": ROWS["validate"], "test": ROWS["test"]}


def test_kinetics_missing_videos(tmp_path: Path) -> None:
    kinetics(tmp_path)
    write(
        tmp_path / "validate.csv",
        "label,youtube_id,time_start,time_end,split\n"
        + "".join(f"folding napkins,Abcdefgh{i:03d},0,10,validate\n" for i in range(100)),
    )
    for split in ("train", "test"):
        touch(tmp_path, *(f"{video}_000007_000017.mp4" for video, _ in ROWS[split]))
    touch(tmp_path, *(f"val/Abcdefgh{i:03d}_000000_000010.mp4" for i in range(0, 100, 4)))
    message = error_of(tmp_path)
    assert "75 problems (missing file: 75)" in message
    assert "validate.csv:3: no such clip" in message
    assert "--on-error skip" in message
    clips = read_clips(tmp_path, missing="report")
    assert len(clips.splits["val"]) == 25
    assert len(clips.missing["val"]) == 75
    assert "listed but missing: val 75" in clips.why
    assert "train" not in clips.missing
    (tmp_path / "Abcdefghij1_000007_000017.mp4").unlink()
    (tmp_path / "Abcdefghij1_000007_000017.mp4").symlink_to("gone")
    assert len(read_clips(tmp_path, missing="report").missing["train"]) == 1


def test_kinetics_copies_and_bad_rows(tmp_path: Path) -> None:
    kinetics(tmp_path)
    for rows in ROWS.values():
        for video, label in rows:
            touch(tmp_path, f"{label}/{video}_000007_000017.mp4")
    # A copy elsewhere does not matter where one lies in the folder of its class ...
    touch(tmp_path, "replacement/Abcdefghij1_000007_000017.mp4")
    assert "folding napkins" in read_clips(tmp_path).splits["train"][0].path
    # ... but two equal ones do.
    touch(tmp_path, "more/folding_napkins/Abcdefghij1_000007_000017.mp4")
    assert "train.csv:2: " in error_of(tmp_path)
    (tmp_path / "more/folding_napkins/Abcdefghij1_000007_000017.mp4").unlink()
    with (tmp_path / "train.csv").open("a") as file:
        file.write(
            "\nfolding napkins,Abcdefghij9,x,17,train,0\nfolding napkins,Abc\n,Ab,1,2,train,0"
        )
    message = error_of(tmp_path)
    assert "train.csv:4: expected an id and two times" in message
    assert "train.csv:5: 2 fields, but the header has 6" in message
    assert "train.csv:6: the label is empty" in message


def test_kinetics_test_list_without_labels(tmp_path: Path) -> None:
    kinetics(tmp_path)
    write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nAbcdefghij4,7.0,17.0,test")
    clips = read_clips(tmp_path, check_files=False)
    assert [clip.label for clip in clips.splits["test"]] == [-1]
    assert clips.splits["test"][0].path.endswith("Abcdefghij4_000007_000017.mp4")


# --- UCF101, HMDB51 --------------------------------------------------------------------------


def ucf(lists: Path) -> None:
    write(lists / "classInd.txt", "1 PlayDrum\r\n2 HandstandPushups\r\n")
    for fold in (1, 2, 3):
        other = 2 if fold == 1 else 1
        write(
            lists / f"trainlist0{fold}.txt",
            f"PlayDrum/v_PlayDrum_g0{fold}_c01.avi 1\r\n"
            f"HandstandPushups/v_HandStandPushups_g0{fold}_c01.avi 2",
        )
        write(lists / f"testlist0{fold}.txt", f"PlayDrum/v_PlayDrum_g0{other}_c01.avi\r\n")


@pytest.mark.parametrize(
    "layout",
    ["UCF-101/{c}/{v}.avi", "{c}/{v}.mp4", "videos/{v}.avi", "rawframes/{c}/{v}/img_00001.jpg"],
)
def test_ucf101(tmp_path: Path, layout: str) -> None:
    ucf(tmp_path / "ucfTrainTestlist")
    for group in (1, 2, 3):
        touch(tmp_path, layout.format(c="PlayDrum", v=f"v_PlayDrum_g0{group}_c01"))
        touch(tmp_path, layout.format(c="HandstandPushups", v=f"v_HandStandPushups_g0{group}_c01"))
    clips = read_clips(tmp_path)
    assert clips.format == "ucf101"
    assert clips.classes == ("PlayDrum", "HandstandPushups")
    assert [clip.label for clip in clips.splits["train"]] == [0, 1]
    assert "v_PlayDrum_g02_c01" in clips.splits["val"][0].path
    assert "fold 1" in clips.why
    third = read_clips(ClipSource(tmp_path, fold=3))
    assert "v_PlayDrum_g03_c01" in third.splits["train"][0].path
    assert "fold is 1, 2 or 3" in error_of(tmp_path, fold=4)
    assert read_clips(tmp_path / "ucfTrainTestlist").splits == clips.splits


def test_ucf101_problems(tmp_path: Path) -> None:
    ucf(tmp_path)
    touch(tmp_path, "PlayDrum/v_PlayDrum_g01_c01.avi", "PlayDrum/v_PlayDrum_g02_c01.avi")
    touch(tmp_path, "HandstandPushups/v_HandStandPushups_g01_c01.avi")
    with (tmp_path / "trainlist01.txt").open("a") as file:
        file.write("\nPlayDrum/v_PlayDrum_g02_c01.avi 2\nFlying/v_Flying_g01_c01.avi 3\nnonsense\n")
        file.write("HandstandPushups/v_HandStandPushups_g03_c01.avi 0\n")
    message = error_of(tmp_path)
    for line in (
        "trainlist01.txt:3: class 2 is 'HandstandPushups', but the folder is 'PlayDrum'",
        "trainlist01.txt:4: 'Flying' is not in classInd.txt",
        "trainlist01.txt:4: 3 is not in 1..2",
        "trainlist01.txt:5: 'nonsense' is not Class/clip",
        "trainlist01.txt:6: 0 is not in 1..2",
        "testlist01.txt:1: ",
        "in test, already listed at trainlist01.txt:3 in train",
    ):
        assert line in message


def test_hmdb51_flags(tmp_path: Path) -> None:
    lists = tmp_path / "testTrainMulti_7030_splits"
    for name in ("brush_hair", "wave"):
        rows = [f"#{name}_[x]!_{i}.avi {flag} \n" for i, flag in enumerate((1, 2, 0, 1))]
        write(lists / f"{name}_test_split1.txt", "".join(rows))
        write(lists / f"{name}_test_split2.txt", "".join(reversed(rows)))
        touch(tmp_path, *(f"hmdb51_org/{name}/#{name}_[x]!_{i}.avi" for i in range(4)))
    clips = read_clips(tmp_path)
    assert clips.format == "hmdb51"
    assert clips.classes == ("brush_hair", "wave")
    assert Counter(clip.label for clip in clips.splits["train"]) == {0: 2, 1: 2}
    assert named(clips, "val") == {
        "hmdb51_org/brush_hair/#brush_hair_[x]!_1.avi": "brush_hair",
        "hmdb51_org/wave/#wave_[x]!_1.avi": "wave",
    }
    assert "2 clips are neither in train nor in test" in clips.why
    write(lists / "wave_test_split1.txt", "a.avi 1\nb.avi 3\n")
    message = error_of(tmp_path)
    assert "wave_test_split1.txt:2: 'b.avi 3' is not a clip and 0, 1 or 2" in message
    assert "wave_test_split1.txt:1: no such clip" in message


def test_hmdb51_as_lists(tmp_path: Path) -> None:
    write(tmp_path / "trainlist01.txt", "wave/a b_wave_0.avi\nbrush_hair/c.avi\n")
    write(tmp_path / "testlist01.txt", "wave/d.avi")
    touch(tmp_path, "wave/a b_wave_0.avi", "brush_hair/c.avi", "wave/d.avi")
    clips = read_clips(tmp_path)
    assert clips.format == "hmdb51"
    assert named(clips, "train") == {
        "wave/a b_wave_0.avi": "wave",
        "brush_hair/c.avi": "brush_hair",
    }


# --- Diving48 --------------------------------------------------------------------------------


def test_diving48(tmp_path: Path) -> None:
    words = [["Back", "15som", "FREE"], ["Inward", "2som", "TUCK"], ["Reverse", "Dive", "PIKE"]]
    dump(tmp_path / "Diving48_vocab.json", words)
    train = [
        {"vid_name": "abc_00001", "label": 1, "start_frame": 0, "end_frame": 48},
        {"vid_name": "-bc_00002", "label": 0, "start_frame": 0, "end_frame": 70},
    ]
    test = [{"vid_name": "abc_00003", "label": 1, "start_frame": 3, "end_frame": 50}]
    dump(tmp_path / "Diving48_V2_train.json", train)
    dump(tmp_path / "Diving48_V2_test.json", test)
    touch(tmp_path, "rgb/abc_00001.mp4", "rgb/-bc_00002.mp4", "rgb/abc_00003.mp4")
    clips = read_clips(tmp_path)
    assert clips.format == "diving48"
    assert clips.classes == ("Back+15som+FREE", "Inward+2som+TUCK", "Reverse+Dive+PIKE")
    assert named(clips, "train") == {
        "rgb/abc_00001.mp4": "Inward+2som+TUCK",
        "rgb/-bc_00002.mp4": "Back+15som+FREE",
    }
    assert [clip.num_frames for clip in clips.splits["train"]] == [None, None]
    assert "without a training clip: Reverse+Dive+PIKE" in clips.why
    (cut,) = clips.splits["val"]  # test is used as val
    assert (cut.start, cut.end, cut.unit) == (3, 50, "frames")
    train += [{"vid_name": "x", "label": 3}, {"vid_name": "x", "label": "1"}, {"label": 1}, 4]
    dump(tmp_path / "Diving48_V2_train.json", train)
    message = error_of(tmp_path)
    assert "Diving48_V2_train.json: entry 3: label 3 is not in 0..2" in message
    for entry in (4, 5, 6):
        assert (
            f"Diving48_V2_train.json: entry {entry}: expected vid_name and a label number"
            in message
        )
    dump(tmp_path / "Diving48_vocab.json", ["Back"])
    assert "list of lists of words" in error_of(tmp_path)


def test_diving48_frame_folders_have_a_frame_count(tmp_path: Path) -> None:
    dump(tmp_path / "Diving48_vocab.json", [["Back"]])
    entry = {"vid_name": "a", "label": 0, "start_frame": 0, "end_frame": 48}
    dump(tmp_path / "Diving48_V2_train.json", [entry])
    touch(tmp_path, "rawframes/a/img_00001.jpg")
    assert [clip.num_frames for clip in read_clips(tmp_path).splits["train"]] == [48]


# --- layouts of folders ---------------------------------------------------------------------


def ucf_tree(root: Path, lists: str = "", clips: str = "", suffix: str = ".avi") -> None:
    for split, group in (("train", "08"), ("test", "01")):
        names = [f"{c}/v_{c}_g{group}_c01" for c in ("Archery", "YoYo")]
        write(root / f"{lists}{split}list01.txt", "".join(f"{name}.avi\n" for name in names))
        touch(root, *(f"{clips}{name}{suffix}" for name in names))


def tsn(root: Path, lists: str = "", clips: str = "", written: str = "") -> None:
    for split in ("train", "val"):
        names = [f"{split} {number}.mp4" for number in range(3)]
        rows = [f"{written}{name} {number % 2}" for number, name in enumerate(names)]
        write(root / f"{lists}{split}.txt", "\n".join(rows))
        touch(root, *(clips + name for name in names))


@pytest.mark.parametrize("wrapping", ["", "set/", "set/set/"])
def test_a_data_set_in_a_folder_of_its_own(tmp_path: Path, wrapping: str) -> None:
    something_v2(tmp_path / wrapping)
    touch(tmp_path / wrapping, *(f"clips/{i}.webm" for i in range(1, 6)))
    write(tmp_path / "readme.txt", "read me")
    touch(tmp_path, ".cache/x", "__MACOSX/x")
    clips = read_clips(tmp_path)
    assert (clips.format, len(clips.splits["train"])) == ("something-v2", 3)
    assert clips.root == str(tmp_path / wrapping)
    assert recognise(tmp_path)[0].name == "something-v2"


def test_two_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ucf_tree(tmp_path / name)
    assert "no annotation recognised" in error_of(tmp_path)


@pytest.mark.parametrize("wrapping", ["set/", ""])
def test_a_folder_per_class_in_a_folder_of_its_own(tmp_path: Path, wrapping: str) -> None:
    names = ["R&B", "it's [good]", '"quoted"', "a, b; c", "#1", "50%"]
    touch(tmp_path / wrapping, *(f"{name}/{i}.MP4" for name in names for i in range(2)))
    clips = read_clips(tmp_path)
    assert clips.classes == tuple(sorted(names))
    assert sum(map(len, clips.splits.values())) == 12


def test_clips_one_folder_deeper(tmp_path: Path) -> None:
    something_v2(tmp_path)
    touch(tmp_path, *(f"clips/clips/{i}.webm" for i in range(1, 6)))
    assert read_clips(tmp_path).splits["val"][0].path == str(tmp_path / "clips/clips/4.webm")


@pytest.mark.parametrize(
    ("lists", "clips"),
    [
        ("UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist/", "UCF-101/"),
        ("ucf101_annotations/", "UCF-101/UCF-101/"),
        ("", "data/UCF-101/"),
    ],
)
def test_ucf101_as_it_unpacks(tmp_path: Path, lists: str, clips: str) -> None:
    ucf_tree(tmp_path, lists, clips, suffix=".AVI")
    found = read_clips(tmp_path)
    assert (found.format, found.classes) == ("ucf101", ("Archery", "YoYo"))
    assert sorted(Path(clip.path).name for clip in found.splits["val"]) == [
        "v_Archery_g01_c01.AVI",
        "v_YoYo_g01_c01.AVI",
    ]


def test_kinetics_700_as_it_unpacks(tmp_path: Path) -> None:
    for split in ("train", "val"):
        text = "label,youtube_id,time_start,time_end,split\n"
        for name in ("abseiling", "zumba"):
            stem = f"{split:_<6}{name[:5]}"
            text += f"{name},{stem},1,11,{split}\n"
            touch(tmp_path, f"{split}/{name}/{stem}_000001_000011.mp4")
        write(tmp_path / f"kinetics700_2020/{split}.csv", text)
    clips = read_clips(tmp_path)
    assert (clips.format, len(clips.splits["train"])) == ("kinetics", 2)


@pytest.mark.parametrize("name", ["something-something-v2-labels.json", "train.csv", "train.txt"])
def test_hidden_files_of_macos_are_skipped(tmp_path: Path, name: str) -> None:
    something_v2(tmp_path)
    touch(tmp_path, *(f"{i}.webm" for i in range(1, 6)))
    (tmp_path / f"._{name}").write_bytes(b"\0\5\x16\7")
    write(tmp_path / f".{name}", "path,label\n")
    assert read_clips(tmp_path).format == "something-v2"


@pytest.mark.parametrize(
    "written",
    ["/mnt/other/set/", "C:\\data\\set\\", "data/", "clips/", "data\\clips\\"],
)
@pytest.mark.parametrize(("lists", "clips"), [("", "clips/"), ("lists/", "videos/x/")])
def test_paths_of_another_machine(tmp_path: Path, written: str, lists: str, clips: str) -> None:
    tsn(tmp_path, lists, clips, written)
    found = read_clips(tmp_path)
    assert {c.path for c in found.splits["val"]} == {
        str(tmp_path / clips / f"val {i}.mp4") for i in range(3)
    }
    root = tmp_path / clips
    again = read_clips(ClipSource(tmp_path / lists / "train.txt", root=root))
    assert again.splits["train"] == found.splits["train"]
    if written not in ("clips/", ""):
        assert f"left out of their paths: {written.replace(chr(92), '/')}" in again.why


def test_only_what_all_paths_share_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    write(tmp_path / "train.txt", "/gone/a/1.mp4 0\n/gone/b/1.mp4 1\n/gone/b/2.mp4 1\n")
    assert "no such clip: /gone/a/1.mp4" in error_of(tmp_path)


def test_a_csv_with_the_paths_of_another_machine(tmp_path: Path) -> None:
    touch(tmp_path, "clips/a/1.mp4", "clips/b/2.mp4")
    data = write(tmp_path / "all.csv", "path,label\n/mnt/x/a/1.mp4,a\n/mnt/x/b/2.mp4,b\n")
    clips = read_clips(data)
    assert clips.splits["train"][0].path == str(tmp_path / "clips/a/1.mp4")
    assert "left out of their paths: /mnt/x/" in clips.why


# --- class files, the table, and the real lists ---------------------------------------------


def test_a_class_file_sorted_with_brackets_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "1 40 0\n2 41 1\n")
    touch(tmp_path, "1/1.jpg", "2/1.jpg")
    bracketed = write(tmp_path / "category.txt", "Zooming on [something]\n[Something] falling\n")
    assert "sorted with the [brackets]" in error_of(tmp_path)
    assert read_clips(ClipSource(tmp_path, labels=bracketed)).classes[1] == "[Something] falling"


def test_table_of_formats() -> None:
    for name, entry in FORMATS.items():
        assert name == entry.name == entry.name.lower()
        assert "\n" not in entry.doc


def test_official_forms_name_the_files_they_expect(tmp_path: Path) -> None:
    for name in FORMATS:
        assert str(tmp_path) in error_of(tmp_path, format=name)


@needs_labelmaps
@pytest.mark.parametrize(
    ("folder", "name", "classes", "sizes"),
    [
        ("something_v2", "something-v2", 174, {"val": 24_777}),
        ("something_v1", "list", 174, {"train": 86_017, "val": 11_522}),
        ("jester", "jester", 27, {"val": 14_787}),
        ("kinetics400", "kinetics", 400, {"val": 19_906}),
        ("ucf101", "ucf101", 101, {"train": 9_537, "val": 3_783}),
        ("hmdb51", "hmdb51", 51, {"train": 3_570, "val": 1_530}),
    ],
)
def test_real_lists(folder: str, name: str, classes: int, sizes: dict[str, int]) -> None:
    data = Path(LABELMAPS or "") / folder
    assert recognise(data)[0].name == name
    clips = read_clips(data, check_files=False)
    assert clips.format == name
    assert len(clips.classes) == classes
    assert {split: len(rows) for split, rows in clips.splits.items()} == sizes


@needs_labelmaps
def test_real_something_v2_list_agrees_with_the_json() -> None:
    data = Path(LABELMAPS or "") / "something_v2"
    official = read_clips(data, check_files=False)
    labels = data / "something-something-v2-labels.json"
    listed = read_clips(ClipSource(data / "val_rgb.txt", labels=labels), check_files=False)
    by_id = {Path(clip.path).stem: clip.label for clip in official.splits["val"]}
    assert by_id == {Path(clip.path).name: clip.label for clip in listed.splits["val"]}


def test_splits_without_classes_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.mp4").write_bytes(b"x")
    assert "train/ and val/ contain clips, but no folder per class" in error_of(tmp_path)


def test_folders_beside_the_splits_are_reported(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "val/a", "val/b", "extra/a", "more/a"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.mp4").write_bytes(b"x")
    assert (
        "not read, as their names are not names of splits: extra/, more/"
        in read_clips(tmp_path).why
    )
