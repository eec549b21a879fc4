"""Files at addresses: fetched whole or in part, and what happens when a server fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smnet.data import addresses
from smnet.data.addresses import Unreachable, fetched, filesystem_of
from smnet.errors import UserError
from tests.data.packed.test_storage import Server

CONTENT = bytes(range(256)) * 20


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "shard.mp4").write_bytes(CONTENT)
    monkeypatch.setattr(addresses, "WAITS", (0.01, 0.01, 0.01))
    server = Server(tmp_path)
    yield server
    server.end()


def fetch(address: str, offset: int = 0, size: int | None = None) -> bytes:
    with fetched(address, offset, size) as copy:
        place = Path(copy)
        content = place.read_bytes()
    assert not place.exists()
    return content


def test_a_file_and_a_part_of_it(server: Server, tmp_path: Path) -> None:
    for base in (server.address, f"file://{tmp_path}"):
        assert fetch(f"{base}/shard.mp4") == CONTENT
        assert fetch(f"{base}/shard.mp4", 100, 300) == CONTENT[100:400]


def test_the_copy_keeps_the_suffix_by_which_formats_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(b"x")
    with fetched(f"file://{tmp_path}/a.webp") as copy:
        assert copy.endswith(".webp")


@pytest.mark.parametrize("fail", ["503", "cut"])
def test_a_failure_that_passes(fail: str, server: Server) -> None:
    server.fail, server.times = fail, 2
    assert fetch(f"{server.address}/shard.mp4") == CONTENT


@pytest.mark.parametrize("fail", ["404", "403", "503"])
def test_a_failure_that_stays(fail: str, server: Server) -> None:
    server.fail = fail
    address = f"{server.address}/shard.mp4"
    with pytest.raises(Unreachable, match=rf"{address}: (no such file|cannot be fetched)"):
        fetch(address)


def test_a_part_beyond_the_end_and_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shard.mp4").write_bytes(CONTENT)
    monkeypatch.setattr(addresses, "WAITS", ())
    with pytest.raises(Unreachable, match="bytes are missing"):
        fetch(f"file://{tmp_path}/shard.mp4", 5000, 1000)
    monkeypatch.setattr(addresses, "MAX_BYTES", 1000)
    with pytest.raises(Unreachable, match="more than"):
        fetch(f"file://{tmp_path}/shard.mp4")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("rtsp://host/camera", "a live stream, which has no end"),
        ("nothing://host/a.mp4", "not an address that can be read"),
    ],
)
def test_addresses_that_are_no_files(address: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        filesystem_of(address)
