"""``smnet data show``, ``check``, ``stats`` and ``draw``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smnet.data.annotations.read import read_clips
from smnet.data.checks.stats import Survey, survey_clips
from smnet.errors import UserError
from smnet.report.survey import draw_survey
from tests.videos import moving_frames, write_video

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, four clips in train/, two in val/, all sound. Not to be changed."""
    root = tmp_path_factory.mktemp("data") / "clips"
    for number, place in enumerate(("train/a", "train/b", "val/a", "val/b")):
        (root / place).mkdir(parents=True)
        for k in range(2 if place.startswith("train") else 1):
            seed = 10 * number + k
            frames = moving_frames(6 + number, 32 + 16 * number, 32, seed=seed)
            write_video(root / place / f"{k}.mp4", frames)
    return root


@pytest.fixture
def hurt(data: Path, tmp_path: Path) -> Path:
    """The same with an empty file, a copy across the splits and a stray clip."""
    root = tmp_path / "hurt"
    shutil.copytree(data, root)
    (root / "train/a/1.mp4").write_bytes(b"")
    shutil.copy(root / "val/b/0.mp4", root / "train/b/9.mp4")
    shutil.copy(root / "val/a/0.mp4", root / "train/stray.mp4")
    return root


def test_show(data: Path, smnet: Call) -> None:
    called = smnet("data", "show", data, "--rows", 1)
    assert called.status == 0
    assert f"{data}: format folders" in called.out
    assert "because: a folder per class in train/ and val/" in called.out
    assert "2 classes: a, b" in called.out
    assert [line.split() for line in called.out.splitlines() if line.startswith(("train", "val"))]
    assert ["train", "4", "0"] in [line.split() for line in called.out.splitlines()]
    assert f"a: {data}/train/a/0.mp4" in called.out
    assert f"{data}/train/a/1.mp4" not in called.out


def test_show_as_json_takes_the_hints(data: Path, smnet: Call, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("zebra\nant\n")
    (tmp_path / "list").mkdir()
    (tmp_path / "list/train.txt").write_text("train/a/0.mp4 0\ntrain/b/0.mp4 1\n")
    (tmp_path / "list/val.txt").write_text("val/a/0.mp4 0\nval/b/gone.mp4 1\n")
    names = tmp_path / "names.txt"
    called = smnet("data", "show", tmp_path / "list", "--root", data, "--labels", names, "--json")
    result = json.loads(called.out)
    assert (called.status, result["format"], result["problems"]) == (0, "list", 0)
    assert result["classes"] == ["zebra", "ant"]
    assert result["splits"] == {"train": 2, "val": 1}
    assert result["missing"] == {"train": 0, "val": 1}
    assert result["rows"]["val"] == [
        {"source": "val.txt:1", "path": f"{data}/val/a/0.mp4", "label": 0, "frames": None}
    ]


def test_show_tells_of_unusable_rows(hurt: Path, smnet: Call) -> None:
    called = smnet("data", "show", hurt)
    assert called.status == 1
    assert "1 problem in the annotation" in called.err
    assert "stray.mp4: is outside of the class folders" in called.err
    assert "format folders" in called.out


def test_check_of_a_sound_set(data: Path, smnet: Call) -> None:
    called = smnet("data", "check", data, "--workers", 2)
    assert called.status == 0
    assert "6 clips decoded" in called.out
    assert "nothing found" in called.out


@pytest.mark.parametrize("quick", [True, False])
def test_check_finds_reports_and_mends(
    hurt: Path, smnet: Call, tmp_path: Path, quick: bool
) -> None:
    report, fixed = tmp_path / "out/report.json", tmp_path / "out/fixed.csv"
    words = ("data", "check", hurt, "--report", report, "--fix-list", fixed, "--workers", 2)
    words = (*words, "--overwrite")
    for _ in range(2):  # what is there from an earlier run is written over
        called = smnet(*words, *["--quick"] * quick)
        assert called.status == 1
        assert ("read without decoding" in called.out) == quick
        assert f"{hurt}/train/stray.mp4: clip without a class" in called.out
        assert f"{hurt}/train/a/1.mp4: empty: is empty (0 bytes)" in called.out
        assert f"{hurt}/train/b/9.mp4: leak: same content as {hurt}/val/b/0.mp4" in called.out
        assert "list of 5 sound clips" in called.out
    result = json.loads(report.read_text())
    assert result["counts"] == {"clip without a class": 1, "empty": 1, "leak": 1}
    assert result["decoded"] != quick
    again = read_clips(fixed)
    assert {split: len(clips) for split, clips in again.splits.items()} == {"train": 3, "val": 2}
    assert smnet("data", "check", fixed).status == 0


def test_check_remembers(hurt: Path, smnet: Call, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    first = smnet("data", "check", hurt, "--report", report, "--workers", 2)
    assert "remembered" not in first.out
    second = smnet("data", "check", hurt, "--report", report, "--workers", 2)
    assert "7 clips decoded (7 unchanged, remembered) in" in second.out
    assert second.out.splitlines()[2:] == first.out.splitlines()[2:]
    inside = smnet("data", "check", hurt, "--report", hurt / "report.csv", "--workers", 2)
    assert inside.status == 1
    assert not list(hurt.rglob("*.memory"))
    memory = hurt / "mine"
    for _ in range(2):
        result = smnet("data", "check", hurt, "--memory", memory, "--workers", 2)
    assert "(7 unchanged" in result.out


def test_a_thousand_of_one_do_not_hide_another(data: Path, smnet: Call, tmp_path: Path) -> None:
    rows = [f"none/{i}.mp4,a,train" for i in range(100)]
    rows += ["train/a/0.mp4,a,train", "train/b/0.mp4,b,train", "val/a/0.mp4,c,nowhere"]
    (tmp_path / "list.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    called = smnet("data", "check", tmp_path / "list.csv", "--root", data, "--workers", 1)
    assert called.status == 1
    assert called.out.count("no such file") < 41
    assert "list.csv:104: malformed row" in called.out
    assert "and 61 more; --report FILE.csv lists all" in called.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "DATA", "--report", "faults.txt"], "written as .json or .csv"),
        (["check", "DATA", "--fix-list", "DATA/fixed.csv"], "beside the annotation"),
        (["check", "DATA/none"], "cannot open"),
        (["stats", "DATA", "--picture", "a.jpg"], "written as .png, .svg or .pdf"),
        (["show", "DATA", "--format", "what"], "no annotation format 'what'"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, data: Path, smnet: Call) -> None:
    called = smnet("data", *(word.replace("DATA", str(data)) for word in words))
    assert called.status == 1
    assert called.err.startswith("smnet: ")
    assert said in called.err
    assert called.err.count("\n") == 1


def test_stats(data: Path, smnet: Call, tmp_path: Path) -> None:
    called = smnet("data", "stats", data, "--workers", 2)
    assert called.status == 0
    lines = [line.split() for line in called.out.splitlines()]
    assert ["a", "2", "1"] in lines
    assert ["b", "2", "1"] in lines
    assert ["all", "4", "2"] in lines
    assert ["frames", "6", "6.25", "7", "7.75", "9"] in lines
    assert "codec: h264 6" in called.out
    assert "size: 32x32 2, 48x32 2, 64x32 1, 80x32 1" in called.out
    result = json.loads(smnet("data", "stats", data, "--json").out)
    assert result["clips"] == {"train": 4, "val": 2}
    assert result["classes"]["b"] == {"train": 2, "val": 1}
    assert result["spread"]["frames"] == [6, 6.25, 7, 7.75, 9]
    assert result["spread"]["fps"] == [25] * 5
    assert result["hours"] * 3600 == pytest.approx(43 / 25, abs=0.01)


def test_stats_counts_what_it_cannot_open(hurt: Path, smnet: Call) -> None:
    result = json.loads(smnet("data", "stats", hurt, "--json").out)
    assert (result["unreadable"], result["missing"], result["unusable_rows"]) == (1, 0, 1)


def test_stats_picture(data: Path, smnet: Call, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.png", "a.svg"):
        called = smnet("data", "stats", data, "--picture", tmp_path / name)
        assert (called.status, called.err) == (0, f"picture: {tmp_path / name}\n")
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    drawn = (tmp_path / "a.svg").read_text()
    for words in ("6 clips, 2 classes", "duration, seconds", "codec", "train"):
        assert words in drawn


def test_picture_of_nothing(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    survey = survey_clips(data, workers=1)
    empty = Survey(survey.clip_set, {split: [None] for split in survey.facts}, 0)
    with pytest.raises(UserError, match="nothing to draw"):
        draw_survey(tmp_path / "a.png", empty)


def test_data_verbs_need_no_torch() -> None:
    code = (
        "import sys, smnet.cli.main, smnet.data.checks.check, smnet.data.checks.stats;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_clips_are_drawn(smnet: Call, tmp_path: Path) -> None:
    words = ("data", "draw", tmp_path / "drawn", "--train", 10, "--val", 10, "--size", 32)
    called = smnet(*words)
    assert called.out == f"{tmp_path / 'drawn'}: 10 clips for training, 10 held back\n"
    assert smnet(*words).status == 0  # is complete
    clips = read_clips(tmp_path / "drawn")
    assert {split: len(rows) for split, rows in clips.splits.items()} == {"train": 10, "val": 10}
    assert "train=5; give a whole number from 10" in smnet(*words[:3], "--train", 5).err
