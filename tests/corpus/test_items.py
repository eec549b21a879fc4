"""What a corpus lists: folders, patterns, lists, manifests, shards, addresses."""

from __future__ import annotations

import itertools
import os
import tarfile
from pathlib import Path

import pytest

from smnet.corpus.items import Item, ItemList, list_items
from smnet.data.clips import Part
from smnet.errors import UserError
from tests.conftest import class_frames
from tests.videos import write_video


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.mp4", "deep/c.webm", "notes.txt", "frames/1.jpg", "frames/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*words: str) -> list[str]:
    here = f"{Path.cwd()}/"
    return [item.path.removeprefix(here) for item in list_items(words)]


def test_words(place: Path) -> None:
    assert paths("a.mp4", "missing.mp4") == ["a.mp4", "missing.mp4"]
    assert sorted(paths(".")) == ["a.mp4", "b.mp4", "deep/c.webm", "frames"]
    assert sorted(paths("**/*")) == ["a.mp4", "b.mp4", "deep/c.webm", "frames"]
    assert sorted(paths("*")) == ["a.mp4", "b.mp4", "deep/c.webm", "frames"]
    assert sorted(paths(f"file://{place}/*.mp4")) == [
        f"file://{place}/a.mp4",
        f"file://{place}/b.mp4",
    ]


def test_lists_and_manifests(place: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (place / "list.txt").write_text("a.mp4\n\n b.mp4 \n")
    (place / "lists").mkdir()
    (place / "lists/m.csv").write_text("id,Video\n1,../a.mp4\n2,/else/where.mp4\n")
    (place / "m.tsv").write_text("path\tid\nb.mp4\t3\n")
    pq.write_table(pa.table({"url": ["a.mp4", None, "deep/c.webm"]}), place / "m.parquet")
    assert paths("@list.txt") == ["a.mp4", "b.mp4"]
    assert paths("lists/m.csv") == ["a.mp4", "/else/where.mp4"]
    assert paths("m.tsv", "m.parquet") == ["b.mp4", "a.mp4", "deep/c.webm"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.csv", b"name,label\nx,y\n", "no column path, video.* it has 'name', 'label'"),
        ("m.csv", b"path\n", "an empty list"),
        ("m.csv", b"path\n\xff\n", "cannot be read as a list"),
        ("m.parquet", b"nothing", "cannot be read as a Parquet table"),
        ("m.tar", b"nothing", "cannot be read as an uncompressed tar file"),
        ("m.tar.x", b"", "no video matches"),
    ],
)
def test_lists_that_cannot_be_read(place: Path, name: str, content: bytes, says: str) -> None:
    (place / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        paths(name if name != "m.tar.x" else "*.nothing")


def test_a_key_changes_with_the_content(place: Path) -> None:
    def key() -> bytes:
        (item,) = list_items(["a.mp4"])
        return item.key

    first = key()
    assert key() == first
    os.utime("a.mp4", ns=(1, 1))
    assert key() != first
    Path("a.mp4").write_bytes(b"other")
    os.utime("a.mp4", ns=(1, 1))
    assert len({first, key()}) == 2


@pytest.mark.parametrize("address", [False, True])
def test_videos_in_a_tar_file_are_read_where_they_lie(tmp_path: Path, address: bool) -> None:
    clip = write_video(tmp_path / "clip.mp4", class_frames(0, 0))
    archive = tmp_path / "shard.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("one.mp4", "two.mp4", "one.json"):
            tar.add(clip, name)
    word = f"file://{archive}" if address else str(archive)
    items = list(list_items([word]))
    assert [item.path for item in items] == [f"{word}/one.mp4", f"{word}/two.mp4"]
    assert len({item.key for item in items}) == 2
    with items[1].readable() as copy:
        assert isinstance(copy, str)
        assert Path(copy).read_bytes() == clip.read_bytes()


def test_a_list_on_the_disk_and_shares() -> None:
    items = [Item(f"{number}.mp4", number, "") for number in range(300)]
    listed = ItemList(items)
    assert len(listed) == 300
    assert list(listed) == items == list(listed)
    shares = [[item for item in listed if item.share(3) == number] for number in range(3)]
    assert sorted(itertools.chain(*shares), key=items.index) == items
    assert min(map(len, shares)) > 70


def test_parts_in_a_manifest(place: Path) -> None:
    (place / "m.csv").write_text("path,start,end\na.mp4,1.5,2\na.mp4,,3\nb.mp4,,\n")
    items = list(list_items(["m.csv"]))
    assert [item.part for item in items] == [Part(1.5, 2), Part(None, 3), None]
    assert len({item.key for item in items}) == 3


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("path,start,end\na.mp4,2,1", "a.mp4: the part ends at 1"),
        ("path,start,end\na.mp4,x,1", "a.mp4: start 'x' is not a time"),
        ("path,offset\na.mp4,2", "column 'offset' means a part"),
        ("path,fps\na.mp4,2", "column 'fps' asks for a frame rate"),
    ],
)
def test_times_are_read_or_refused(place: Path, row: str, says: str) -> None:
    (place / "m.csv").write_text(row)
    with pytest.raises(UserError, match=says):
        paths("m.csv")
