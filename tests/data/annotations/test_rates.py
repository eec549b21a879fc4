"""The column fps of video files."""

from __future__ import annotations

from pathlib import Path

import pytest

from smnet.data.annotations.read import read_clips
from smnet.errors import UserError
from tests.videos import moving_frames, write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mp4", moving_frames(6, 32, 32), fps=10)
    return tmp_path


def listed(folder: Path, *rates: str) -> Path:
    file = folder / "list.csv"
    rows = (f"{name}.mp4,{name},train,{rate}\n" for name, rate in zip("ab", rates, strict=True))
    file.write_text("path,label,split,fps\n" + "".join(rows))
    return file


def test_a_rate_that_describes_the_files(folder: Path) -> None:
    clips = read_clips(listed(folder, "10", "9.97"))
    assert "fps agrees with the files (2 looked at)" in clips.why
    assert len(clips.splits["train"]) == 2


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        (("10", "25"), r"list.csv:3: the column 'fps' says 25, and .*b\.mp4 has 10 frames"),
        (("fast", "10"), "list.csv:2: fps 'fast' is not a positive number"),
    ],
)
def test_a_rate_that_asks_for_other_frames(folder: Path, rates: tuple[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_clips(listed(folder, *rates))
