"""A local page that takes labels: the table they go to, and the server that only this machine sees.

The server is bound to 127.0.0.1. Its address holds a random token, requests under another name of
the host are refused (DNS rebinding), and the page may load nothing from elsewhere.
"""

from __future__ import annotations

import csv
import json
import secrets
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from smnet.errors import UserError
from smnet.files import atomic_path

HOST = "127.0.0.1"
COLUMNS = ["path", "label"]
MOST_BYTES = 1 << 16  # of a request
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; media-src 'self';"
    " connect-src 'self'"
)


class LabelTable:
    """A csv with the columns path and label, as ``smnet train`` reads it.

    Args:
        path: of the file; labels that it has are kept.

    Raises:
        UserError: a file with other columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, str] = {}
        if path.exists():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    first, *rest = csv.reader(file)
                    if first != COLUMNS:
                        raise ValueError(f"its columns are {', '.join(first)}")
                    self.rows = dict(rest)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{path}: not a table of labels with the columns path and label ({error}); name"
                    " another file with --out"
                ) from None

    def set(self, clip: str, label: str | None) -> None:
        """Set or remove the label of a clip, and write the file.

        Raises:
            UserError: it cannot be written.
        """
        if label is None:
            self.rows.pop(clip, None)
        else:
            self.rows[clip] = label
        with atomic_path(self.path) as new, new.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *self.rows.items()])


class LabelServer(ThreadingHTTPServer):
    """Serves the page, the clips and the answers.

    Args:
        page: the HTML; it asks for ``clip/N`` and sends answers to ``label``.
        clips: paths of the clips.
        video: the bytes of an mp4 for a path; None where it cannot be read.
        table: takes the labels.
        port: 0 takes any free one.

    Attributes:
        address: of the page, with the token.

    Raises:
        UserError: the port is in use.
    """

    daemon_threads = True

    def __init__(
        self,
        page: str,
        clips: Sequence[str],
        video: Callable[[str], bytes | None],
        table: LabelTable,
        port: int = 0,
    ) -> None:
        self.page, self.clips, self.video, self.table = page, clips, video, table
        self.token = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(f"--port {port}: {error.strerror or error}") from None

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def answer(self, given: Any) -> None:
        """Take an answer ``{"clip": N, "label": text or null}``.

        Raises:
            ValueError: another form.
        """
        if not isinstance(given, dict):
            raise ValueError("not an answer")
        clip, label = given.get("clip"), given.get("label")
        if type(clip) is not int or not 0 <= clip < len(self.clips):
            raise ValueError("no such clip")
        if label is not None and not (isinstance(label, str) and label.strip()):
            raise ValueError("no label")
        self.table.set(self.clips[clip], None if label is None else label.strip())


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer

    def do_GET(self) -> None:
        where = self._inside()
        if where is None:
            return
        name, _, number = where.partition("/")
        if not where:
            self._send(self.server.page.encode(), "text/html; charset=utf-8")
        elif name == "clip" and number.isdecimal() and int(number) < len(self.server.clips):
            video = self.server.video(self.server.clips[int(number)])
            if video is None:
                self.send_error(404)
            else:
                self._send(video, "video/mp4")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        where = self._inside()
        if where is None:
            return
        length = self.headers.get("Content-Length", "")
        if where not in ("label", "done") or not length.isdecimal() or int(length) > MOST_BYTES:
            self.send_error(400)
            return
        body = self.rfile.read(int(length))
        if where == "done":
            self._send(b"{}", "application/json")
            self.server.shutdown()
            return
        try:
            self.server.answer(json.loads(body))
        except (ValueError, RecursionError) as error:
            self.send_error(400, str(error))
        except UserError as error:
            self.send_error(500, str(error))
        else:
            self._send(b"{}", "application/json")

    def _inside(self) -> str | None:
        """The path below the token; None after an error."""
        _, token, *rest = self.path.split("/", 2)
        host = self.headers.get("Host", "")
        allowed = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        if not secrets.compare_digest(token.encode(), self.server.token.encode()) or not rest:
            self.send_error(404)
            return None
        if host not in allowed:
            self.send_error(403)
            return None
        return rest[0]

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not printed."""
