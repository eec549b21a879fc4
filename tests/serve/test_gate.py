"""The gate: what it counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="smnet serve needs the extra serve")

from smnet.serve.gate import Gate, Message, Receive, Send
from smnet.serve.metrics import Metrics
from tests.serve.conftest import LIMITS

POST = {
    "type": "http",
    "method": "POST",
    "path": "/v1/predict",
    "headers": [(b"host", b"localhost"), (b"content-length", b"0")],
}


@pytest.mark.parametrize("fails", [False, True])
def test_an_answered_request_is_no_longer_in_progress(fails: bool) -> None:
    """The client may ask again before the application has returned."""
    metrics = Metrics()
    sent: list[tuple[int, float]] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        if fails:
            raise RuntimeError

    gate = Gate(app, replace(LIMITS, requests=1), metrics, None)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def client(message: Message) -> None:
        sent.append((message.get("status", 0), metrics.waiting._value.get()))
        if len(sent) == 3:  # the last byte
            await ask()

    async def ask() -> None:
        try:
            await gate(dict(POST), receive, client)
        except RuntimeError:
            assert fails

    asyncio.run(ask())
    assert sent == [(200, 1.0), (0, 1.0), (0, 0.0)] * 2
    assert metrics.requests.labels("/v1/predict", 200)._value.get() == 2
