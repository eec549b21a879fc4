"""What every request passes first: host, origin, token, queue, size and pace of its body.

Requests are refused here before their body is read.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from smnet.serve.limits import Limits
from smnet.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOCAL = ("localhost", "127.0.0.1", "::1")
OPEN = ("/", "/page.js", "/app.js", "/style.css", "/healthz", "/readyz")
"""Paths that need no token."""
REPORTS = "/report/"
"""Paths below it need no token either. Each path ends in a secret key."""
ANSWERS = ("/v1/predict", "/v1/embed", "/v1/explain", "/v1/timeline", "/v1/report")
"""Paths that are counted by name."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; sandbox;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of a report, which is one file with its style inside and no scripts."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_LINGER = 1.0  # seconds for a client to stop sending after a refusal


class Gate:
    """ASGI middleware.

    Args:
        app: the application behind it.
        limits: of a request.
        metrics: are counted up.
        token: that requests need; None needs none, and then only local names are answered.
    """

    def __init__(self, app: App, limits: Limits, metrics: Metrics, token: str | None) -> None:
        self._app, self._limits, self._metrics, self._token = app, limits, metrics, token
        self._waiting = 0
        self._took: deque[float] = deque(maxlen=32)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is not None:
            if _is_post(scope):
                self._count(scope, refusal[0])
            await _refuse(scope, receive, send, *refusal)
        elif _is_post(scope):
            await self._post(scope, receive, send)
        elif scope["type"] == "websocket":  # the first message has the token
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Message, headers: Headers) -> tuple[int, str, dict[str, str]] | None:
        """Status, reason and further headers of the refusal; None if the request may pass."""
        if reason := self._foreign(headers):
            return 403, reason, {}
        if scope["type"] == "websocket":
            return None
        is_open = scope["path"] in OPEN or scope["path"].startswith(REPORTS)
        if not is_open and not self._has_token(headers):
            reason = "give the token: Authorization: Bearer TOKEN"
            return 401, reason, {"www-authenticate": "Bearer"}
        if not _is_post(scope):
            return None
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.upload:
            return 413, _too_large(self._limits), {}
        if self._waiting >= self._limits.requests:
            reason = f"busy: {self._waiting} requests are in progress; try again later"
            return 503, reason, {"retry-after": str(self._pause())}
        return None

    def has_token(self, given: str) -> bool:
        """Whether this is the token."""
        return self._token is None or secrets.compare_digest(given.encode(), self._token.encode())

    def _has_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        return self._token is None or (kind.lower() == "bearer" and self.has_token(given.strip()))

    def _foreign(self, headers: Headers) -> str:
        """Why a request comes from another site; empty if it does not."""
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self._token is None and name not in LOCAL:
            return "without a token only the names of this machine are answered"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "requests from pages of other sites are refused"
        return ""

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        began = scope["began"] = time.monotonic()
        status = 0
        answered = False

        def count_out() -> None:
            nonlocal answered
            if answered:
                return
            answered = True
            self._waiting -= 1
            self._took.append(time.monotonic() - began)
            self._metrics.waiting.set(self._waiting)
            self._count(scope, status)

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status in (408, 413):
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            elif status in (408, 413) and not message.get("more_body"):
                await send({**message, "more_body": True})
                await _linger(receive)
                message = {"type": "http.response.body", "body": b""}
            if message["type"] == "http.response.body" and not message.get("more_body"):
                count_out()  # before the last byte: the client's next request must not find it
            await send(message)

        try:
            await self._app(scope, _Body(receive, self._limits), _with_headers(sent))
        finally:
            count_out()

    def _count(self, scope: Message, status: int) -> None:
        path = scope["path"] if scope["path"] in ANSWERS else ""  # a client may ask for any
        self._metrics.requests.labels(path, status).inc()

    def _pause(self) -> int:
        """Seconds after which to try again: until the queue is probably half as long."""
        mean = sum(self._took) / len(self._took) if self._took else 1.0
        return min(max(math.ceil(mean / 2), 1), 60)


class _Body:
    """Counts the bytes of a body and limits its pace."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._size = 0
        self._deadline = time.monotonic() + limits.body
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        limits = self._limits
        seconds = min(limits.idle, self._deadline - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), max(seconds, 0.0))
        except TimeoutError:
            self._complete = True
            raise HTTPException(408, "the upload is too slow") from None
        self._complete = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > limits.upload:
            self._complete = True
            raise HTTPException(413, _too_large(limits))
        return message


def _too_large(limits: Limits) -> str:
    return f"too large: this server takes {limits.upload >> 20} MiB per request"


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [*message.get("headers", ())]
            names = {name for name, _ in given}
            message["headers"] = [*given, *(h for h in HEADERS if h[0] not in names)]
        await send(message)

    return sent


async def _refuse(
    scope: Message,
    receive: Receive,
    send: Send,
    status: int,
    reason: str,
    more: Mapping[str, str],
) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    body = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *((name.encode(), value.encode()) for name, value in more.items()),
        *HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await _linger(receive)
    await send({"type": "http.response.body", "body": b""})


def _is_post(scope: Message) -> bool:
    return bool(scope["type"] == "http" and scope["method"] == "POST")


async def _linger(receive: Receive) -> None:
    """Let a client finish sending: it may lose the answer if its connection is reset before."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while (await receive()).get("more_body"):
                pass
