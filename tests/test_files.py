"""Atomic writing: the old file or the new one, never a half, and nothing left beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from smnet import files
from smnet.errors import UserError
from smnet.files import alone_in, atomic_path, write_text
from tests.conftest import file_size_limit


def test_writes_makes_the_folders_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "note.txt"
    write_text(target, "one\n")
    write_text(target, "two ü\n")
    assert target.read_bytes() == "two ü\n".encode()
    assert os.listdir(target.parent) == ["note.txt"]


def test_until_the_end_a_reader_sees_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
        assert temporary.name.startswith(".")
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_get_the_mode_that_open_gives(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~mask


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("old", ["old", None])
@pytest.mark.parametrize(
    ("fail", "raised"), [(full_disk, UserError), (interrupt, KeyboardInterrupt)]
)
def test_a_failure_in_the_body_leaves_the_old_file_alone(
    tmp_path: Path, fail: Callable[[], None], raised: type[BaseException], old: str | None
) -> None:
    target = tmp_path / "x.json"
    if old is not None:
        target.write_text(old)

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half of it")
            fail()

    with pytest.raises(raised) as caught:
        write()
    if raised is UserError:
        assert str(caught.value) == f"cannot write {target}: No space left on device"
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if old is None else [old])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_is_full_only_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    where, name = (files.os, "fsync") if step == "fsync" else (Path, "replace")
    monkeypatch.setattr(where, name, full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        write_text(target, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_real_limit_on_the_size_of_files(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with file_size_limit(1000), pytest.raises(UserError, match=r"x\.txt: File too large"):
        write_text(target, "new" * 10_000)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file" / "x.txt", tmp_path / "file" / "deeper" / "x.txt"):
        with pytest.raises(UserError, match="cannot write") as caught:
            write_text(target, "")
        assert str(target) in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            write_text(tmp_path / "x", "")
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "x", "")
    assert os.listdir(tmp_path) == ["x"]


def test_alone_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deep"
    with alone_in(folder):
        assert os.listdir(folder) == [".lock"]
    assert os.listdir(tmp_path) == []  # nothing came of it
    with alone_in(folder):
        write_text(folder / "a", "1")
    assert os.listdir(folder) == ["a"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), alone_in(tmp_path / "file" / "x"):
        pass
