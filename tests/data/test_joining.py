"""Clips joined into one film: every frame at its time, and the marks where the clips are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smnet.data.annotations.read import read_clips
from smnet.data.joining import join_clips
from smnet.data.open import open_video
from smnet.errors import UserError
from tests.videos import moving_frames, write_video


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, name in enumerate(("falling", "rising")):
        for split in ("train", "val"):
            folder = tmp_path / "clips" / split / name
            folder.mkdir(parents=True)
            width = 64 if number else 48
            frames = moving_frames(12, width, 48, seed=number)
            stamps = [100 * k for k in range(12)] if number else None
            write_video(folder / "0.mp4", frames, timestamps=stamps)
    return tmp_path / "clips"


def test_the_parts_of_a_film_are_its_clips(data: Path, tmp_path: Path) -> None:
    """Also clips of another size, and of another and of a variable frame rate."""
    marks = join_clips(data, tmp_path / "film.mp4", gap=(0.5, 1.0))
    joined = read_clips(marks)
    assert {c: len(rows) for c, rows in joined.splits.items() if rows} == {"val": 2}
    clips = {c.label: c for c in read_clips(data).splits["val"]}
    ends = 0.0
    for part in joined.splits["val"]:
        name = joined.classes[part.label]
        clip = clips[read_clips(data).classes.index(name)]
        with open_video(part.path, part=part.part) as shown, open_video(clip.path) as video:
            assert shown.num_frames == video.num_frames == 12
            assert shown.times == pytest.approx(video.times, abs=2e-4)
            if video.width == shown.width:
                difference = np.abs(shown.read(range(12)).astype(int) - video.read(range(12)))
                assert difference.mean() < 3
        assert part.start is not None
        assert 0.4 < part.start - ends < 1.1
        ends = part.end or 0.0
    with open_video(tmp_path / "film.mp4") as film:
        assert (film.duration or 0.0) - ends > 0.4  # a still at the end


def test_the_seed_decides_order_and_gaps(data: Path, tmp_path: Path) -> None:
    rows = [
        join_clips(data, tmp_path / name / "film.mp4", seed=seed).read_text()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert rows[0] == rows[1] != rows[2]


def test_a_split_without_clips_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no labelled clips in split 'test'; clips: train"):
        join_clips(data, tmp_path / "film.mp4", split="test")
    assert not (tmp_path / "film.mp4").exists()
