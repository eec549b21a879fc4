"""Forms of timelines: marks on recordings, as data sets and annotation tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smnet.data.annotations.read import ClipSet, read_clips, recognise
from smnet.data.annotations.source import ClipSource
from smnet.data.clips import Part
from smnet.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def marks(clips: ClipSet) -> list[tuple[str, Part | None, tuple[str, ...], str]]:
    """(file name, part, labels, split) of every clip, by file and start."""
    listed = [
        (Path(c.path).name, c.part, tuple(clips.classes[k] for k in c.labels), split)
        for split, side in clips.splits.items()
        for c in side
    ]
    return sorted(listed, key=lambda mark: (mark[0], mark[1].start or 0 if mark[1] else 0))


def read(data: Path, form: str, **options: Any) -> ClipSet:
    """Read a data set that is recognised as a form."""
    assert recognise(data)[0].name == form
    return read_clips(ClipSource(data, val_fraction=0, **options))


def error_of(data: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_clips(ClipSource(data, **options))
    return str(caught.value)


def database(*subsets: str) -> dict[str, Any]:
    mark = {"segment": [1.5, 4.0], "label": "Fixing bicycle"}
    entries = {
        f"id{n}": {"duration": 9.0, "subset": subset, "url": "", "annotations": [mark]}
        for n, subset in enumerate(subsets)
    }
    return {"version": "VERSION 1.3", "database": entries, "taxonomy": []}


@pytest.mark.parametrize("prefix", ["", "v_", "videos/v_"])
def test_activitynet(prefix: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{prefix}id0.mp4", f"{prefix}id1.mkv", f"{prefix}id2.mp4")
    content = database("training", "validation", "testing")
    content["database"]["id2"]["annotations"] = []
    content["database"]["id0"]["annotations"].append({"segment": [5, 6], "label": "Rest"})
    (tmp_path / "activity_net.json").write_text(json.dumps(content))
    name = prefix.rpartition("/")[2]
    assert marks(read(tmp_path, "activitynet")) == [
        (f"{name}id0.mp4", Part(1.5, 4.0), ("Fixing bicycle",), "train"),
        (f"{name}id0.mp4", Part(5.0, 6.0), ("Rest",), "train"),
        (f"{name}id1.mkv", Part(1.5, 4.0), ("Fixing bicycle",), "val"),
    ]


def test_activitynet_without_a_training_set_and_as_of_bsn(tmp_path: Path) -> None:
    touch(tmp_path, "id0.mp4", "id1.mp4")
    content = database("Validation", "Test")
    (tmp_path / "thumos.json").write_text(json.dumps(content))
    clips = read(tmp_path, "activitynet")
    assert [split for *_, split in marks(clips)] == ["train", "val"]
    assert "val is used for training, and test as val" in clips.why
    bsn = {k: {"annotations": v["annotations"]} for k, v in content["database"].items()}
    (tmp_path / "thumos.json").write_text(json.dumps(bsn))
    assert len(marks(read(tmp_path, "activitynet"))) == 2


def test_bad_marks_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "id0.mp4")
    content = database("training")
    content["database"]["id0"]["annotations"] += [{"segment": [4, 1], "label": "a"}, {"label": "b"}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    text = error_of(tmp_path)
    assert "malformed row: 2" in text
    assert "a.json: id0 2: expected a segment of seconds and a label" in text


def test_thumos(tmp_path: Path) -> None:
    header = "video,type,type_idx,start,end,startFrame,endFrame"
    for side in ("val", "test"):
        name = f"video_{side}_0000266"
        touch(tmp_path, f"{side}/{name}.mp4")
        rows = [f"{name},CricketBowling,5,72.8,76.4,2184,2292", f"{name},Billiards,2,1,2,30,60"]
        (tmp_path / f"{side}_Annotation.csv").write_text("\n".join([header, *rows, ""]))
    clips = read(tmp_path, "thumos")
    assert [(part, split) for _, part, _, split in marks(clips)] == [
        (Part(1, 2), "val"),
        (Part(72.8, 76.4), "val"),
        (Part(1, 2), "train"),
        (Part(72.8, 76.4), "train"),
    ]


EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (None, ("open door", "turn-on light")),
        ("verb", ("open", "turn-on")),
        ("noun", ("door", "light")),
    ],
)
def test_epic_kitchens(target: str | None, names: tuple[str, str], tmp_path: Path) -> None:
    touch(tmp_path, "P01/videos/P01_01.MP4", "P02/videos/P02_01.MP4")
    rows = [
        "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,"
        "\"['door']\",[3]",
        "P01_01_1,P01,P01_01,00:00:02.629,00:01:04.37,00:01:06.17,262,370,turn on light,turn-on,6,"
        "light,114,\"['light']\",[114]",
    ]
    (tmp_path / "EPIC_100_train.csv").write_text("\n".join([EPIC, *rows, ""]))
    row = (
        "P02_01_0,P02,P02_01,00:00:01,00:00:01,00:00:02,50,100,open,open,3,door,3,\"['door']\",[3]"
    )
    (tmp_path / "EPIC_100_validation.csv").write_text("\n".join([EPIC, row, ""]))
    clips = read(tmp_path, "epic-kitchens", target=target)
    assert marks(clips) == [
        ("P01_01.MP4", Part(0.14, 3.37), (names[0],), "train"),
        ("P01_01.MP4", Part(64.37, 66.17), (names[1],), "train"),
        ("P02_01.MP4", Part(1, 2), (names[0],), "val"),
    ]
    assert {clip.group for clip in clips.splits["train"]} == {"P01"}
    assert "target is scene; use action, verb, noun" in error_of(tmp_path, target="scene")


def test_kinetics_of_whole_videos(tmp_path: Path) -> None:
    touch(tmp_path, "aaaaaaaaaaa.mp4", "sub/bbbbbbbbbbb_000004_000014.mp4")
    header = "label,youtube_id,time_start,time_end,split"
    rows = ["waving,aaaaaaaaaaa,3,13,train", "waving,aaaaaaaaaaa,20,30.5,train"]
    (tmp_path / "train.csv").write_text(
        "\n".join([header, *rows, "jump,bbbbbbbbbbb,4,14,train", ""])
    )
    assert marks(read(tmp_path, "kinetics")) == [
        ("aaaaaaaaaaa.mp4", Part(3, 13), ("waving",), "train"),
        ("aaaaaaaaaaa.mp4", Part(20, 30.5), ("waving",), "train"),
        ("bbbbbbbbbbb_000004_000014.mp4", None, ("jump",), "train"),
    ]


def test_createml(tmp_path: Path) -> None:
    touch(tmp_path, "a.mov", "b.mov")
    entries = [
        {"video": "a.mov", "label": "wave", "start": 0, "end": 3.14},
        {"video": "b.mov", "label": "jump", "start": "01:03", "end": "01:05.5"},
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(entries))
    wanted = [
        ("a.mov", Part(0, 3.14), ("wave",), "train"),
        ("b.mov", Part(63, 65.5), ("jump",), "train"),
    ]
    assert marks(read(tmp_path, "createml")) == wanted
    (tmp_path / "annotations.json").unlink()
    rows = [",".join(map(str, entry.values())) for entry in entries]
    (tmp_path / "annotations.csv").write_text("\n".join(["video,label,start,end", *rows, ""]))
    assert marks(read(tmp_path, "csv")) == wanted


BORIS = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),"
    "Coding duration,Media duration (s),FPS (frame/s),Subject,"
    "Observation duration by subject by observation,Behavior,Behavioral category,Behavior type,"
    "Start (s),Stop (s),Duration (s),Media file name,Image index start,Image index stop,"
    "Image file path start,Image file path stop,Comment start,Comment stop"
)


def test_boris_aggregated_events(tmp_path: Path) -> None:
    touch(tmp_path, "video.mp4")

    def row(behavior: str, kind: str, start: float, stop: float) -> str:
        about = "obs1,2025-09-06 14:58:19,,MEDIA,,0.0,00:05:00,300.0,30.0,cat,300.0"
        times = f"{start},{stop},{stop - start}"
        return f"{about},{behavior},,{kind},{times},video.mp4,0,165,,,,"

    rows = [row("walk", "STATE", 0, 5.5), row("sniff", "POINT", 6, 6), row("sit", "STATE", 6, 9)]
    (tmp_path / "events.csv").write_text("\n".join([BORIS, *rows, ""]))
    clips = read(tmp_path, "boris")
    assert marks(clips) == [
        ("video.mp4", Part(0, 5.5), ("walk",), "train"),
        ("video.mp4", Part(6, 9), ("sit",), "train"),
    ]
    assert "point events left out, as they have no duration: 1" in clips.why


def test_boris_pasted_events(tmp_path: Path) -> None:
    touch(tmp_path, "cam1.mp4")
    rows = ["1.5\tcat\twalk", "2\tdog\twalk", "4\tcat\twalk", "6.5\tdog\twalk"]
    (tmp_path / "cam1.tsv").write_text("\n".join([*rows, ""]))
    assert marks(read(tmp_path, "boris")) == [
        ("cam1.mp4", Part(1.5, 4), ("walk",), "train"),
        ("cam1.mp4", Part(2, 6.5), ("walk",), "train"),
    ]
    (tmp_path / "cam1.tsv").write_text("\n".join(rows[:3]) + "\n")
    assert "cam1.tsv:2: 'walk' starts at 2 s and does not stop" in error_of(tmp_path)


def tasks(**data: Any) -> list[dict[str, Any]]:
    results = [
        {
            "id": str(n),
            "type": "timelinelabels",
            "from_name": "what",
            "to_name": "video",
            "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": [name]},
        }
        for n, (start, end, name) in enumerate([(1, 25, "wave"), (49, 97, "jump")])
    ]
    phantom = {"type": "timelinelabels", "from_name": "what", "value": {"timelinelabels": ["wave"]}}
    file = {"video": "/data/upload/1/0a1b2c3d-clip%20one.mp4", **data}
    return [{"id": 7, "data": file, "annotations": [{"id": 1, "result": [*results, phantom]}]}]


def test_label_studio(tmp_path: Path) -> None:
    """Ranges become times at the rate of the template, whatever the rate of the file."""
    touch(tmp_path, "videos/clip one.mp4")
    (tmp_path / "project.json").write_text(json.dumps(tasks()))
    clips = read(tmp_path, "label-studio")
    assert marks(clips) == [
        ("clip one.mp4", Part(0, 1), ("wave",), "train"),
        ("clip one.mp4", Part(2, 4), ("jump",), "train"),
    ]
    assert "24 per second, the default of Label Studio" in clips.why
    (tmp_path / "project.json").write_text(json.dumps(tasks(fps=48)))
    assert [part for _, part, *_ in marks(read(tmp_path, "label-studio"))] == [
        Part(0, 0.5),
        Part(1, 2),
    ]
    two = tasks()
    two[0]["annotations"][0]["result"][0]["from_name"] = "who"
    (tmp_path / "project.json").write_text(json.dumps(two))
    assert "timelines of several controls: what, who; choose one with --target" in error_of(
        tmp_path
    )
    assert len(marks(read(tmp_path, "label-studio", target="who"))) == 1


VIA = r"""# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# Notes:
# SHAPE_ID = {"POINT":1}
# FLAG_ID = {"RESERVED_FOR_FUTURE":1}
# ATTRIBUTE = {"1":{"aname":"act","type":3,"options":{"0":"wave","1":"jump"}},"2":{"aname":"note"}}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_a","[""a.mp4""]",0,"[1.124,5.3]","[]","{""1"":""0""}"
"1_b","[""a.mp4""]",0,"[6,7]","[]","{""1"":""1""}"
"1_c","[""a.mp4""]",0,"[2.4]","[2,1,2,3,4]","{""1"":""1""}"
"""


def test_via(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "via.csv").write_text(VIA)
    wanted = [
        ("a.mp4", Part(1.124, 5.3), ("wave",), "train"),
        ("a.mp4", Part(6, 7), ("jump",), "train"),
    ]
    assert marks(read(tmp_path, "via")) == wanted
    (tmp_path / "via.csv").write_text(VIA.replace('""0""}', '""0"",""2"":""good""}'))
    assert "attributes of segments are act, note; choose the one" in error_of(tmp_path)
    assert marks(read(tmp_path, "via", target="act")) == wanted


def test_charades(tmp_path: Path) -> None:
    touch(tmp_path, "46GP8.mp4", "N11GT.mp4")
    (tmp_path / "Charades_v1_classes.txt").write_text("c092 Holding a\nc147 Sitting\nc001 Unused\n")
    header = (
        "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
    )
    row = (
        '46GP8,HR43,Kitchen,6,7,Yes,"A, b.",food,desc,c092 11.90 21.20;c147 0 12.6;c092 0 12.6,24.8'
    )
    (tmp_path / "Charades_v1_train.csv").write_text(f"{header}\n{row}\n")
    (tmp_path / "Charades_v1_test.csv").write_text(f"{header}\n{row.replace('46GP8', 'N11GT')}\n")
    clips = read(tmp_path, "charades")
    assert marks(clips) == [
        ("46GP8.mp4", Part(0, 12.6), ("Holding a", "Sitting"), "train"),
        ("46GP8.mp4", Part(11.9, 21.2), ("Holding a",), "train"),
        ("N11GT.mp4", Part(0, 12.6), ("Holding a", "Sitting"), "val"),
        ("N11GT.mp4", Part(11.9, 21.2), ("Holding a",), "val"),
    ]
    assert clips.splits["train"][0].group == "HR43"


def test_elan(tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi")
    touch(tmp_path, "videos/talk.mp4", "other.mp4")
    eaf = pympi.Elan.Eaf()
    eaf.add_linked_file("file:///C:/marks/videos/talk.mp4", "./videos/talk.mp4", "video/mp4")
    eaf.add_tier("gesture")
    eaf.add_annotation("gesture", 1500, 2750, "wave")
    eaf.add_annotation("gesture", 3000, 4000, "point")
    eaf.to_file(str(tmp_path / "talk.eaf"))
    wanted = [
        ("talk.mp4", Part(1.5, 2.75), ("wave",), "train"),
        ("talk.mp4", Part(3, 4), ("point",), "train"),
    ]
    assert marks(read(tmp_path, "elan")) == wanted
    eaf.add_tier("speaker")
    eaf.add_annotation("speaker", 0, 9000, "Ann")
    eaf.to_file(str(tmp_path / "talk.eaf"))
    text = error_of(tmp_path)
    assert "the tiers with annotations are gesture, speaker" in text
    assert "choose the one with the classes with --target TIER" in text
    assert marks(read(tmp_path, "elan", target="gesture")) == wanted
    (tmp_path / "broken.eaf").write_text("<ANNOTATION")
    assert "broken.eaf: cannot be read as an ELAN file" in error_of(tmp_path)


def test_a_recording_in_two_places_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/id0.mp4", "two/v_id0.mp4", "two/id0.mkv")
    (tmp_path / "a.json").write_text(json.dumps(database("training")))
    assert "id0 could be" in error_of(tmp_path)
