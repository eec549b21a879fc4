"""Packed sets at addresses: what a server is asked for, and what is said of servers that fail."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smnet.data import addresses
from smnet.data.annotations.read import read_clips
from smnet.data.loading.dataset import ClipDataset
from smnet.data.loading.loader import TestBatches, make_loader
from smnet.data.loading.views import ViewPlan
from smnet.data.open import open_video
from smnet.data.packed import read as packed_module
from smnet.data.packed import remote as packed_remote
from smnet.errors import UserError
from tests.videos import moving_frames

pa = pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

from smnet.data.packing.pack import pack_clips  # noqa: E402

CLIPS = 8
PLAN = ViewPlan(segments=3, size=16, short_side=20)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of two classes in two shards. Not to be changed."""
    root = tmp_path_factory.mktemp("set")
    for number in range(CLIPS):
        folder = root / f"data/{'train' if number < 4 else 'val'}/{'ab'[number % 2]}/{number}"
        folder.mkdir(parents=True)
        for index, frame in enumerate(moving_frames(5, 24, 20, seed=number)):
            Image.fromarray(frame).save(folder / f"{index}.jpg")
    pack_clips(root / "data", root / "out", frames=None, clips_per_shard=4, workers=1)
    return root / "out"


class Server:
    """Serves a folder by HTTP as a static web server does, or badly.

    Attributes:
        fail: what goes wrong with shards; "" = nothing. With ``times``, only that often.
        flood: bytes sent of an answer without an end.
        log: (method, file, bytes of the answer) of every request.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.fail, self.times, self.flood = folder, "", 1 << 30, 0
        self.log: list[tuple[str, str, int]] = []
        self.connections: list[socket.socket] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def setup(self) -> None:
                super().setup()
                outer.connections.append(self.connection)

            def do_GET(self) -> None:
                outer.answer(self)

            do_HEAD = do_GET

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/set"

    def end(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, request: Any) -> None:
        file = Path(request.path).name
        fail = self.fail if "shard" in file and self.times > 0 else ""
        self.times -= bool(fail)
        there = request.path.startswith("/set/") and (self.folder / file).is_file()
        data = (self.folder / file).read_bytes() if there else None
        status = int(fail) if fail.isdecimal() else 200 if data is not None else 404
        content = (data or b"") if status == 200 else b""
        parts = fail not in ("whole", "endless")
        if (asked := request.headers.get("Range")) and status == 200 and parts:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            content, status = content[int(first) : int(last) + 1], 206
        request.send_response(status)
        if fail == "endless":
            request.send_header("Connection", "close")
        else:
            request.send_header("Content-Length", str(len(content)))
        if status == 206:
            at = int(first)
            ends = f"{at}-{at + len(content) - 1}/{len(data or b'')}"
            request.send_header("Content-Range", f"bytes {ends}")
        # Before anything is sent: who has the answer may look here at once.
        self.log.append((request.command, file, len(content)))
        request.end_headers()
        if request.command == "HEAD":
            return
        if fail == "hang":
            time.sleep(5)
        if fail == "endless":
            with suppress(OSError):
                while self.flood < 1 << 28:  # bytes
                    request.wfile.write(bytes(1 << 16))
                    self.flood += 1 << 16
        if fail == "cut":
            request.wfile.write(content[: len(content) // 2])
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        request.wfile.write(content)


@pytest.fixture
def server(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packed_remote, "WAITS", (0.01, 0.01, 0.01))
    packed_module._sets.clear()
    server = Server(packed)
    yield server
    server.end()


def read(address: str, row: int = 1) -> np.ndarray:
    packed_module._sets.clear()
    clips = read_clips(address).splits["train"]
    with open_video(clips[row].path) as video:
        return video.read([0, 4])


def complaint(address: str) -> str:
    with pytest.raises(UserError) as caught:
        read(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_over_http(packed: Path, server: Server, workers: int) -> None:
    def views(place: str) -> list[Any]:
        clips = read_clips(place).splits["train"]
        loader = make_loader(ClipDataset(clips, PLAN), TestBatches(len(clips), 2), workers=workers)
        return [batch for _ in range(2) for batch in loader]

    for local, remote in zip(views(str(packed)), views(server.address), strict=True):
        assert remote.problems == []
        assert torch.equal(local.views, remote.views)


def test_one_request_a_clip_and_no_byte_too_much(packed: Path, server: Server) -> None:
    clips = read_clips(server.address).splits["train"]
    with open_video(clips[0].path) as video:
        video.read([0])
    server.log.clear()
    for clip in list(clips)[1:]:
        with open_video(clip.path) as video:
            video.read([0, 2])
            size = video.stored_bytes
        assert len(server.log) == 1
        assert size < server.log.pop()[2] < size + 1000


def test_the_index_is_fetched_once(server: Server) -> None:
    for _ in range(2):
        read(server.address)
    assert sum(row[:2] == ("GET", "index.arrow") for row in server.log) == 1


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        ("404", "shard-00000.arrow: no such file"),
        ("403", "shard-00000.arrow: cannot be read (PermissionError: HTTP 403"),
        ("503", "shard-00000.arrow: cannot be read (ClientResponseError: 503"),
        ("cut", "shard-00000.arrow: cannot be read ("),
        ("whole", "simplecache::http://"),
    ],
)
def test_servers_that_fail(fail: str, said: str, server: Server) -> None:
    server.fail = fail
    assert said in complaint(server.address)
    requests = sum("shard" in file for _, file, _ in server.log)
    # A small shard is fetched whole at first, so that answer is right.
    assert requests == {"404": 1, "403": 1, "whole": 2}.get(fail, 4)


@pytest.mark.parametrize("fail", ["503", "cut"])
def test_a_failure_that_passes_is_not_noticed(fail: str, packed: Path, server: Server) -> None:
    server.fail, server.times = fail, 2
    assert np.array_equal(read(server.address), read(str(packed)))


def test_a_server_that_does_not_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (packed_remote, addresses):
        monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.fail = "hang"
    began = time.monotonic()
    assert "cannot be read (TimeoutError: no answer within 0.2 s)" in complaint(server.address)
    assert time.monotonic() - began < 10


def test_a_server_that_goes_away(server: Server) -> None:
    clips = read_clips(server.address).splits["train"]
    with open_video(clips[0].path) as video:
        video.read([0])
    server.end()
    sample = ClipDataset(clips, PLAN)[(0, 2)]
    assert sample.views is None
    assert "shard-00000.arrow: cannot be read (Connect" in sample.problem
    assert "manifest.json: cannot be read (Connect" in complaint(server.address)


def test_an_answer_without_an_end(server: Server) -> None:
    """No more of it is taken than is needed to know."""
    server.fail = "endless"
    assert "shard-00000.arrow: " in complaint(server.address)
    assert server.flood < 1 << 25  # what fits into the buffers of sockets


def test_what_failed_is_not_waited_for_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = read_clips(server.address).splits["train"]
    with open_video(clips[0].path) as video:
        video.read([0])
    server.fail = "503"
    server.log.clear()
    dataset = ClipDataset(clips, PLAN)
    said = [dataset[(0, number)].problem for number in (1, 2, 3)]
    assert all("shard-00000.arrow: cannot be read (ClientResponseError: 503" in s for s in said)
    assert len(server.log) == 4  # the tries of the first
    server.fail = ""
    assert dataset[(0, 1)].views is None
    later = time.monotonic() + packed_remote._REST
    monkeypatch.setattr(packed_remote.time, "monotonic", lambda: later)
    assert dataset[(0, 1)].views is not None
    server.fail = "404"  # is final: there is nothing to wait for
    assert "no such file" in dataset[(0, 2)].problem
    server.fail = ""
    assert dataset[(0, 2)].views is not None


def test_the_copy_of_the_index_is_verified(packed: Path, server: Server, tmp_path: Path) -> None:
    read(server.address)
    (copy,) = (tmp_path / "cache").rglob("*.arrow")
    sound = copy.read_bytes()
    copy.write_bytes(sound[:-20] + bytes(20))
    assert np.array_equal(read(server.address), read(str(packed)))
    assert copy.read_bytes() == sound


@pytest.mark.parametrize("name", ["../../../../elsewhere/x", "", "A" * 64, "0" * 63, 7])
def test_checksums_that_are_none(
    name: object, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They name files of the cache, and come from elsewhere."""
    folder = tmp_path / "set"
    shutil.copytree(packed, folder)
    manifest = folder / "manifest.json"
    values = json.loads(manifest.read_text())
    values["index"]["sha256"] = name
    manifest.write_text(json.dumps(values))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b" / "cache"))
    server = Server(folder)
    before = sorted(tmp_path.rglob("*"))
    try:
        assert re.search(r"manifest\.json: damaged .* is not a checksum", complaint(server.address))
    finally:
        server.end()
    assert sorted(tmp_path.rglob("*")) == before


def test_other_addresses_of_the_server(server: Server) -> None:
    assert f"{server.address}x/manifest.json: no such file" in complaint(f"{server.address}x")


def test_simplecache_keeps_copies(packed: Path, server: Server, tmp_path: Path) -> None:
    server.fail = "whole"
    assert np.array_equal(read(f"simplecache::{server.address}"), read(str(packed)))
    server.log.clear()
    assert np.array_equal(read(f"simplecache::{server.address}", 3), read(str(packed), 3))
    assert not [row for row in server.log if row[0] == "GET"]


# --- Shards, without a server.


class Bytes:
    """Stands for a storage of one file."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_range(self, file: str, start: int, stop: int) -> bytes:
        assert 0 <= start <= stop <= len(self.data)
        return self.data[start:stop]


def opened(data: bytes) -> Any:
    return packed_remote.RemoteShard(Bytes(data), "shard", len(data))  # type: ignore[arg-type]


@pytest.mark.parametrize("tail", [10, 300, 1 << 16])
@pytest.mark.parametrize("batches", [0, 1, 40])
def test_batches_are_those_of_pyarrow(
    tail: int, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_remote, "_TAIL", tail)
    schema = pa.schema([("jpeg", pa.binary()), ("crc32", pa.uint32())])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for k in range(batches):
            writer.write_batch(pa.record_batch([[b"x" * k, b"y"], [k, 1]], schema=schema))
    data = sink.getvalue().to_pybytes()
    shard, true = opened(data), pa.ipc.open_file(pa.py_buffer(data))
    assert (shard.num_record_batches, shard.schema) == (batches, schema)
    for k in range(batches):
        assert shard.get_batch(k).equals(true.get_batch(k))


def test_a_damaged_footer_is_an_error_or_the_truth(packed: Path) -> None:
    sound = (packed / "shard-00000.arrow").read_bytes()
    true = [opened(sound).get_batch(row) for row in range(4)]
    rng = np.random.default_rng(0)
    refused, footer = 0, int.from_bytes(sound[-10:-6], "little") + 10
    for _ in range(400):
        changed = bytearray(sound)
        changed[len(sound) - 1 - int(rng.integers(footer))] ^= 1 << int(rng.integers(8))
        try:
            shard = opened(bytes(changed))
            for row in range(min(shard.num_record_batches, 4)):
                batch = shard.get_batch(row)
                batch.validate(full=True)
                assert batch in true
        except (ValueError, OSError, pa.ArrowException):
            refused += 1
    assert refused > 50
    for size in (0, 5, 20, len(sound) // 2):
        with pytest.raises((ValueError, OSError)):
            opened(sound[:size])
