"""Messages for data that no form recognises: what was seen, and the one change it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

import smnet
from smnet.cli.main import app
from smnet.data.annotations.read import read_clips
from smnet.errors import UserError


def advice(data: Path) -> str:
    with pytest.raises(UserError, match="no annotation recognised") as caught:
        read_clips(data)
    assert len(str(caught.value)) < 900
    return str(caught.value)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("video,verb\n1.mp4,wave\n", ["columns are video, verb", "video is read as path", "label"]),
        ("name;class\n1;wave\n", ["columns are name, class", "class is read as label", "path"]),
        ("1.mp4,wave\n2.mp4,jump\n", ["first line, '1.mp4,wave'", "not a header", "path,label"]),
        ("path,label\n1.mp4,a\n".encode("utf-16"), ["is UTF-16 text; save it as UTF-8"]),
        ("path,label\n1.mp4,a\n".encode("utf-16-le"), ["is UTF-16 text; save it as UTF-8"]),
        ("video,start,end\n1.mp4,2,3\n", ["columns are video, start, end", "part of the file"]),
        ("hello world\n", ["first line is 'hello world'"]),
        ("", ["the file is empty"]),
        (b"\x00\x01\x02\x03\n", ["not a text file"]),
    ],
)
def test_files(content: str | bytes, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "clips.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    for data in (file, tmp_path):
        message = advice(data)
        assert all(word in message for word in words), message


def test_json_and_videos(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"version": 1, "annotations": []}')
    assert "json with the keys version, annotations" in advice(tmp_path / "x.json")
    (tmp_path / "x.mp4").write_bytes(b"x")
    assert "it is a video, not a data set. smnet predict" in advice(tmp_path / "x.mp4")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1.mp4", "2.mp4"], ["it contains 1.mp4, 2.mp4", "a folder per class"]),
        (["1.jpg", "2.jpg"], ["A folder of images is one clip", "smnet predict"]),
        (["a/1.jpg", "b/1.jpg"], ["a/ contains images", "a/clip/00001.jpg"]),
        (["a/x/1.mp4", "b/y/1.mp4"], ["one folder deeper", "a/x/1.mp4 instead of a/1.mp4"]),
        (["a/notes.doc", "b/notes.doc"], ["it contains a/, b/", "There is no video"]),
        (["README.txt", "1.mp4"], ["Nothing gives the class of these videos"]),
    ],
)
def test_folders(names: list[str], words: list[str], tmp_path: Path) -> None:
    message = advice(touch(tmp_path, *names))
    assert all(word in message for word in words), message


def test_messages_name_options_that_exist() -> None:
    folder = Path(smnet.__file__).parent / "data"
    named = {
        option
        for file in [*folder.glob("annotations/**/*.py"), *folder.glob("checks/*.py")]
        for option in re.findall(r"(?<![-\w])--[a-z][a-z-]+", file.read_text())
    }
    verbs = [typer.main.get_command(app)]
    options = set()
    while verbs:
        verb = verbs.pop()
        verbs += getattr(verb, "commands", {}).values()
        options |= {name for parameter in verb.params for name in parameter.opts}
    assert named
    assert named <= options


def test_an_unread_annotation_beside_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "videos/1.mp4")
    (tmp_path / "train.csv").write_text("video,verb\n1.mp4,wave\n")
    with pytest.raises(UserError, match=r"only one class folder .* its columns are video, verb"):
        read_clips(tmp_path)
