"""Events sent to other programs, without ever holding up the stream: webhooks and MQTT."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from smnet.console import json_text
from smnet.errors import UserError, missing_extra

CAPACITY = 256
"""Messages that wait; the oldest is dropped when one more arrives."""
TIMEOUT = 5.0
"""Seconds that a receiver has to answer."""

Message = Mapping[str, Any]


class Channel(Protocol):
    """A way to a receiver, named for people."""

    name: str

    def send(self, message: Message) -> None:
        """Deliver a message, or raise ``OSError``."""

    def close(self) -> None: ...


class Outbox:
    """Delivers messages to one receiver in a thread.

    :meth:`put` never waits. While the receiver does not answer, messages wait, and the oldest ones
    are dropped when there are too many.

    Attributes:
        sent, dropped: numbers of messages.
    """

    def __init__(
        self,
        channel: Channel,
        tell: Callable[[str], None] = lambda line: None,
        capacity: int = CAPACITY,
        pause: float = 1.0,
    ) -> None:
        """Start the thread.

        Args:
            channel: the way to the receiver.
            tell: receives a line when the receiver fails, and when it answers again.
            capacity: see :data:`CAPACITY`.
            pause: seconds after a failure.
        """
        self.sent = self.dropped = 0
        self._channel, self._tell, self._pause = channel, tell, pause
        self._capacity = capacity
        self._queue: deque[Message] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="smnet-outbox", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Add a message."""
        with self._changed:
            if len(self._queue) >= self._capacity:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(message)
            self._changed.notify()

    def close(self, seconds: float = 2.0) -> None:
        """Deliver what waits, for at most ``seconds``; count the rest as dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self.dropped += len(self._queue)
            self._queue.clear()
        self._channel.close()

    def __str__(self) -> str:
        lost = f", {self.dropped} dropped" if self.dropped else ""
        return f"{self._channel.name}: {self.sent} sent{lost}"

    def _run(self) -> None:
        failing = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                message = self._queue.popleft()
            try:
                self._channel.send(message)
            except (OSError, ValueError) as error:
                with self._changed:
                    if self._closing or len(self._queue) >= self._capacity:
                        self.dropped += 1
                    else:
                        self._queue.appendleft(message)
                    if not failing:
                        self._tell(f"{self._channel.name}: not delivered ({error}); trying again")
                    failing = True
                    self._changed.wait_for(lambda: self._closing, self._pause)
                    if self._closing:
                        return
            else:
                self.sent += 1
                if failing:
                    self._tell(f"{self._channel.name}: delivered again")
                failing = False


class Webhook:
    """Posts each message as JSON to an address."""

    def __init__(self, url: str) -> None:
        """Check the address.

        Raises:
            UserError: not an address of HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--webhook {url}: give an http:// or https:// address")
        self._url = url
        self.name = f"webhook {parts.hostname}"

    def send(self, message: Message) -> None:
        body = json_text(message).encode()
        request = urllib.request.Request(
            self._url, body, {"Content-Type": "application/json", "User-Agent": "smnet"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            answer.read(1 << 16)

    def close(self) -> None:
        pass


class Mqtt:
    """Publishes each message as JSON under a topic of an MQTT broker."""

    def __init__(self, url: str) -> None:
        """Connect to ``mqtt://[user:password@]host[:port]/topic``, or ``mqtts://``.

        Raises:
            UserError: another form of address, or paho-mqtt is not installed.
        """
        parts = urlsplit(url)
        topic = unquote(parts.path.strip("/"))
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic:
            raise UserError(
                f"--mqtt {url}: write mqtt://host/topic, or mqtts://user:word@host/topic"
            )
        try:
            from paho.mqtt import client as paho
        except ImportError:
            raise missing_extra("paho-mqtt", "mqtt") from None
        self.name, self._topic = f"mqtt {parts.hostname}", topic
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        self._client.connect_async(parts.hostname, port)
        self._client.loop_start()

    def send(self, message: Message) -> None:
        waited = time.monotonic() + TIMEOUT
        while not self._client.is_connected():
            if time.monotonic() > waited:
                raise OSError("no connection to the broker")
            time.sleep(0.05)
        sent = self._client.publish(self._topic, json.dumps(message), qos=1)
        sent.wait_for_publish(TIMEOUT)
        if not sent.is_published():
            raise OSError("the broker does not confirm")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
