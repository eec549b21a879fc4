"""Uploads that attack: every answer is a clean 4xx, nothing is read, called or left behind."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
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
from tests.serve.hostile import Canary, campaign, others, playlists
from tests.videos import moving_frames, write_video

SMALL = replace(LIMITS, upload=1 << 20, requests=4, length=5.0, pixels=10_000)


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


def check_error(error: str, server: Running) -> None:
    """It says nothing of the server, and is safe to print."""
    assert "Traceback" not in error
    assert str(server.service.folder) not in error
    assert error.isprintable()
    assert ".." not in error.partition(":")[0]


def test_uploads_that_are_no_videos(small: Running, canary: Canary) -> None:
    files = {**playlists(str(canary.file), canary.address), **others()}
    for name, content in files.items():
        answer = small.ask("/v1/predict", (name, content))
        assert 400 <= answer.status < 500, (name, answer)
        check_error(answer.json["error"], small)
    assert small.ask("/v1/timeline", ("path.m3u8", files["path.m3u8"])).status == 422


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


def memory_of(server: Running) -> int:
    """Bytes of the worker processes."""
    pages = 0
    for worker in server.service.workers._workers:
        with suppress(OSError, IndexError):  # it may be replaced at this moment
            pages += int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.fuzz
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory as Linux does")
def test_a_campaign(small: Running, canary: Canary, tmp_path: Path) -> None:
    """``SMNET_UPLOADS`` uploads of all kinds; ``make fuzz`` sends 500."""
    count = int(
        os.environ.get("SMNET_UPLOADS", "500" if "SMNET_FUZZ_SECONDS" in os.environ else "60")
    )
    before, most = memory_of(small), 0
    statuses: Counter[int] = Counter()
    for number, (name, content, may_be_video) in enumerate(campaign(tmp_path, canary)):
        if number == count:
            break
        kind = ("predict", "timeline")[number % 7 == 3]
        if number % 5:
            answer = small.ask(f"/v1/{kind}", (name, content))
        else:
            types = {"Content-Type": ("video/mp4", "application/octet-stream")[number % 2]}
            answer = small.ask(f"/v1/{kind}", body=content, headers=types)
        statuses[answer.status] += 1
        assert 400 <= answer.status < 500 or (may_be_video and answer.status == 200), (name, answer)
        if answer.status != 200:
            check_error(answer.json["error"], small)
        most = max(most, memory_of(small))
    assert canary.calls == 0
    assert most - before < 400 << 20, "the memory of the workers"
    print(
        f"{count} uploads: {dict(statuses)}, workers took {(most - before) >> 20} MiB more at most"
    )
    good = (tmp_path / "clip.mp4").read_bytes()
    assert small.ask("/v1/predict", ("good.mp4", good)).status == 200


def raw(server: Running, *pieces: bytes, pause: float = 0.0) -> bytes:
    """The answer to pieces of a request, as the socket carries it."""
    with socket.create_connection(("127.0.0.1", server.port), 240) as connection:
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
    answer = raw(small, head("Content-Length: 9999999999"))  # without any of it
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert raw(small, head("Content-Length: -1")).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("limits", [{"idle": 0.4}, {"body": 1.0}])
def test_a_slow_body(exported: Path, limits: dict[str, float]) -> None:
    """Too long between two pieces, or in all. The rest is never sent."""
    with running([exported], replace(SMALL, **limits), workers=1) as server:
        answer = raw(server, head("Content-Length: 1000"), *[b"x"] * 8, pause=0.25)
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
