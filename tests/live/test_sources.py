"""Sources on the loopback address: motion JPEG, RTSP, HLS and SRT, cut, silent and changed."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from smnet.errors import UserError
from smnet.live.capture import Capture, Sample
from smnet.live.sources import source_of
from tests.videos import moving_frames, write_video

from .rtsp import Rtsp
from .servers import Mjpeg, serve

PATIENCE = 60.0
"""Seconds after which a test gives up; a busy machine needs many times what a quiet one does."""
SMALL, LARGE = moving_frames(8, 48, 32), moving_frames(8, 96, 64)


def capture_of(address: str, **settings: Any) -> Capture:
    """A capture that reopens its source at once."""
    given: dict[str, Any] = {"waits": (0.05,), "silence": 0.7, **settings}
    return Capture(source_of(address), 5.0, lambda frame: frame[:4, :4], **given)


def samples(capture: Capture, patience: float = PATIENCE) -> Generator[Sample, None, None]:
    """All samples; fails when they take too long."""
    capture.start()
    began = time.monotonic()
    try:
        while (taken := capture.take(0.2)) is not None:
            yield from taken
            assert time.monotonic() - began < patience, capture.counts
    finally:
        capture.close()


def test_motion_jpeg_has_the_times_of_arrival() -> None:
    """FFmpeg would count 25 frames per second, whatever the camera does."""
    seen = threading.Event()

    def script(server: Mjpeg) -> Iterator[Any]:
        for frame in np.tile(SMALL, (4, 1, 1, 1)):
            yield frame
            if not seen.is_set():
                yield 0.05
        seen.wait(PATIENCE)
        for frame in SMALL:
            yield 0.25
            yield frame
        yield 30.0

    with Mjpeg(script) as server:
        stream = samples(capture_of(server.address, silence=5.0))
        first = next(stream)
        seen.set()
        moments = [sample.seconds for sample, _ in zip(stream, range(4), strict=False)]
        stream.close()
    assert moments[-1] - first.seconds > 0.5
    assert moments == sorted(moments)


def faulty(seed: int) -> Any:
    """A camera that is cut, falls silent, changes its size, and jumps in time, at random."""
    rng = np.random.default_rng(seed)

    def script(server: Any) -> Iterator[Any]:
        frames = SMALL
        while True:
            for frame in np.tile(frames, (3, 1, 1, 1))[: rng.integers(10, 25)]:
                yield frame
                yield 0.04
            fault = rng.choice(["cut", "silence", "size", "time"])
            if fault == "cut":
                return
            if fault == "silence":
                yield 30.0
            if fault == "size":
                frames = LARGE if frames is SMALL else SMALL
            if fault == "time" and isinstance(server, Rtsp):
                yield int(rng.integers(5, 500))

    return script


@pytest.mark.parametrize("kind", [Mjpeg, Rtsp])
def test_a_faulty_camera_is_opened_again(kind: Any) -> None:
    lines: list[str] = []
    with kind(faulty(3)) as server:
        capture = capture_of(server.address, tell=lines.append)
        moment, reasons = -1.0, []
        for sample in samples(capture):
            assert sample.seconds >= moment  # time never runs back
            moment = sample.seconds
            assert sample.views.shape == (1, 4, 4, 3)
            reasons += [sample.restart] if sample.restart else []
            if capture.counts.reopened >= 2 and "the source was lost" in reasons:
                break
    assert set(reasons) <= {"the source was lost", "the time stamps jumped"}
    lost = sum(": lost (" in line for line in lines)
    opened = sum("open again after" in line for line in lines)
    assert opened == capture.counts.reopened
    assert lost in (opened, opened + 1)


@contextmanager
def broadcast(folder: Path, frames: np.ndarray) -> Iterator[tuple[str, threading.Event]]:
    """A live playlist of HLS, and the event that completes it.

    Each request of the playlist finds one segment more.
    """
    folder.mkdir()
    options = {"hls_time": "0.2", "hls_list_size": "0", "hls_playlist_type": "event"}
    with av.open(str(folder / "all.m3u8"), "w", format="hls", options=options) as output:
        stream = output.add_stream("libx264", rate=20, options={"g": "4", "preset": "ultrafast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode())
    lines = (folder / "all.m3u8").read_text().splitlines()
    ends = [number for number, line in enumerate(lines) if line.endswith(".ts")]
    requests: list[int] = []
    complete = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words, directory=str(folder))

        def do_GET(self) -> None:
            if not self.path.endswith("live.m3u8"):
                super().do_GET()
                return
            requests.append(1)
            last = ends[min(len(requests) + 2, len(ends) - 1)]
            text = "\n".join(lines if complete.is_set() else lines[: last + 1]) + "\n"
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serve(server)
        yield f"http://127.0.0.1:{server.server_address[1]}/live.m3u8", complete
        server.shutdown()


def test_a_broadcast_over_hls_ends_with_its_playlist(tmp_path: Path) -> None:
    frames = moving_frames(40, 48, 32)
    with broadcast(tmp_path / "hls", frames) as (address, complete):
        capture = capture_of(address, silence=20.0)
        assert capture.live
        moments = []
        for sample in samples(capture):
            moments.append(sample.seconds)
            complete.set()
    assert moments[-1] > 1.0
    assert moments == sorted(moments)
    assert capture.counts.reopened == 0


def test_a_complete_playlist_is_read_as_a_file(tmp_path: Path) -> None:
    frames = moving_frames(40, 48, 32)
    with broadcast(tmp_path / "hls", frames) as (address, complete):
        complete.set()
        capture = capture_of(address, silence=20.0)
        assert not capture.live
        assert len(list(samples(capture))) == 10
    assert capture.counts.seen == 40


@contextmanager
def slow_network(content: bytes, pieces: int, pause: float) -> Iterator[str]:
    """A stream over HTTP in pieces with pauses between them, again and again."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            size = -(-len(content) // pieces)
            for first in range(0, len(content), size):
                with suppress(OSError):
                    self.wfile.write(content[first : first + size])
                if closing.wait(pause):
                    return

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serve(server)
        yield f"http://127.0.0.1:{server.server_address[1]}/stream.ts"
        closing.set()
        server.shutdown()


@pytest.mark.parametrize(("pieces", "pause"), [(40, 0.03), (2, 0.5)], ids=["trickle", "bursts"])
def test_a_slow_network_loses_no_frame(pieces: int, pause: float, tmp_path: Path) -> None:
    """Times are those of the frames, however late they arrive; a pause is not a lost source."""
    film = write_video(tmp_path / "film.ts", moving_frames(20, 48, 32), fps=20, gop=5)
    lines: list[str] = []
    with slow_network(film.read_bytes(), pieces, pause) as address:
        capture = capture_of(address, silence=10.0, tell=lines.append)
        assert capture.live
        found = []
        for sample in samples(capture):
            if sample.restart:
                break
            found.append(sample)
    assert [sample.seconds for sample in found] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-3)
    assert (capture.counts.dropped, capture.counts.repeated) == (0, 0)
    assert sample.restart == "the source was lost"  # the connection ended, and was made again
    assert "lost (" in lines[0]


def ffmpeg_has_srt() -> bool:
    if shutil.which("ffmpeg") is None:
        return False
    said = subprocess.run(["ffmpeg", "-v", "quiet", "-protocols"], capture_output=True, text=True)
    return re.search(r"^\s*srt$", said.stdout, re.MULTILINE) is not None


@pytest.mark.slow
@pytest.mark.skipif(not ffmpeg_has_srt(), reason="the program ffmpeg is not there, or has no SRT")
def test_srt(tmp_path: Path) -> None:
    """By PyAV where it is built with SRT, else by ffmpeg; opened again when the sender returns."""
    film = write_video(tmp_path / "film.mp4", moving_frames(75, 64, 48))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["ffmpeg", "-v", "quiet", "-nostdin", "-re", "-stream_loop", "-1", "-i", str(film)]
    words += ["-c", "copy", "-f", "mpegts", f"srt://127.0.0.1:{port}?mode=listener"]
    sender = subprocess.Popen(words)
    try:
        began = time.monotonic()
        while True:
            try:
                capture = capture_of(f"srt://127.0.0.1:{port}", silence=5.0)
                break
            except UserError:  # the sender does not listen yet
                assert time.monotonic() - began < PATIENCE
        for number, sample in enumerate(samples(capture)):
            if number == 4:
                sender.kill()
                sender.wait()
                sender = subprocess.Popen(words)
            if sample.restart:
                break
        assert sample.restart == "the source was lost"
    finally:
        sender.kill()
        sender.wait()


def test_without_srt_the_message_names_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*words: Any, **settings: Any) -> None:
        raise av.error.ProtocolNotFoundError(1330794744, "Protocol not found")

    monkeypatch.setattr(av, "open", missing)
    monkeypatch.setenv("PATH", "")
    source = source_of("srt://host:1?passphrase=secret&mode=caller")
    with pytest.raises(UserError, match="without srt; install the program ffmpeg") as caught:
        source.open(1.0)
    assert "secret" not in str(caught.value)


def test_standard_input_may_be_live() -> None:
    waiting, live = source_of("-"), source_of("-", realtime=True)
    assert not waiting.live
    assert live.live
    assert not live.reopens
