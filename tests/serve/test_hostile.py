"""Uploads that attack: every answer is a clean 4xx, nothing is read, called or left behind."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="smnet serve needs the extra serve")

from smnet.errors import UserError
from smnet.serve.limits import check_address, check_prefixes
from smnet.serve.run import check_token
from smnet.serve.uploads import shown_name
from tests.serve.conftest import LIMITS, Running, form, running
from tests.videos import moving_frames, write_video

SMALL = replace(LIMITS, upload=1 << 20, idle=0.4, body=1.5, requests=4, length=5.0, pixels=10_000)


class Canary:
    """A file and an address that nobody may touch."""

    def __init__(self, folder: Path) -> None:
        self.file = write_video(folder / "secret.mp4", moving_frames(8, 32, 32))
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/secret.mp4"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    made = Canary(tmp_path_factory.mktemp("canary"))
    yield made
    assert made.calls == 0
    made.close()


@pytest.fixture(scope="module")
def small(exported: Path) -> Iterator[Running]:
    with running([exported], SMALL, workers=1) as server:
        yield server
        assert list(server.service.folder.iterdir()) == []
        assert server.service.metrics.waiting._value.get() == 0


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"\x2c" + bytes(9) + b";"


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.mp4", content)
    return file.getvalue()


def uploads(canary: Canary) -> dict[str, bytes]:
    """Files by name, none of which is a video that this server takes."""
    path, address = str(canary.file), canary.address
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}"/></svg>'
    return {
        "file.m3u8": playlist.format(f"file://{path}").encode(),
        "path.m3u8": playlist.format(path).encode(),
        "address.m3u8": playlist.format(address).encode(),
        "playlist.mp4": playlist.format(address).encode(),
        "concat.txt": f"ffconcat version 1.0\nfile {path}\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile '{address}'\n".encode(),
        "old.mp4": f"file '{path}'\n".encode(),
        "list.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "x.svg": svg.format(address).encode(),
        "entity.svg": f'<!DOCTYPE s [<!ENTITY x SYSTEM "{address}">]><svg>&x;</svg>'.encode(),
        "manifest.mpd": f"<MPD><BaseURL>{address}</BaseURL></MPD>".encode(),
        "asx.asf": f'<asx><entry><ref href="{address}"/></entry></asx>'.encode(),
        "bomb.zip": zipped(bytes(1 << 24)),
        "bomb.gz": gzip.compress(bytes(1 << 24)),
        "wide.y4m": b"YUV4MPEG2 W100000 H100000 F25:1\nFRAME\n" + bytes(1000),
        "wide.gif": gif(65535, 65535),
        "wide.pgm": b"P5 100000 100000 255\n",
        "empty.mp4": b"",
        "zeros.mp4": bytes(4096),
        "pickle.npy": b"\x93NUMPY\x01\x00" + b"cos\nsystem\n(S'true'\ntR.",
        "page.html": b"<!DOCTYPE html><script>alert(1)</script>",
        "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "index.arrow#0": b"ARROW1" + bytes(64),
        "../../../../etc/passwd": b"root",
        "..\\..\\boot.ini": b"[boot]",
        "a\x00b.mp4": b"text",
        "\x1b[31m.mp4": b"text",
    }


def test_uploads_that_are_no_videos(small: Running, canary: Canary) -> None:
    for name, content in uploads(canary).items():
        answer = small.ask("/v1/predict", (name, content))
        assert 400 <= answer.status < 500, (name, answer)
        error = answer.json["error"]
        assert "Traceback" not in error
        assert str(small.service.folder) not in error, name
        assert error.isprintable()
        assert ".." not in error.partition(":")[0]
    assert small.ask("/v1/timeline", ("path.m3u8", uploads(canary)["path.m3u8"])).status == 422


def test_videos_that_are_too_large_or_too_long(small: Running, tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", moving_frames(4, 160, 96)).read_bytes()
    long = write_video(tmp_path / "long.mp4", moving_frames(20, 32, 32), fps=2).read_bytes()
    for kind in ("predict", "timeline"):
        answer = small.ask(f"/v1/{kind}", ("large.mp4", large))
        assert "frames of 160x96 pixels" in answer.json["error"]
        answer = small.ask(f"/v1/{kind}", ("long.mp4", long))
        assert answer.json["error"] == "long.mp4: 10 s long; this server takes 5 s"


def test_truncated_and_mutated_clips(small: Running, tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", moving_frames(12, 32, 32)).read_bytes()
    rng = np.random.default_rng(0)
    files = [good[: int(len(good) * share)] for share in (0.05, 0.3, 0.6, 0.95)]
    for _ in range(20):
        mutated = bytearray(good)
        for place in rng.integers(0, len(good), 12):
            mutated[place] = rng.integers(256)
        files.append(bytes(mutated))
    for content in files:
        answer = small.ask("/v1/predict", ("clip.mp4", content))
        assert answer.status in (200, 422), answer
    assert small.ask("/v1/predict", ("good.mp4", good)).status == 200


def raw(server: Running, *pieces: bytes, pause: float = 0.0) -> bytes:
    """The answer to pieces of a request, as the socket carries it."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass  # refused while sending
        answer = b""
        while block := connection.recv(65536):
            answer += block
        return answer


def head(length: str, kind: str = "video/mp4") -> bytes:
    return (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("kind", ["video/mp4", "multipart/form-data; boundary=x"])
def test_a_body_without_end(small: Running, kind: str) -> None:
    block = b"10000\r\n" + bytes(65536) + b"\r\n"
    start = b"--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n"
    first = b"%x\r\n%b\r\n" % (len(start), start) if "multipart" in kind else block
    answer = raw(small, head("Transfer-Encoding: chunked", kind), first, *[block] * 40)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"this server takes 1 MiB" in answer


def test_a_body_that_says_it_is_too_large(small: Running) -> None:
    began = time.monotonic()
    answer = raw(small, head("Content-Length: 9999999999"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - began < 5
    assert raw(small, head("Content-Length: -1")).startswith(b"HTTP/1.1 4")


def test_a_slow_body(small: Running) -> None:
    answer = raw(small, head("Content-Length: 1000"), b"x")
    assert answer.startswith(b"HTTP/1.1 408 ")
    answer = raw(small, head("Content-Length: 1000"), *[b"x"] * 8, pause=0.25)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_requests_that_are_no_forms(small: Running) -> None:
    many = [(f"{k}.mp4", b"x") for k in range(17)]
    assert small.ask("/v1/predict", *many).status == 400
    bodies = [b"", b"--x", b"--x\r\n\r\n", form([("a", b"x")])[0][:-30], b"\xff" * 100]
    for body in bodies:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert 400 <= small.ask("/v1/predict", body=body, headers=kind).status < 500
    assert (
        small.ask("/v1/predict", body=b"x", headers={"Content-Type": "multipart/form-data"}).status
        == 400
    )
    assert small.ask("/v1/nothing", body=b"x").status == 404
    assert small.ask("/v1/predict").status == 405
    assert small.ask("/../../etc/passwd").status == 404
    assert raw(small, b"\x16\x03\x01\x02\x00\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_addresses_are_refused_unless_they_are_allowed(small: Running, canary: Canary) -> None:
    answer = small.ask("/v1/predict", fields=[("address", canary.address)])
    assert answer.status == 400
    assert "fetches no addresses" in answer.json["error"]
    allowed = check_prefixes(["https://a.example/videos/"])
    check_address("https://a.example/videos/x/clip.mp4?size=1", allowed)
    for address in (
        "https://a.example/other/clip.mp4",
        "https://a.example.evil.example/videos/x",
        "https://a.example/videos/../other/clip.mp4",
        "https://a.example/videos/%2e%2e/clip.mp4",
        "https://a.example/videos/x@b.example",
        "zip://x::https://a.example/videos/x",
        "file:///etc/passwd",
        "/etc/passwd",
        "",
    ):
        with pytest.raises(UserError):
            check_address(address, allowed)
    for prefix in ("https://a.example", "a.example/", "file:///", "https:///"):
        with pytest.raises(UserError):
            check_prefixes([prefix])


def test_names_for_messages() -> None:
    assert shown_name("../../x/clip.mp4") == "clip.mp4"
    assert shown_name(r"C:\videos\clip.mp4") == "clip.mp4"
    assert shown_name("..") == shown_name("") == shown_name(None) == "upload"
    assert shown_name("a\nb").isprintable()


def test_hosts_that_need_a_token() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        check_token(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.2", "box.example"):
        with pytest.raises(UserError, match="SMNET_TOKEN"):
            check_token(host, None)
        check_token(host, "0123456789abcdef")
    with pytest.raises(UserError, match="at least 16"):
        check_token("127.0.0.1", "short")
