"""``smnet timeline`` and ``smnet evaluate --recordings`` at the command line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from smnet.data.open import open_video
from tests.conftest import Called
from tests.timeline.conftest import PARTS, film, network, recording

__all__ = ["film", "network"]

Smnet = Callable[..., Called]
FAST = ("--window", 1, "--every", 0.5, "--high", 0.45)


def marks(path: Path, films: dict[str, str]) -> Path:
    """A csv of the labelled parts of films, in splits."""
    rows = ["path,label,start,end,split"]
    for name, split in films.items():
        begin = 0.0
        for label, seconds in PARTS:
            if label != "none":
                rows.append(f"{name},{label},{begin},{begin + seconds},{split}")
            begin += seconds
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    for name in ("one", "two", "three"):
        recording(tmp_path / f"{name}.mp4")
    return marks(tmp_path / "marks.csv", {"one.mp4": "train", "two.mp4": "val", "three.mp4": "val"})


def test_segments_are_printed(smnet: Smnet, network: Path, film: Path) -> None:
    called = smnet("timeline", network, film, *FAST)
    assert called.status == 0, called.err
    labels = [line.split()[-1] for line in called.out.splitlines()]
    assert set(labels) <= {"red", "blue"}
    assert "red" in labels
    assert "windows in" in called.err
    assert "bottleneck" in called.err


def test_json_lines(smnet: Smnet, network: Path, film: Path) -> None:
    called = smnet("timeline", network, film, *FAST, "--json")
    values = json.loads(called.out)
    assert values["file"] == str(film)
    assert {"start", "end", "label", "score"} == set(values["segments"][0])
    assert "scores" not in values


def test_several_files_of_one_video(
    smnet: Smnet, network: Path, film: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"out.{form}" for form in ("json", "srt", "html")]
    words = [word for file in files for word in ("--out", file)]
    called = smnet(
        *("timeline", network, film, *FAST, *words),
        *("--annotate", tmp_path / "labelled.mp4"),
    )
    assert called.status == 0, called.err
    assert all(file.stat().st_size for file in files)
    with open_video(tmp_path / "labelled.mp4") as video:
        assert video.num_frames == 260
    called = smnet("timeline", network, film, *FAST, "--out", tmp_path / "out.srt")
    assert called.status == 1
    assert "exists and was not written by smnet" in called.err


def test_a_folder_is_resumed(smnet: Smnet, network: Path, film: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    films = tmp_path / "films"
    for name in ("a.mp4", "below/b.mp4"):
        (films / name).parent.mkdir(parents=True, exist_ok=True)
        (films / name).symlink_to(film)
    (films / "broken.mp4").write_bytes(b"not a film")
    out = tmp_path / "timelines"
    words = ("timeline", network, films, *FAST, "--out", f"{out}/", "--to", "json,vtt")
    called = smnet(*words)
    assert called.status == 0, called.err
    assert "3 videos: 0 done before, 2 new, 1 unreadable" in called.out
    files = [out / name for name in ("a.json", "a.vtt", "below/b.json", "below/b.vtt")]
    assert all(file.exists() for file in files)
    rows = pq.read_table(out / "timelines.parquet").to_pylist()
    assert sorted(Path(row["path"]).name for row in rows) == ["a.mp4", "b.mp4"]
    (timeline,) = (
        json.loads(line) for line in smnet(*words[:2], film, *FAST, "--json").out.splitlines()
    )
    assert [s["label"] for s in rows[0]["segments"]] == [s["label"] for s in timeline["segments"]]
    assert rows[0]["duration"] == pytest.approx(timeline["duration"])
    (lost,) = pq.read_table(out / "unreadable.parquet").to_pylist()
    assert (Path(lost["path"]).name, lost["stage"]) == ("broken.mp4", "decoding")
    assert "3 videos: all done before" in smnet(*words).out
    (out / "a.vtt").unlink()
    assert "2 done before, 1 new" in smnet(*words).out
    assert (out / "a.vtt").exists()
    assert pq.read_table(out / "timelines.parquet").num_rows == 2


def test_files_of_others_in_a_folder_stay(
    smnet: Smnet, network: Path, film: Path, tmp_path: Path
) -> None:
    (tmp_path / f"{film.stem}.json").write_text("{}")
    called = smnet("timeline", network, film, *FAST, "--out", f"{tmp_path}/", "--to", "json")
    assert called.status == 1
    assert "was not written by smnet" in called.err
    assert "belong to --out DIR" in smnet("timeline", network, film, "--to", "json").err


def test_recordings_are_evaluated(
    smnet: Smnet, network: Path, marked: Path, tmp_path: Path
) -> None:
    file = tmp_path / "segments.csv"
    words = ("evaluate", network, "--data", marked, "--recordings", "--window", 1, "--every", 0.25)
    called = smnet(*words, "--predictions", file)
    assert called.status == 0, called.err
    assert "2 recordings of 26.0 s: 6 labelled parts" in called.out
    for word in ("mAP@0.3:0.7", "mAP@0.5:0.95", "F1@25", "edit", "accuracy", "blue"):
        assert word in called.out
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    assert {Path(row["video"]).name for row in rows} == {"two.mp4", "three.mp4"}
    values = json.loads(smnet(*words, "--json").out)
    assert values["parts"] == 6
    assert [c["name"] for c in values["classes"]] == ["blue", "red"]


def test_thresholds_are_calibrated_kept_and_used(
    smnet: Smnet, network: Path, marked: Path, tmp_path: Path
) -> None:
    file = tmp_path / "thresholds.json"
    step = ("--window", 1, "--every", 0.5)
    called = smnet("timeline", network, "--calibrate", marked, "--thresholds", file, *step)
    assert called.status == 0, called.err
    values = json.loads(file.read_text())
    assert set(values["classes"]) == {"red", "blue"}
    assert values["classes"]["red"]["f1@25"] > 0.5
    called = smnet("timeline", network, marked.parent / "one.mp4", "--thresholds", file, "--json")
    assert json.loads(called.out)["window"] == 1
    # The result of an earlier calibration may be replaced.
    assert (
        smnet("timeline", network, "--calibrate", marked, "--thresholds", file, *step).status == 0
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("FILM FILM2 --out a.json", r"--out a\.json takes one video; 2 were given"),
        ("FILM --out a.txt", r"a\.txt: a timeline is written as"),
        ("FILM FILM2 --annotate a.mp4", "--annotate takes one video"),
        ("FILM --high 0.2 --low 0.5", "the lower threshold 0.5 is above"),
        ("FILM --calibrate x.csv", "name it with --thresholds"),
        ("", "no videos are given"),
        ("FILM --thresholds nowhere.json", r"nowhere\.json: cannot be read"),
        ("FILM --out FILM", "a timeline is written as"),
    ],
)
def test_slips(
    smnet: Smnet, network: Path, film: Path, tmp_path: Path, words: str, message: str
) -> None:
    other = tmp_path / "other.mp4"
    other.symlink_to(film)
    names = {"FILM": film, "FILM2": other}
    called = smnet("timeline", network, *(names.get(word, word) for word in words.split()))
    assert called.status == 1
    assert re.search(message, called.err), called.err
    assert called.err.count("\n") == 1


def test_data_without_parts_are_refused(
    smnet: Smnet, network: Path, film: Path, tmp_path: Path
) -> None:
    for name in ("red", "blue"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "a.mp4").symlink_to(film)
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "b.mp4").symlink_to(film)
    called = smnet("evaluate", network, "--data", tmp_path, "--recordings")
    assert called.status == 1
    assert "no labelled parts of recordings in split 'val'" in called.err


def test_events_of_streams_are_evaluated(
    smnet: Smnet, network: Path, marked: Path, tmp_path: Path
) -> None:
    file = tmp_path / "events.csv"
    words = ("evaluate", network, "--data", marked, "--recordings", "--live", "--device", "cpu")
    called = smnet(*words, "--predictions", file)
    assert called.status == 0, called.err
    assert "2 recordings of 26.0 s: 6 labelled parts" in called.out
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    values = json.loads(smnet(*words, "--json").out)
    assert values["detections"] == len(rows)
    red = {entry["name"]: entry for entry in values["classes"]}["red"]
    assert (red["parts"], red["F1@25"][0]) == (4, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--recordings --confusion a.png", "--confusion has no effect with --recordings"),
        ("--recordings --live --window 2", "--window has no effect with --live"),
        ("--live", "--live has no effect without --recordings"),
        ("--thresholds t.json", "--thresholds has no effect without --recordings"),
    ],
)
def test_options_without_effect_are_refused(
    smnet: Smnet, network: Path, marked: Path, words: str, message: str
) -> None:
    called = smnet("evaluate", network, "--data", marked, *words.split())
    assert called.status == 1
    assert message in called.err
