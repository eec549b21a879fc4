"""Messages to other programs: delivered in order, dropped by count, never waited for."""

from __future__ import annotations

import threading
import time

import pytest

from smnet.errors import UserError
from smnet.live.outbox import Mqtt, Outbox, Webhook

from .servers import broker, webhook


class Stuck:
    """A receiver that answers when it is released."""

    name = "stuck"

    def __init__(self) -> None:
        self.free = threading.Event()
        self.got: list[object] = []

    def send(self, message: object) -> None:
        self.free.wait(100)
        self.got.append(message)

    def close(self) -> None:
        pass


def test_a_stalled_receiver_never_holds_up_the_stream() -> None:
    channel = Stuck()
    outbox = Outbox(channel, capacity=4)
    began = time.monotonic()
    for number in range(100):
        outbox.put({"n": number})
    assert time.monotonic() - began < 30  # one wait of the receiver is 100 s
    channel.free.set()
    outbox.close()
    numbers = [message["n"] for message in channel.got]  # type: ignore[index]
    assert numbers == sorted(numbers)
    assert numbers[-4:] == [96, 97, 98, 99]  # the newest ones
    assert outbox.sent + outbox.dropped == 100


def test_a_webhook_is_tried_again() -> None:
    lines: list[str] = []
    with webhook([500, 503]) as (address, got):
        outbox = Outbox(Webhook(address), lines.append, pause=0.05)
        outbox.put({"id": "a"})
        outbox.put({"id": "b"})
        for _ in range(100):
            if outbox.sent == 2:
                break
            time.sleep(0.02)
        outbox.close()
    assert [message["id"] for message in got] == ["a", "b"]
    assert len(lines) == 2  # told once, and once that it works again
    assert "2 sent" in str(outbox)


def test_mqtt() -> None:
    pytest.importorskip("paho.mqtt.client")
    with broker() as (port, got):
        outbox = Outbox(Mqtt(f"mqtt://127.0.0.1:{port}/home/events"))
        outbox.put({"id": "a"})
        for _ in range(150):
            if outbox.sent:
                break
            time.sleep(0.02)
        outbox.close()
    assert got == [("home/events", {"id": "a"})]


@pytest.mark.parametrize("address", ["ftp://x/y", "nothing", "http://"])
def test_addresses_of_another_kind(address: str) -> None:
    with pytest.raises(UserError, match="--webhook"):
        Webhook(address)
    with pytest.raises(UserError, match="--mqtt"):
        Mqtt(address)
