"""A page on the local address: the picture, the scores now, and the last minutes as a timeline."""

from __future__ import annotations

import io
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

import av
from PIL import Image

from smnet.errors import UserError
from smnet.live.watch import Answer

PAGE = files("smnet.live") / "page.html"
MINUTES = 3.0
"""Length of the timeline."""
_POINTS_PER_SECOND = 4
_PICTURES_PER_SECOND = 8
_SIDE = 640  # long side of the picture, pixels
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Page:
    """Serves the page until it is closed. Only this machine is answered.

    Args:
        title: stands above the picture.
        port: 0 is any free port.

    Raises:
        UserError: the port is in use.
    """

    def __init__(self, title: str, port: int = 0) -> None:
        self._title = title
        self._lock = threading.Lock()
        self._points: deque[dict[str, Any]] = deque(maxlen=round(60 * MINUTES * _POINTS_PER_SECOND))
        self._events: dict[str, dict[str, Any]] = {}
        self._now: dict[str, Any] = {}
        self._picture: av.VideoFrame | None = None
        self._pictured = 0.0
        handler = type("Handler", (_Handler,), {"page": self})
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError as error:
            raise UserError(f"--page {port}: {error.strerror}; name another port") from None
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="smnet-page", daemon=True
        )
        self._thread.start()

    def frame(self, frame: av.VideoFrame, seconds: float) -> None:
        """Show a frame; called in the thread that decodes."""
        del seconds
        now = time.monotonic()
        if now - self._pictured >= 1 / _PICTURES_PER_SECOND:
            self._pictured, self._picture = now, frame

    def show(self, answer: Answer, dropped: int) -> None:
        """Show an answer."""
        with self._lock:
            for event in answer.events:
                self._events[event.id] = event.to_dict()
            self._now = {
                "seconds": answer.seconds,
                "delay": answer.delay,
                "top": list(zip(answer.labels, answer.scores, strict=True)),
                "dropped": dropped,
            }
            last = self._points[-1]["t"] if self._points else -1.0
            if answer.labels and not 0 <= answer.middle - last < 1 / _POINTS_PER_SECOND:
                scores = dict(zip(answer.labels, (round(s, 3) for s in answer.scores), strict=True))
                self._points.append({"t": round(answer.middle, 2), "scores": scores})
            oldest = answer.seconds - 60 * MINUTES
            self._events = {
                name: event
                for name, event in self._events.items()
                if event["end"] is None or event["end"] >= oldest
            }

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def state(self) -> dict[str, Any]:
        """What the page draws."""
        with self._lock:
            return {
                "title": self._title,
                "now": self._now,
                "points": list(self._points),
                "events": list(self._events.values()),
                "span": 60 * MINUTES,
            }

    def picture(self) -> bytes:
        """The newest frame as JPEG; empty before the first."""
        frame = self._picture
        if frame is None:
            return b""
        scale = min(1.0, _SIDE / max(frame.width, frame.height))
        size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
        shown = frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
        file = io.BytesIO()
        Image.fromarray(shown).rotate(frame.rotation, expand=True).save(file, "JPEG", quality=80)
        return file.getvalue()


class _Handler(BaseHTTPRequestHandler):
    """The page, its state as JSON, and the picture."""

    page: Page

    def do_GET(self) -> None:
        if (self.headers.get("Host") or "").rpartition(":")[0] not in _LOCAL:
            self.send_error(403)  # another site's name that leads here
            return
        kinds: dict[str, tuple[str, Callable[[], bytes]]] = {
            "/": ("text/html; charset=utf-8", PAGE.read_bytes),
            "/state": ("application/json", lambda: json.dumps(self.page.state()).encode()),
            "/picture": ("image/jpeg", self.page.picture),
        }
        kind, body = kinds.get(self.path.partition("?")[0], ("", bytes))
        content = body()
        if not content:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline';"
            " script-src 'unsafe-inline'",
        )
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """No line for each request."""
