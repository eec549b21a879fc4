"""Every folder is listed once per reading."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smnet.data.annotations.listing import listing, listing_once
from smnet.data.annotations.read import read_clips, recognise
from smnet.data.annotations.source import ClipSource
from smnet.errors import UserError

FORMS: dict[str, dict[str, str]] = {
    "something-v2": {
        "labels.json": '{"Pushing a cup": "0", "Holding it": "1"}',
        "train.json": '[{"id": "0", "template": "Pushing a cup"}, {"id": "1", "template": "Holding'
        ' it"}]',
        "validation.json": '[{"id": "2", "template": "Pushing a cup"}]',
    },
    "list": {"train.txt": "0.webm 0\n1.webm 1\n", "val.txt": "2.webm 0\n"},
    "csv": {"clips.csv": "path,label,split\n0.webm,a,train\n1.webm,b,train\n2.webm,a,val\n"},
}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each folder has been listed since."""
    count: Counter[str] = Counter()

    def counting(inner: Any) -> Any:
        def outer(folder: Any = ".") -> Any:
            count[str(folder)] += 1
            return inner(folder)

        return outer

    monkeypatch.setattr(os, "scandir", counting(os.scandir))
    monkeypatch.setattr(os, "listdir", counting(os.listdir))
    return count


@pytest.mark.parametrize("form", FORMS)
def test_annotations_beside_their_clips(form: str, tmp_path: Path, listed: Counter[str]) -> None:
    for name, text in FORMS[form].items():
        (tmp_path / name).write_text(text)
    for number in range(3):
        (tmp_path / f"{number}.webm").write_bytes(b"x")
    clips = read_clips(tmp_path)
    assert clips.format == form
    assert {split: len(rows) for split, rows in clips.splits.items()} == {"train": 2, "val": 1}
    assert listed[str(tmp_path)] == 1


def test_clips_without_annotation(tmp_path: Path, listed: Counter[str]) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    says = r"contains a\.mp4\. Nothing gives the class of these videos: move"
    with pytest.raises(UserError, match=says):
        recognise(tmp_path)
    assert listed[str(tmp_path)] == 1


def test_a_changed_folder_is_listed_again(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no annotation recognised"):
        read_clips(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.mp4").write_bytes(b"x")
    assert read_clips(ClipSource(tmp_path, val_fraction=0)).format == "folders"


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("b.csv", "a.csv", ".hidden.csv", "a.mp4"):
        (tmp_path / name).write_bytes(b"x")
    for name, target in (("to", "folder"), ("to.csv", "a.csv"), ("lost.csv", "gone")):
        (tmp_path / name).symlink_to(tmp_path / target)
    found = listing(tmp_path)
    assert found.folders == ["folder", "to"]
    assert found.files == {".csv": ["a.csv", "b.csv", "to.csv"], ".mp4": ["a.mp4"]}
    assert found.kinds["lost.csv"] is None
    with listing_once():
        assert listing(tmp_path) is listing(tmp_path)
        with listing_once():
            assert listing(tmp_path) is listing(str(tmp_path))
    assert listing(tmp_path) is not listing(tmp_path)


@pytest.mark.parametrize("name", ["1.mp4", "frames of a clip"])
def test_a_broken_link_in_a_class_folder_is_a_missing_clip(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.mp4").write_bytes(b"x")
    (tmp_path / "a" / name).symlink_to(tmp_path / "gone")
    (tmp_path / "a" / "notes.txt").symlink_to(tmp_path / "gone")
    source = ClipSource(tmp_path, val_fraction=0)
    with pytest.raises(UserError, match=f"a/{name}: no such clip"):
        read_clips(source)
    clips = read_clips(source, missing="report")
    assert len(clips.splits["train"]) == 2
    assert [Path(clip.path).name for clip in clips.missing["train"]] == [name]
