"""Drawn recordings: known borders, constant and variable frame rates, the same files again."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from smnet.data.annotations.read import read_clips
from smnet.data.open import open_video
from smnet.data.synthetic.recordings import write_recordings
from smnet.data.synthetic.scenes import MOTION_CLASSES
from smnet.errors import UserError


def test_recordings_are_a_data_set_of_parts(tmp_path: Path) -> None:
    marks = write_recordings(tmp_path, train=1, val=1, scenes=5, size=32)
    clips = read_clips(marks)
    assert {split: len(rows) for split, rows in clips.splits.items()} == {"train": 5, "val": 5}
    assert set(clips.classes) == set(MOTION_CLASSES[:5])
    assert all(clip.part is not None for rows in clips.splits.values() for clip in rows)


@pytest.mark.parametrize("variable", [False, True])
def test_borders_are_those_of_the_frames(tmp_path: Path, variable: bool) -> None:
    """A new scene has another background, so the picture jumps at every border."""
    marks = write_recordings(tmp_path, train=0, val=1, scenes=3, size=32, variable=variable)
    with open_video(tmp_path / "val" / "00000.mp4") as video:
        times = video.times
        frames = video.read(range(video.num_frames)).astype(float)
    assert times is not None
    steps = np.diff(times)
    assert (steps.max() - steps.min() > 0.02) == variable
    jumps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    found = [times[i + 1] for i in np.sort(np.argsort(-jumps)[:6])]
    with marks.open() as opened:
        rows = list(csv.DictReader(opened))
    borders = [float(row[key]) for row in rows for key in ("start", "end")]
    assert found == pytest.approx(borders, abs=0.002)


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    one = write_recordings(tmp_path / "a", train=0, val=1, scenes=1, size=32)
    other = write_recordings(tmp_path / "b", train=1, val=1, scenes=1, size=32)
    film = "val/00000.mp4"
    assert (one.parent / film).read_bytes() == (other.parent / film).read_bytes()
    before = (one.parent / film).stat().st_mtime_ns
    write_recordings(tmp_path / "a", train=0, val=1, scenes=1, size=32)
    assert (one.parent / film).stat().st_mtime_ns == before


def test_impossible_numbers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scenes=0"):
        write_recordings(tmp_path, scenes=0)
