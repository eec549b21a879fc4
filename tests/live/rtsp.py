"""A camera of RTSP on the loopback address: H.264 within the TCP connection, faults on demand."""

from __future__ import annotations

import socketserver
import struct
import threading
import time
from fractions import Fraction

import av
import numpy as np

from .servers import Script, serve

_PAYLOAD = 1200  # bytes per RTP packet
_CLOCK = 90_000


class Rtsp:
    """Plays frames as key frames, stamped by the clock.

    Args:
        script: as of ``Mjpeg``; also yields integers: seconds to add to the time stamps.

    Attributes:
        connections: how many were played to.
    """

    def __init__(self, script: Script) -> None:
        self.connections = 0
        self.closing = threading.Event()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    while line := self.rfile.readline().decode():
                        method, url, _ = line.split()
                        headers = {}
                        while (header := self.rfile.readline().decode().strip()) != "":
                            name, _, value = header.partition(":")
                            headers[name.lower()] = value.strip()
                        self.answer(method, url, headers["cseq"])
                        if method == "PLAY":
                            outer.connections += 1
                            return self.play()
                except OSError:
                    pass

            def answer(self, method: str, url: str, number: str) -> None:
                lines = ["RTSP/1.0 200 OK", f"CSeq: {number}", "Session: 1"]
                body = ""
                if method == "OPTIONS":
                    lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
                elif method == "DESCRIBE":
                    body = (
                        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\n"
                        "t=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
                        "a=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
                    )
                    lines += ["Content-Type: application/sdp", f"Content-Base: {url}/"]
                elif method == "SETUP":
                    lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
                lines.append(f"Content-Length: {len(body)}")
                self.wfile.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

            def play(self) -> None:
                began, offset, number = time.monotonic(), 0, 0
                encoder: av.VideoCodecContext | None = None
                for item in script(outer):
                    if isinstance(item, float):
                        if outer.closing.wait(item):
                            return
                    elif isinstance(item, int):
                        offset += item
                    else:
                        if encoder is None or (encoder.height, encoder.width) != item.shape[:2]:
                            encoder = key_frames(*item.shape[:2])
                        stamp = round((time.monotonic() - began + offset) * _CLOCK) % 2**32
                        for payload, last in payloads(encoder, item):
                            head = struct.pack(">BBHII", 0x80, 96 | last << 7, number, stamp, 1)
                            number = (number + 1) % 2**16
                            size = len(head) + len(payload)
                            self.wfile.write(struct.pack(">cBH", b"$", 0, size) + head + payload)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"rtsp://127.0.0.1:{self._server.server_address[1]}/stream"

    def __enter__(self) -> Rtsp:
        serve(self._server)
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def key_frames(height: int, width: int) -> av.VideoCodecContext:
    """An encoder whose packets are decoded by themselves."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": "keyint=1:repeat-headers=1:annexb=1",
    }
    return encoder


def payloads(encoder: av.VideoCodecContext, frame: np.ndarray) -> list[tuple[bytes, bool]]:
    """RTP payloads of a frame by RFC 6184, and whether each is the last of it."""
    data = b"".join(map(bytes, encoder.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))))
    units = [u.rstrip(b"\0") for u in data.split(b"\0\0\1") if u.rstrip(b"\0")]
    found: list[bytes] = []
    for unit in units:
        if len(unit) <= _PAYLOAD:
            found.append(unit)
            continue
        parts = [unit[i : i + _PAYLOAD] for i in range(1, len(unit), _PAYLOAD)]
        for number, part in enumerate(parts):
            place = (number == 0) << 7 | (number == len(parts) - 1) << 6
            found.append(bytes([unit[0] & 0xE0 | 28, place | unit[0] & 0x1F]) + part)
    return [(payload, payload is found[-1]) for payload in found]
