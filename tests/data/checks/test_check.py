"""Checks find what is wrong with clips and annotations, and write reports and fix lists."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from smnet.data.annotations.read import read_clips
from smnet.data.checks import memory as check_memory
from smnet.data.checks.check import CheckReport, check_clips
from smnet.data.checks.inspection import Inspection, inspect_clip
from smnet.data.checks.outputs import check_targets, memory_beside, write_fix_list, write_report
from smnet.data.clips import Clip
from smnet.errors import UserError
from tests.videos import moving_frames, rewrite, write_video

KINDS = {
    "a.mp4": {"bframes": 3},
    "a.avi": {"codec": "mpeg4"},
    "packed.avi": {"codec": "mpeg4", "bframes": 2},
    "a.mkv": {},
    "a.ts": {"bframes": 2},
    "uneven.mp4": {"timestamps": np.cumsum(range(20, 40)).tolist()},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "vp8.webm": {"codec": "libvpx", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "a.gif": {"codec": "gif"},
    "rotated.mov": {"rotation": 90},
    "interlaced.mp4": {"options": {"x264-params": "interlaced=1"}},
    "refresh.mp4": {"options": {"x264-params": "intra-refresh=1"}},
}


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sound files, 20 frames each. Not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    for name, options in KINDS.items():
        write_video(folder / name, moving_frames(20), **options)  # type: ignore[arg-type]
    return folder


def problems(path: Path, decode: bool = True, **about: object) -> list[str]:
    clip = Clip(str(path), 0, "list:1", **about)  # type: ignore[arg-type]
    return [kind for kind, _ in inspect_clip(clip, decode=decode).problems]


def frames(folder: Path, count: int = 5, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(moving_frames(count, 24, 16, seed)):
        Image.fromarray(frame).save(folder / f"{i + 1:05d}.jpg")
    return folder


# --- single clips -----------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_sound_files_are_sound(name: str, decode: bool, sound: Path) -> None:
    found = inspect_clip(Clip(str(sound / name), 0, "x"), decode=decode)
    assert found.problems == ()
    facts = found.facts
    assert facts is not None
    assert facts.frames == 20
    assert (facts.width, facts.height) == (64, 48)
    assert facts.seconds == pytest.approx(0.605 if name == "uneven.mp4" else 0.8, rel=0.35)
    assert facts.bytes == (sound / name).stat().st_size
    assert len(found.digest) == 16


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "vp9.webm", "vp8.webm", "a.mkv"])
def test_a_cut_off_file_is_truncated(name: str, decode: bool, sound: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.mp4":  # the index first, as for the web, so that it is not what is cut off
        with (
            av.open(str(sound / name)) as old,
            av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as new,
        ):
            copy = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = copy
                    new.mux(packet)
        data = (tmp_path / "fast.mp4").read_bytes()
    else:
        data = (sound / name).read_bytes()
    path.write_bytes(data[: len(data) * 8 // 10])
    assert problems(path, decode)[:1] == ["truncated"]


def test_missing_bytes_of_a_webm_are_counted(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    path.write_bytes((sound / "vp9.webm").read_bytes()[:-7])
    found = inspect_clip(Clip(str(path), 0, "x"), decode=False)
    assert found.problems == (("truncated", "its end is missing, 7 bytes by its header"),)


def test_a_hole_in_a_webm_at_which_the_demuxer_stops(tmp_path: Path) -> None:
    options = {"cpu-used": "8", "deadline": "realtime"}
    path = write_video(
        tmp_path / "a.webm", moving_frames(60), codec="libvpx-vp9", options=options, gop=10
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle:] = bytes(len(data) - middle)
    path.write_bytes(data)
    assert problems(path, decode=False)[:1] == ["truncated"]


def test_damage_is_found_by_decoding(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    data = bytearray((sound / "a.mkv").read_bytes())
    with av.open(str(sound / "a.mkv")) as container:
        packet = [bytes(p) for p in container.demux(video=0) if p.size][7]
    at = data.index(packet)
    data[at : at + len(packet)] = bytes(255 for _ in packet)
    path.write_bytes(data)
    assert problems(path) == ["damaged"]
    assert problems(path, decode=False) == []


def test_a_cut_without_reencoding_is_no_damage(sound: Path, tmp_path: Path) -> None:
    """Frames before the first keyframe in time refer to what the cut took away."""
    source = write_video(
        tmp_path / "open.mp4",
        moving_frames(40),
        bframes=3,
        options={"x264-params": "open-gop=1:b-adapt=0"},
    )
    with av.open(str(source)) as container:
        keys = [i for i, p in enumerate(container.demux(video=0)) if p.size and p.is_keyframe]
    path = rewrite(source, tmp_path / "cut.mkv", range(keys[1], 40))
    assert "truncated" not in problems(path)


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for _ in range(4):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_clips_that_do_not_open(sound: Path, tmp_path: Path) -> None:
    assert problems(tmp_path / "none.mp4") == ["missing"]
    (tmp_path / "hollow.mp4").touch()
    assert problems(tmp_path / "hollow.mp4") == ["empty"]
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    assert problems(tmp_path / "text.mp4") == ["unreadable"]
    (tmp_path / "half.mp4").write_bytes((sound / "a.mp4").read_bytes()[:500])
    assert problems(tmp_path / "half.mp4") == ["unreadable"]
    (tmp_path / "folder").mkdir()
    assert problems(tmp_path / "folder") == ["empty"]
    assert problems(audio_only(tmp_path / "sound.mp4")) == ["audio only"]
    rewrite(sound / "a.mkv", tmp_path / "nothing.avi", range(0))
    assert problems(tmp_path / "nothing.avi") == ["zero duration"]


def test_the_message_does_not_repeat_the_path(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    ((_, message),) = inspect_clip(Clip(str(tmp_path / "text.mp4"), 0, "x")).problems
    assert message.startswith("is not a video")


def test_frame_folders(tmp_path: Path) -> None:
    folder = frames(tmp_path / "clip", 5)
    found = inspect_clip(Clip(str(folder), 0, "x", num_frames=5))
    assert found.problems == ()
    assert found.facts is not None
    assert (found.facts.frames, found.facts.codec) == (5, "jpeg")
    assert found.facts.bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert problems(folder, num_frames=6) == ["wrong frame count"]
    assert problems(folder, num_frames=4) == ["more frames"]
    (folder / sorted(p.name for p in folder.iterdir())[-1]).write_bytes(b"broken")
    assert problems(folder, num_frames=4) == ["more frames"]  # what is not used may be
    assert problems(folder, num_frames=5) == ["damaged"]
    (folder / "00003.jpg").write_bytes((folder / "00003.jpg").read_bytes()[:300])
    assert problems(folder) == ["damaged"]
    assert problems(folder, decode=False) == []
    (folder / "00003.jpg").unlink()
    assert problems(folder) == ["unreadable"]


def test_digest_is_of_the_content(sound: Path, tmp_path: Path) -> None:
    def digest(path: Path) -> bytes:
        return inspect_clip(Clip(str(path), 0, "x"), decode=False).digest

    copy = shutil.copy(sound / "a.mp4", tmp_path / "other.mp4")
    assert digest(copy) == digest(sound / "a.mp4") != digest(sound / "a.avi")
    one = frames(tmp_path / "1")
    same = frames(tmp_path / "2")
    other = frames(tmp_path / "3", seed=9)
    assert digest(one) == digest(same) != digest(other)
    assert inspect_clip(Clip(str(copy), 0, "x"), digest=False).digest == b""


# --- a data set -------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A csv over videos of two classes in two splits, all sound: v/0.mp4 to v/9.mp4."""
    folder = tmp_path / "data"
    (folder / "v").mkdir(parents=True)
    rows = ["path,label,split"]
    for i in range(10):
        write_video(folder / f"v/{i}.mp4", moving_frames(6, 32, 32, seed=i))
        rows.append(f"v/{i}.mp4,{'ab'[i % 2]},{'train' if i < 6 else 'val'}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder


def kinds(report: CheckReport) -> list[tuple[str, str]]:
    return [(f.kind, f.source) for f in report.findings]


def add(tree: Path, *rows: str) -> None:
    with (tree / "list.csv").open("a") as file:
        file.write("\n".join(rows) + "\n")


def test_a_sound_set_has_no_findings(tree: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    report = check_clips(tree, workers=2, progress=lambda *what: seen.append(what))
    assert report.findings == ()
    assert report.counts == {}
    assert {split: len(clips) for split, clips in report.sound.items()} == {"train": 6, "val": 4}
    assert report.checked == 10
    assert seen == [(i + 1, 10, 0) for i in range(10)]


def test_annotation_problems_are_findings(tree: Path) -> None:
    (tree / "labels.txt").write_text("a\nb\nidle\n")
    add(tree, "v/none.mp4,a,train", "v/1.mp4,c,train", "v/2.mp4,a,never", "v/3.mp4,b,val")
    report = check_clips(tree, workers=1)
    assert kinds(report) == [
        ("malformed row", "list.csv:14"),
        ("unknown label", "list.csv:13"),
        ("leak", "list.csv:15"),
        ("class without a clip", str(tree)),
        ("missing", "list.csv:12"),
    ]
    missing = report.findings[-1]
    assert (missing.path, missing.split) == (str(tree / "v/none.mp4"), "train")
    assert report.findings[1].path.endswith("1.mp4")
    assert str(tree / "v/3.mp4") in {clip.path for clip in report.sound["val"]}
    with pytest.raises(UserError, match="4 problems"):
        read_clips(tree, missing="report")


def test_label_out_of_range_in_a_list(tree: Path) -> None:
    (tree / "list.csv").unlink()
    (tree / "labels.txt").write_text("a\nb\n")
    (tree / "train.txt").write_text("v/0.mp4 0\nv/1.mp4 1\nv/2.mp4 7\n")
    (tree / "val.txt").write_text("v/3.mp4 1\n")
    report = check_clips(tree, workers=1)
    assert kinds(report) == [("label out of range", "train.txt:3")]
    assert report.findings[0].path == str(tree / "v/2.mp4")


def test_duplicates_leaks_and_contradictions(tree: Path) -> None:
    copies = {"10": (0, "a,train"), "11": (7, "b,train"), "12": (2, "b,train"), "13": (9, "b,val")}
    for name, (source, about) in copies.items():
        shutil.copy(tree / f"v/{source}.mp4", tree / f"v/{name}.mp4")
        add(tree, f"v/{name}.mp4,{about}")
    report = check_clips(tree, workers=2)
    assert kinds(report) == [
        ("contradiction", "list.csv:4"),  # 2.mp4, of which 12.mp4 is a copy with another label
        ("duplicate", "list.csv:12"),
        ("leak", "list.csv:13"),
        ("duplicate", "list.csv:14"),
        ("duplicate", "list.csv:15"),
    ]
    assert "list.csv:9" in report.findings[2].message
    assert "in val" in report.findings[2].message
    assert "labelled 'a'" in report.findings[3].message
    names = {Path(clip.path).stem for clips in report.sound.values() for clip in clips}
    assert names == set("013456789")


def test_a_clip_listed_with_two_labels_is_not_used(tree: Path) -> None:
    add(tree, "v/0.mp4,b,train")
    report = check_clips(tree, workers=1)
    assert kinds(report) == [("contradiction", "list.csv:12")]
    assert str(tree / "v/0.mp4") not in {clip.path for clip in report.sound["train"]}


def test_a_class_whose_clips_are_all_bad(tree: Path, tmp_path: Path) -> None:
    for i in (1, 3, 5):
        (tree / f"v/{i}.mp4").write_bytes(b"")
    report = check_clips(tree, workers=1)
    assert kinds(report)[:3] == [("empty", f"list.csv:{i + 2}") for i in (1, 3, 5)]
    assert report.findings[3].kind == "class without a clip"
    assert "'b'" in report.findings[3].message
    assert write_fix_list(tmp_path / "fixed.csv", report) == (5, 2)
    assert read_clips(tmp_path / "fixed.csv").classes == ("a",)


def hostile(clip: Clip, **options: bool) -> Inspection:
    """Stands for files that kill or hang the decoder."""
    if clip.path.endswith("3.mp4"):
        os._exit(11)
    if clip.path.endswith("8.mp4"):
        time.sleep(1000)
    return inspect_clip(clip, **options)


def test_a_crash_and_a_hang_are_one_finding_each(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_memory, "inspect_clip", hostile)
    began = time.monotonic()
    report = check_clips(tree, workers=2, timeout=3.0)
    assert time.monotonic() - began < 30
    assert kinds(report) == [("crash", "list.csv:5"), ("stuck", "list.csv:10")]
    assert "within 3 seconds" in report.findings[1].message
    assert sum(map(len, report.sound.values())) == 8


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1", "b/2", "b/\udcff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / "x.mkv", moving_frames(4, 16, 16, seed=len(name)))
        (tmp_path / "x.mkv").rename(tmp_path / f"{name}.mkv")
    report = check_clips(tmp_path, workers=1)
    assert "unlistable name" in report.counts
    for file in ("out/r.json", "out/r.csv"):
        write_report(tmp_path / file, report)
    assert "udcff" in (tmp_path / "out/r.csv").read_text(encoding="utf-8")


# --- memory -----------------------------------------------------------------------------------


def counting(opened: Path) -> Callable[..., Inspection]:
    def inspect(clip: Clip, **options: bool) -> Inspection:
        with opened.open("a") as file:
            file.write(f"{clip.path}\n")
        return inspect_clip(clip, **options)

    return inspect


def test_unchanged_clips_are_not_opened_again(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, memory = tmp_path / "opened", tmp_path / "out/check.memory"
    monkeypatch.setattr(check_memory, "inspect_clip", counting(opened))
    frames(tree / "v/folder", 7)
    add(tree, "v/folder,b,train")
    (tree / "v/4.mp4").write_bytes(b"broken")
    (tree / "v/5.mp4").write_bytes((tree / "v/2.mp4").read_bytes())
    first = check_clips(tree, workers=2, memory=memory)
    assert (first.checked, first.remembered) == (11, 0)
    assert len(opened.read_text().split()) == 11
    again = check_clips(tree, workers=2, memory=memory)
    assert (again.checked, again.remembered) == (11, 11)
    assert again.findings == first.findings != ()
    assert again.sound == first.sound
    assert len(opened.read_text().split()) == 11
    opened.unlink()
    shutil.copy(tree / "v/0.mp4", tree / "v/4.mp4")
    os.utime(tree / "v/3.mp4", ns=(1, 1))
    Image.fromarray(moving_frames(1, 24, 16)[0]).save(tree / "v/folder/00008.jpg")
    third = check_clips(tree, workers=2, memory=memory)
    assert {Path(line).name for line in opened.read_text().split()} == {"3.mp4", "4.mp4", "folder"}
    assert third.remembered == 8
    assert third.counts == check_clips(tree, workers=2).counts
    assert not [p for p in tree.rglob("*") if "memory" in p.name]


def test_a_changed_frame_count_is_checked_again(tree: Path, tmp_path: Path) -> None:
    frames(tree / "v/folder", 7)
    memory, data = tmp_path / "m", tree / "list.csv"
    text = data.read_text().replace("split", "split,frames").replace("train", "train,")
    data.write_text(text.replace("val", "val,") + "v/folder,b,train,7\n")
    assert check_clips(data, workers=1, memory=memory).findings == ()
    data.write_text(data.read_text().replace("train,7", "train,9"))
    report = check_clips(data, workers=1, memory=memory)
    assert (report.counts, report.remembered) == ({"wrong frame count": 1}, 10)


def test_quick_and_full_checks_have_separate_results(tree: Path, tmp_path: Path) -> None:
    memory = tmp_path / "m"
    for decode, remembered in ((False, 0), (True, 0), (False, 10), (True, 10)):
        report = check_clips(tree, workers=1, decode=decode, memory=memory)
        assert report.remembered == remembered


def test_an_interrupted_check_is_resumed(tree: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, found: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    memory = tmp_path / "m"
    with pytest.raises(KeyboardInterrupt):
        check_clips(tree, workers=1, memory=memory, progress=interrupt)
    assert check_clips(tree, workers=1, memory=memory).remembered == 6
    assert check_clips(tree, workers=1, memory=memory).remembered == 10


def test_crashed_and_stuck_clips_are_tried_again(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "m"
    with monkeypatch.context() as patched:
        patched.setattr(check_memory, "inspect_clip", hostile)
        check_clips(tree, workers=2, timeout=3.0, memory=memory)
    report = check_clips(tree, workers=2, memory=memory)
    assert (report.counts, report.remembered) == ({}, 8)


def test_results_of_other_versions_are_not_used(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "m"
    with monkeypatch.context() as patched:
        patched.setattr(check_memory, "version", lambda name: "0.0.0a0")
        check_clips(tree, workers=1, memory=memory)
    assert check_clips(tree, workers=1, memory=memory).remembered == 0
    assert check_clips(tree, workers=1, memory=memory).remembered == 10


def test_the_text_files_of_earlier_versions_are_replaced(tree: Path, tmp_path: Path) -> None:
    memory = tmp_path / "m"
    memory.write_text('{"format": "smnet-check", "of": "smnet-video 0.1, av 17.1.0"}\n')
    assert check_clips(tree, workers=1, memory=memory).remembered == 0
    assert check_clips(tree, workers=1, memory=memory).remembered == 10


@pytest.mark.parametrize(
    "content", [b"my thesis\n", b"", b"\0\1", b'{"format": "other"}\n', b"[" * 10000 + b"\n"]
)
def test_other_files_are_not_overwritten(content: bytes, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content)
    if not content:
        assert check_clips(tree, workers=1, memory=tmp_path / "m").findings == ()
        return
    with pytest.raises(UserError, match=f"{tmp_path}/m"):
        check_clips(tree, workers=1, memory=tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == content


def test_databases_of_other_programs_are_not_overwritten(tree: Path, tmp_path: Path) -> None:
    memory = tmp_path / "m"
    with closing(sqlite3.connect(memory)) as database:
        database.execute("CREATE TABLE clips (name TEXT)")
        database.commit()
    content = memory.read_bytes()
    with pytest.raises(UserError, match="another program"):
        check_clips(tree, workers=1, memory=memory)
    assert memory.read_bytes() == content


def test_a_memory_goes_beside_the_report_but_not_into_the_data(tree: Path, tmp_path: Path) -> None:
    assert memory_beside(tmp_path / "r.json", tree) == tmp_path / "r.json.memory"
    for report in (tree / "r.json", tree / "deep/r.csv"):
        assert memory_beside(report, tree) is None
        assert memory_beside(report, tree / "list.csv") is None


# --- outputs ----------------------------------------------------------------------------------


def test_fix_list_round_trip(tree: Path, tmp_path: Path) -> None:
    frames(tree / "v/folder", 7)
    (tree / 'v/odd, "name".mp4').write_bytes((tree / "v/0.mp4").read_bytes() + b"free")
    (tree / "v/4.mp4").write_bytes(b"broken")
    (tree / "list.csv").write_text((tree / "list.csv").read_text().replace("val", "val,"))
    text = (
        (tree / "list.csv").read_text().replace("split", "split,frames").replace("train", "train,")
    )
    (tree / "list.csv").write_text(text)
    add(tree, "v/folder,b,train,7", '"v/odd, ""name"".mp4",a,val,')
    before = {file: file.read_bytes() for file in tree.rglob("*") if file.is_file()}
    report = check_clips(tree, workers=2)
    assert kinds(report) == [("unreadable", "list.csv:6")]
    for place in (tmp_path / "fixed.csv", tmp_path / "elsewhere/fixed.csv"):
        assert write_fix_list(place, report) == (11, 0)
        again = read_clips(place)
        assert again.classes == ("a", "b")
        assert {
            split: [(c.path, c.label, c.num_frames) for c in clips]
            for split, clips in again.splits.items()
        } == {
            split: [(c.path, c.label, c.num_frames) for c in clips]
            for split, clips in report.sound.items()
        }
        assert check_clips(place, workers=2).findings == ()
    with (tmp_path / "fixed.csv").open() as file:
        assert next(csv.DictReader(file))["path"] == "data/v/0.mp4"
    assert before == {file: file.read_bytes() for file in tree.rglob("*") if file.is_file()}


def test_a_fix_list_that_does_not_read_back_is_refused(tree: Path, tmp_path: Path) -> None:
    report = check_clips(tree, workers=1)
    (tmp_path / "labels.txt").write_text("other\nnames\n")
    with pytest.raises(UserError, match="class names of another"):
        write_fix_list(tmp_path / "fixed.csv", report)


def test_nothing_left_to_write(tree: Path, tmp_path: Path) -> None:
    for file in (tree / "v").iterdir():
        file.write_bytes(b"")
    report = check_clips(tree, workers=1)
    with pytest.raises(UserError, match="no sound clip"):
        write_fix_list(tmp_path / "fixed.csv", report)


def test_outputs_are_refused_before_the_work(tree: Path, tmp_path: Path) -> None:
    check_targets(tree, tmp_path / "r.json", tmp_path / "f.csv")
    for report, fixed, words in (
        (tmp_path / "r.txt", None, "as .json or .csv"),
        (None, tmp_path / "f.txt", "as .csv"),
        (None, tree / "f.csv", "beside the annotation"),
    ):
        with pytest.raises(UserError, match=words):
            check_targets(tree, report, fixed)
    with pytest.raises(UserError, match="beside the annotation"):
        check_targets(tree / "list.csv", None, tree / "list.csv")


def test_reports(tree: Path, tmp_path: Path) -> None:
    (tree / "v/4.mp4").write_bytes(b"")
    report = check_clips(tree, workers=1)
    write_report(tmp_path / "r.json", report)
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["counts"] == {"empty": 1}
    assert written["clips"] == 10
    assert written["sound"] == {"train": 5, "val": 4}
    write_report(tmp_path / "r.csv", report)
    with (tmp_path / "r.csv").open() as file:
        assert list(csv.DictReader(file)) == written["findings"]
    assert written["findings"][0]["source"] == "list.csv:6"
    assert written["findings"][0]["path"] == str(tree / "v/4.mp4")


@pytest.mark.skipif(
    "SMNET_TEST_CLIPS" not in os.environ,
    reason="set SMNET_TEST_CLIPS to a folder of real clips to look at them all",
)
@pytest.mark.parametrize("decode", [True, False])
def test_real_clips(decode: bool) -> None:
    """Nothing is found in sound files of the real data sets; the broken ones are known."""
    root = Path(os.environ["SMNET_TEST_CLIPS"])
    suffixes = {".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm"}
    found = {
        path.name: kind
        for path in sorted(root.rglob("*"))
        if path.suffix in suffixes
        for kind in problems(path, decode)[:1]
    }
    expected = {
        "derived_audio_only.mp4": "audio only",
        "derived_header_only.mp4": "unreadable",
        "derived_text.mp4": "unreadable",
        "derived_truncated_kinetics.mp4": "unreadable",
        "derived_truncated_smth.webm": "truncated",
        "derived_truncated_ucf101.avi": "truncated",
        "derived_zero_bytes.mp4": "empty",
        "derived_zero_frames.mkv": "zero duration",
        **({"decord_corrupted.mp4": "damaged"} if decode else {}),
    }
    assert found == expected
