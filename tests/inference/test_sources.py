"""What the words of a command line stand for, and videos that are in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smnet.errors import UserError
from smnet.inference.sources import find_videos


def test_an_empty_name() -> None:
    with pytest.raises(UserError, match="an empty name"):
        find_videos([""])


# --- Words of a command line.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.mp4", "deep/er/c.webm", "deep/d.AVI", "notes.txt", "deep/.hidden.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(frames / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_in_the_order_given_each_once(place: Path) -> None:
    assert find_videos(["b.mp4", "a.mp4", "b.mp4"]) == ["b.mp4", "a.mp4"]


def test_a_file_is_taken_whatever_its_name(place: Path) -> None:
    assert find_videos(["notes.txt"]) == ["notes.txt"]


def test_a_folder_means_the_videos_below_it(place: Path) -> None:
    found = find_videos([str(place / "deep")])
    assert found == [str(place / "deep/d.AVI"), str(place / "deep/er/c.webm")]


def test_a_folder_of_frames_is_a_video(place: Path) -> None:
    assert find_videos(["frames"]) == ["frames"]


def test_a_picture_makes_no_frames_of_a_folder_of_videos(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.webm", "cover.jpg"):
        (tmp_path / name).touch()
    names = [Path(found).name for found in find_videos([str(tmp_path)])]
    assert names == ["a.mp4", "b.webm"]


def test_folders_of_frames_below_a_folder(tmp_path: Path) -> None:
    for name in ("a/take1/00001.jpg", "a/take1/00002.jpg", "a/take1/more/x.mp4", "a/film.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "film.webm").touch()
    (tmp_path / "b" / "cover.jpg").touch()  # beside videos it is no clip
    names = [str(Path(found).relative_to(tmp_path)) for found in find_videos([str(tmp_path)])]
    assert names == ["a/film.mp4", "a/take1", "b/film.webm"]


def test_patterns(place: Path) -> None:
    assert find_videos(["*.mp4"]) == ["a.mp4", "b.mp4"]
    assert find_videos(["**/*.webm", "?.mp4"]) == ["deep/er/c.webm", "a.mp4", "b.mp4"]


def test_a_name_with_pattern_letters_that_exists_is_a_file(place: Path) -> None:
    (place / "take[1]?.mp4").write_bytes(b"x")
    assert find_videos(["take[1]?.mp4"]) == ["take[1]?.mp4"]


def test_lists(place: Path) -> None:
    (place / "list.txt").write_text("b.mp4\n\n  a.mp4  \nmissing.mp4\n")
    assert find_videos(["@list.txt"]) == ["b.mp4", "a.mp4", "missing.mp4"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("*.mkv", r"\*\.mkv: no file matches this pattern"),
        ("empty", "empty: no videos below this folder"),
        ("@nowhere", "nowhere: cannot be read as a list of videos"),
        ("@blank.txt", "blank.txt: an empty list"),
        ("@binary.txt", "binary.txt: cannot be read as a list of videos"),
        ("@empty", "empty: cannot be read as a list"),
    ],
)
def test_words_that_mean_nothing(place: Path, word: str, says: str) -> None:
    (place / "empty").mkdir()
    (place / "blank.txt").write_text("\n \n")
    (place / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=says):
        find_videos(["a.mp4", word])


def test_a_missing_file_is_told_of_beside_the_others(place: Path) -> None:
    assert find_videos(["nowhere.mp4", "a.mp4"]) == ["nowhere.mp4", "a.mp4"]
    with pytest.raises(UserError, match=r"nowhere\.mp4: no such file or folder"):
        find_videos(["nowhere.mp4", "neither.mp4"])


def test_a_folder_below_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "below").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == str(tmp_path / "below"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_videos([str(tmp_path)]) == [str(tmp_path / "a.mp4"), str(tmp_path / "below")]
