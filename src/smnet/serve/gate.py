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
from collections.abc import Awaitable, Callable, MutableMapping
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
OPEN = ("/", "/page.js", "/style.css", "/healthz", "/readyz")
"""Paths that need no token."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
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
        headers = Headers(scope=scope)
        if refused := self._foreign(headers):
            await _refuse(scope, receive, send, 403, refused)
        elif scope["type"] == "websocket":  # the first message has the token
            await self._app(scope, receive, send)
        elif scope["path"] not in OPEN and not self._has_token(headers):
            await _refuse(scope, receive, send, 401, "give the token: Authorization: Bearer TOKEN")
        elif scope["method"] != "POST":
            await self._app(scope, receive, _with_headers(send))
        else:
            await self._post(scope, receive, send, headers)

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

    async def _post(self, scope: Message, receive: Receive, send: Send, headers: Headers) -> None:
        limits = self._limits
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limits.upload:
            await self._counted(scope, receive, send, 413, _too_large(limits))
            return
        if self._waiting >= limits.requests:
            text = f"busy: {self._waiting} requests are in progress; try again later"
            await self._counted(scope, receive, send, 503, text, self._pause())
            return
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        began = scope["began"] = time.monotonic()
        status = 0

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
            await send(message)

        try:
            await self._app(scope, _Body(receive, limits), _with_headers(sent))
        finally:
            self._waiting -= 1
            self._took.append(time.monotonic() - began)
            self._metrics.waiting.set(self._waiting)
            self._metrics.requests.labels(scope["path"] if status != 404 else "", status).inc()

    async def _counted(
        self,
        scope: Message,
        receive: Receive,
        send: Send,
        status: int,
        reason: str,
        pause: int | None = None,
    ) -> None:
        self._metrics.requests.labels(scope["path"], status).inc()
        await _refuse(scope, receive, send, status, reason, pause)

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
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return sent


async def _refuse(
    scope: Message,
    receive: Receive,
    send: Send,
    status: int,
    reason: str,
    pause: int | None = None,
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
        *HEADERS,
    ]
    if pause is not None:
        headers.append((b"retry-after", str(pause).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await _linger(receive)
    await send({"type": "http.response.body", "body": b""})


async def _linger(receive: Receive) -> None:
    """Let a client finish sending: it may lose the answer if its connection is reset before."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while (await receive()).get("more_body"):
                pass
