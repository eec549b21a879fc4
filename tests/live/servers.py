"""Servers on the loopback address that fail on demand: motion JPEG, a webhook, an MQTT broker."""

from __future__ import annotations

import io
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

Script = Callable[[Any], Iterator[Any]]
"""Called for each connection; yields frames (H, W, 3) to send and seconds (float) to wait. The
connection is closed at its end."""


def serve(server: socketserver.BaseServer) -> threading.Thread:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    return thread


class Mjpeg:
    """``multipart/x-mixed-replace`` pictures, as cameras serve them.

    Args:
        script: what is sent.

    Attributes:
        connections: how many there were.
    """

    def __init__(self, script: Script) -> None:
        self.connections = 0
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for item in script(outer):
                        if isinstance(item, float):
                            if outer.closing.wait(item):
                                return
                            continue
                        picture = io.BytesIO()
                        Image.fromarray(item).save(picture, "JPEG")
                        data = picture.getvalue()
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                        self.wfile.write(head.encode() + b"\r\n\r\n" + data + b"\r\n")
                except OSError:
                    pass

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/video"

    def __enter__(self) -> Mjpeg:
        serve(self._server)
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def rtsp_camera(frames: np.ndarray, fps: int = 20) -> Iterator[str]:
    """An RTSP server that plays frames (T, H, W, 3) again and again; yields its address."""
    rtsp = pytest.importorskip("rtsp", reason="rtsp-rs is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = frames.shape[1:3]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, fps)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": "repeat-headers=1:annexb=1:keyint=5",
    }
    packets = []
    for number in range(len(frames)):
        picture = av.VideoFrame.from_ndarray(frames[number], format="rgb24")
        picture.pts = number
        packets += [bytes(packet) for packet in encoder.encode(picture)]
    server = rtsp.Server(f"127.0.0.1:{port}")
    server.start()
    stop = threading.Event()

    def play() -> None:
        number = 0
        while not stop.wait(1 / fps):
            server.send_frame(packets[number % len(packets)], 90_000 // fps)
            number += 1

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    yield f"rtsp://127.0.0.1:{port}/stream"
    stop.set()
    thread.join()
    server.stop()


@contextmanager
def webhook(statuses: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver of JSON that answers with these statuses in order, then with 200."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0) if statuses else 200
            if status == 200:
                got.append(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serve(server)
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
    server.shutdown()
    server.server_close()


@contextmanager
def broker() -> Iterator[tuple[int, list[tuple[str, dict[str, Any]]]]]:
    """The part of an MQTT 3.1.1 broker that takes messages: its port, and (topic, message)."""
    got: list[tuple[str, dict[str, Any]]] = []

    class Handler(socketserver.BaseRequestHandler):
        def take(self, count: int) -> bytes:
            data = b""
            while len(data) < count:
                part = self.request.recv(count - len(data))
                if not part:
                    raise ConnectionError
                data += part
            return data

        def handle(self) -> None:
            connection: socket.socket = self.request
            try:
                while True:
                    kind = self.take(1)[0]
                    length, shift = 0, 0
                    while True:
                        byte = self.take(1)[0]
                        length |= (byte & 127) << shift
                        shift += 7
                        if byte < 128:
                            break
                    body = self.take(length)
                    if kind >> 4 == 1:  # CONNECT
                        connection.sendall(b"\x20\x02\x00\x00")
                    elif kind >> 4 == 3:  # PUBLISH, quality 1
                        (size,) = struct.unpack(">H", body[:2])
                        topic = body[2 : 2 + size].decode()
                        number, message = body[2 + size : 4 + size], body[4 + size :]
                        got.append((topic, json.loads(message)))
                        connection.sendall(b"\x40\x02" + number)
            except OSError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serve(server)
        yield server.server_address[1], got
        server.shutdown()
