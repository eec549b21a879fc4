"""Checks and statistics of parts of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from smnet.data.checks.check import check_clips
from smnet.data.checks.stats import survey_clips
from tests.videos import moving_frames, write_video


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two recordings of 2 s with parts; the first is in both splits."""
    for number in range(2):
        write_video(tmp_path / f"{number}.mp4", moving_frames(20, 32, 32, number), fps=10)
    rows = ["0.mp4,a,0,1,train", "0.mp4,b,0.8,1.5,train", "1.mp4,b,0,1,train", "0.mp4,a,1.5,9,val"]
    rows += ["1.mp4,a,1,1.5,train", "1.mp4,b,7,8,train"]
    (tmp_path / "parts.csv").write_text("\n".join(["path,label,start,end,split", *rows, ""]))
    return tmp_path / "parts.csv"


def test_parts_are_checked(data: Path) -> None:
    report = check_clips(data, workers=1)
    found = {(finding.kind, finding.source) for finding in report.findings}
    assert found == {
        ("overlap", "parts.csv:3"),
        ("part beyond the end", "parts.csv:5"),
        ("divided group", "parts.csv:5"),
        ("empty part", "parts.csv:7"),
    }
    assert {split: len(clips) for split, clips in report.sound.items()} == {"train": 4, "val": 1}


def test_statistics_are_of_the_parts(data: Path) -> None:
    survey = survey_clips(data, workers=1)
    assert survey.seconds == pytest.approx([1, 0.7, 1, 0.5, 0.5], abs=0.01)
    assert survey.unreadable == 1
