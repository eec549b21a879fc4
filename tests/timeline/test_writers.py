"""Files for other programs, read back by those programs' readers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from smnet.data.annotations.columns import columns_of
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError
from smnet.evaluation.detection import Segment
from smnet.files import is_ours
from smnet.timeline.curves import Curves
from smnet.timeline.page import timeline_page
from smnet.timeline.segments import Rule, Timeline
from smnet.timeline.writers import FORMS, write_timeline
from tests.experiments.test_demo import parsed

SEGMENTS = (
    Segment(1.0, 2.5, "Öffnen, <schnell>", 0.9),
    Segment(62.04, 3723.5, "b=c;#\\", 0.55),
    Segment(70.0, 71.0, "Öffnen, <schnell>", 0.6),
)
TIMES = [(s.start, s.end, s.label) for s in SEGMENTS]


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    scores = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    names = ("b=c;#\\", "never", "Öffnen, <schnell>")
    video = str(tmp_path / "a film.mp4")
    curves = Curves(video, 3723.5, 25.0, 4, 2, names, np.linspace(2, 3720, 40), scores)
    return Timeline(curves, Rule(), SEGMENTS)


@pytest.mark.parametrize("suffix", FORMS)
def test_files_are_known_as_ours(timeline: Timeline, tmp_path: Path, suffix: str) -> None:
    if suffix == ".eaf":
        pytest.importorskip("pympi")
    write_timeline(tmp_path / f"out{suffix}", timeline)
    assert is_ours(tmp_path / f"out{suffix}") == (suffix != ".srt")  # it has no comments
    assert [p.name for p in tmp_path.iterdir()] == [f"out{suffix}"]


def test_json(timeline: Timeline, tmp_path: Path) -> None:
    write_timeline(tmp_path / "out.json", timeline)
    values = json.loads((tmp_path / "out.json").read_text())
    assert [(s["start"], s["end"], s["label"]) for s in values["segments"]] == TIMES
    assert len(values["times"]) == len(values["scores"]["never"]) == 40
    assert values["limits"]["never"] == {"high": 0.5, "low": 0.3, "shortest": 0.0}


def test_the_csv_is_read_as_parts(timeline: Timeline, tmp_path: Path) -> None:
    write_timeline(tmp_path / "out.csv", timeline)
    columns = columns_of(tmp_path / "out.csv")
    assert columns is not None
    assert set(columns.index) == {"path", "label"}
    assert set(columns.borders) == {("s", "start"), ("s", "end")}


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_subtitles_open_in_ffmpeg(timeline: Timeline, tmp_path: Path, suffix: str) -> None:
    write_timeline(tmp_path / f"out{suffix}", timeline)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        stream = container.streams.subtitles[0]
        packets = [p for p in container.demux(stream) if p.size]
        times = [(float(p.pts * p.time_base), float(p.duration * p.time_base)) for p in packets]
        texts = [bytes(p).decode() for p in packets]
    assert times == [pytest.approx((s.start, s.end - s.start)) for s in SEGMENTS]
    assert texts[1] == SEGMENTS[1].label
    assert texts[0] == ("Öffnen, &lt;schnell&gt;" if suffix == ".vtt" else SEGMENTS[0].label)


def test_elan_opens_in_pympi(timeline: Timeline, tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi")
    write_timeline(tmp_path / "out.eaf", timeline)
    eaf = pympi.Elan.Eaf(str(tmp_path / "out.eaf"))
    found = [
        (start / 1000, end / 1000, label)
        for tier in eaf.get_tier_names()
        for start, end, label, *_ in eaf.get_annotation_data_for_tier(tier)
    ]
    assert sorted(found) == sorted(TIMES)
    assert eaf.get_linked_files()[0]["RELATIVE_MEDIA_URL"] == "./a film.mp4"


@pytest.mark.parametrize("suffix", [".eaf", ".csv"])
def test_a_timeline_is_read_as_a_data_set(
    timeline: Timeline, film: Path, tmp_path: Path, suffix: str
) -> None:
    """Correct a timeline, and train on it."""
    if suffix == ".eaf":
        pytest.importorskip("pympi")
    curves = replace(timeline.curves, path=str(film), duration=13.0)
    segments = (Segment(1, 3, "b"), Segment(3, 4.5, "a"), Segment(7, 9, "b"))
    write_timeline(tmp_path / f"out{suffix}", Timeline(curves, Rule(), segments))
    clips = read_clips(ClipSource(tmp_path / f"out{suffix}", val_fraction=0.0))
    found = [(c.start, c.end, clips.classes[c.label]) for c in clips.splits["train"]]
    assert sorted(found) == [(1, 3, "b"), (3, 4.5, "a"), (7, 9, "b")]
    assert {c.path for c in clips.splits["train"]} == {str(film)}


def test_chapters_open_in_ffmpeg(timeline: Timeline, tmp_path: Path) -> None:
    write_timeline(tmp_path / "out.ffmetadata", timeline)
    with av.open(str(tmp_path / "out.ffmetadata"), format="ffmetadata") as container:
        chapters = container.chapters()
    found = [
        (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), title)
        for c in chapters
        for title in [c["metadata"]["title"].rstrip()]
    ]
    assert sorted(found) == sorted(TIMES)


def test_edl_has_time_codes_of_the_recording(timeline: Timeline, tmp_path: Path) -> None:
    write_timeline(tmp_path / "out.edl", timeline)
    lines = (tmp_path / "out.edl").read_text().splitlines()
    assert lines[0] == "TITLE: a film.mp4"
    events = [line.split() for line in lines if line[:3].isdigit()]
    assert events[0][4:] == ["00:00:01:00", "00:00:02:12"] * 2  # at 25 frames per second
    assert events[1][4:6] == ["00:01:02:01", "01:02:03:13"]


def test_nothing_found_writes_valid_files(timeline: Timeline, tmp_path: Path) -> None:
    empty = Timeline(timeline.curves, timeline.rule, ())
    for suffix in FORMS:
        if suffix != ".eaf":
            write_timeline(tmp_path / f"none{suffix}", empty)
    assert (tmp_path / "none.vtt").read_text().startswith("WEBVTT")


def test_other_suffixes_are_refused(timeline: Timeline, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out\.txt: a timeline is written as \.json"):
        write_timeline(tmp_path / "out.txt", timeline)


def test_the_page(timeline: Timeline, tmp_path: Path) -> None:
    text = timeline_page(timeline, tmp_path / "pages" / "out.html")
    page = parsed(text)
    assert sum(tag == "polyline" for tag, _ in page.seen) == 2
    assert sum(tag == "rect" for tag, _ in page.seen) == 3
    video = next(dict(attributes) for tag, attributes in page.seen if tag == "video")
    assert video["src"] == "../a%20film.mp4"
    assert "<schnell>" not in text
    assert "Not detected: never" in "".join(page.text)
    assert "http" not in text
