"""A camera over a WebSocket: causal networks frame by frame, others by windows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("fastapi", reason="smnet serve needs the extra serve")

from smnet.live.capture import Sample
from smnet.live.scoring import WindowScorer
from smnet.serve.camera import STAMP
from tests.serve.conftest import Running, running
from tests.videos import moving_frames

client = pytest.importorskip("websockets.sync.client")
closed = pytest.importorskip("websockets.exceptions")


def jpeg(frame: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=90)
    return file.getvalue()


@contextmanager
def camera(server: Running, **first: Any) -> Iterator[Any]:
    with client.connect(f"ws://127.0.0.1:{server.port}/v1/camera", open_timeout=240) as socket:
        socket.send(json.dumps(first))
        yield socket


def received(socket: Any) -> Any:
    return json.loads(socket.recv(240))


def test_frames_of_a_camera(served: Running) -> None:
    frames = moving_frames(6, 48, 32)
    model = served.service.models[1]
    with camera(served, model=model.name) as socket:
        hello = received(socket)
        assert hello["mode"] == "causal"
        answers = []
        for number, frame in enumerate(frames):
            socket.send(STAMP.pack(number / hello["rate"]) + jpeg(frame))
            answers.append(received(socket))
        socket.send(STAMP.pack(100.0) + jpeg(frames[0]))
        assert received(socket)["restarted"]
    count = model.backend.spec.num_segments
    assert [answer["samples"] for answer in answers] == [1, 2, 3, 4, 4, 4]
    assert ["top" in answer for answer in answers] == [False] * (count - 1) + [True] * 3
    # The first T steps of a causal network are what it says of the clip.
    scorer = WindowScorer(model.backend)
    for frame in frames[:count]:
        pixels = np.asarray(Image.open(io.BytesIO(jpeg(frame))))
        scorer.add(Sample(0.0, 0.0, scorer.prepare(pixels)[None]))
    expected = scorer.scores()
    assert expected is not None
    got = dict(answers[count - 1]["top"])
    for name, score in zip(model.recognizer.classes, expected, strict=True):
        assert got[name] == pytest.approx(score, abs=2e-4)


def test_windows_of_a_camera(exported: Any) -> None:
    blue = (moving_frames(5, 48, 32) * np.array([0.25, 0.25, 1.0])).astype(np.uint8)
    with running([exported], workers=1) as server, camera(server) as socket:
        hello = received(socket)
        assert hello["mode"] == "window"
        for number, frame in enumerate(blue):
            socket.send(STAMP.pack(number / hello["rate"]) + jpeg(frame))
            answer = received(socket)
        assert answer["top"][0][0] == "blue"
        server.server.should_exit = True  # an open camera does not keep the server
        with pytest.raises(closed.ConnectionClosed):
            received(socket)


def test_cameras_that_are_refused(exported: Any) -> None:
    token = "0123456789abcdef"
    with running([exported], token=token, workers=1) as server:
        for first in ({}, {"token": "x"}, {"token": token, "model": "none"}):
            with camera(server, **first) as socket, pytest.raises(closed.ConnectionClosed):
                received(socket)
        large = jpeg(np.zeros((2000, 2000, 3), np.uint8))
        for frame in (b"", b"x", STAMP.pack(0.0), STAMP.pack(0.0) + b"GIF89a", large, "text"):
            with camera(server, token=token) as socket:
                received(socket)
                socket.send(frame)
                with pytest.raises(closed.ConnectionClosed):
                    received(socket)
        with pytest.raises(closed.InvalidStatus):
            client.connect(f"ws://127.0.0.1:{server.port}/v1/camera", origin="https://evil.example")
        assert server.service.cameras == 0
