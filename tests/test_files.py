"""Atomic writing: the old file or the new one, never a half, and nothing left beside it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from smnet import files
from smnet.errors import UserError
from smnet.files import alone_in, atomic_path, check_outputs, temporary_folder, write_text
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


KILLED = """
import os, signal, sys
from pathlib import Path
from smnet.files import atomic_path, temporary_folder
with temporary_folder() as folder, atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half of it")
    print(temporary, folder, flush=True)
    HOW
"""


def start(how: str, target: Path) -> tuple[subprocess.Popen[str], Path, Path]:
    """A process that is writing ``target``, its temporary file and its temporary folder."""
    code = [sys.executable, "-c", KILLED.replace("HOW", how), str(target)]
    environment = {**os.environ, "TMPDIR": str(target.parent / "tmp")}
    process = subprocess.Popen(code, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    temporary, folder = process.stdout.readline().split()
    return process, Path(temporary), Path(folder)


def test_leftovers_of_a_killed_process_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next writer in the folder, but nothing of a living process or of another program."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(files, "_swept", set())
    living, held, held_folder = start("__import__('time').sleep(60)", tmp_path / "b.csv")
    dead, left, left_folder = start("os.kill(os.getpid(), signal.SIGKILL)", tmp_path / "a.csv")
    dead.communicate()
    other = tmp_path / ".b.abcdefgh.csv"
    other.write_text("of another program")
    assert left.exists()
    assert left_folder.exists()
    try:
        write_text(tmp_path / "c.txt", "c")
        with temporary_folder():
            assert {p.exists() for p in (held, held_folder, other)} == {True}
            assert {p.exists() for p in (left, left_folder)} == {False}
    finally:
        living.kill()
        living.communicate()
    assert sorted(os.listdir(tmp_path / "tmp")) == [held_folder.name]


def test_outputs_of_an_unprivileged_user(tmp_path: Path) -> None:
    """A folder that may not be written is refused before the work."""
    tmp_path.chmod(0o555)
    try:
        run_unprivileged(
            f"""
from smnet.files import check_outputs
try:
    check_outputs({{"--report": "{tmp_path}/new/x.csv"}}, ())
except ValueError as error:
    assert "Permission denied" in str(error), error
else:
    raise AssertionError("not refused")
"""
        )
    finally:
        tmp_path.chmod(0o755)


def run_unprivileged(code: str) -> None:
    """Run code as nobody where this process is root, else as it is."""
    drop = "import os\nif os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    # Imported before the user changes: the sources may be readable for root only.
    code = "import smnet.files, smnet.errors\n" + drop + code
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(UserError, match="not written by smnet"):
        check_outputs({"--report": tmp_path / "x.csv"}, (), overwrite=True)
