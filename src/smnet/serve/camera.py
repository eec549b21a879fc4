"""A browser's camera: JPEG frames in, labels out, by presentation time."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from fastapi import HTTPException, WebSocket
from PIL import Image
from starlette.websockets import WebSocketDisconnect

from smnet.errors import UserError
from smnet.inference.streams import stream_of
from smnet.live.capture import Sample
from smnet.live.clock import Ticks
from smnet.live.scoring import CausalScorer, Scorer, WindowScorer
from smnet.live.watch import rate_of
from smnet.serve.batching import Batcher
from smnet.serve.models import Delegate, Model, Pixels, Values
from smnet.serve.service import Service

STAMP = struct.Struct(">d")
"""Seconds, before the JPEG in every message."""
MOST_BYTES = 1 << 20
"""Of a message."""
_MOST_PIXELS = 1920 * 1080
_SILENCE = 30.0  # seconds without a frame, after which a stream is closed
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Camera:
    """One stream and its state.

    Args:
        model: scores it: a causal checkpoint step by step, any other by windows.
        batcher: of the model.
        top: number of labels.
    """

    def __init__(self, model: Model, batcher: Batcher, top: int = 5) -> None:
        self._model, self._top = model, top
        self._scorer = scorer_of(model, batcher)
        self.rate, _ = rate_of(self._scorer.spec)
        self._ticks = Ticks(self.rate)
        spec = self._scorer.spec
        self._frames: deque[Pixels] = deque(maxlen=spec.frames_per_segment)
        self._names = model.recognizer.classes
        self._samples = 0

    @property
    def mode(self) -> str:
        return self._scorer.mode

    def take(self, message: bytes) -> dict[str, Any]:
        """The answer to a frame.

        Args:
            message: the time in seconds as a big-endian double, and a JPEG file.

        Returns:
            ``top``: labels and scores, best first, empty until the network has seen T samples;
            ``samples``, how many of these it has; ``seconds`` of work; ``restarted``, whether time
            jumped.

        Raises:
            UserError: another kind of message.
        """
        began = time.monotonic()
        frame = picture(message[STAMP.size :])
        (seconds,) = STAMP.unpack_from(message)
        ticks = self._ticks.serve(seconds)
        if restarted := ticks is None:
            self._scorer.restart()
            self._frames.clear()
            self._samples = 0
        self._frames.append(self._scorer.prepare(frame))
        scores = None
        if ticks != 0:
            missing = (self._frames.maxlen or 1) - len(self._frames)
            views = np.stack([self._frames[0]] * missing + list(self._frames))
            self._scorer.add(Sample(seconds, began, views, ticks or 1))
            self._samples += ticks or 1
            scores = self._scorer.scores()
        answer: dict[str, Any] = {
            "samples": min(self._samples, self._scorer.spec.num_segments),
            "restarted": restarted,
            "seconds": round(time.monotonic() - began, 4),
        }
        if scores is not None:
            best = np.argsort(-scores, kind="stable")[: self._top]
            answer["top"] = [[self._names[i], round(float(scores[i]), 4)] for i in best]
        return answer


def scorer_of(model: Model, batcher: Batcher) -> Scorer:
    """What scores a stream. Windows are scored together with other requests."""
    if model.steps:
        return CausalScorer(stream_of(model.backend, model.path), model.backend.read)
    return WindowScorer(_Batched(model, batcher))


def picture(data: bytes) -> Pixels:
    """A frame (H, W, 3) of a JPEG file.

    Raises:
        UserError: another kind of file, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise UserError(f"a frame of {image.width}x{image.height}: send 1920x1080 or less")
            return np.asarray(image.convert("RGB"))
    except _BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise UserError("a frame that is no JPEG picture") from None


class _Batched(Delegate):
    """A backend whose scores come from the batcher."""

    def __init__(self, model: Model, batcher: Batcher) -> None:
        super().__init__(model.backend)
        self._model, self._batcher = model, batcher

    def score(self, views: Pixels) -> Values:
        rows, problems = self._batcher.submit(self._model.scores, views).result()
        if problems:
            raise UserError(next(iter(problems.values())))
        return rows


async def follow(socket: WebSocket, service: Service, has_token: Callable[[str], bool]) -> None:
    """Answer the frames of a camera until it leaves."""
    await socket.accept()
    try:
        async with asyncio.timeout(_SILENCE):
            first = json.loads(await socket.receive_text())
        if not isinstance(first, dict) or not has_token(str(first.get("token", ""))):
            await _hang_up(socket, "give the token")
        if service.cameras >= service.limits.cameras:
            await _hang_up(socket, f"busy: {service.cameras} cameras are open", 1013)
        number = service.number(first.get("model"))
        stream = Camera(service.models[number], service.batchers[number])
        service.cameras += 1
        try:
            service.metrics.cameras.set(service.cameras)
            await socket.send_json({"rate": stream.rate, "mode": stream.mode, "most": MOST_BYTES})
            while True:
                async with asyncio.timeout(_SILENCE):
                    message = await socket.receive_bytes()
                await socket.send_json(await asyncio.to_thread(stream.take, message))
        finally:
            service.cameras -= 1
            service.metrics.cameras.set(service.cameras)
    except WebSocketDisconnect:
        return
    except HTTPException as error:
        await socket.close(1008, str(error.detail)[:100])
    except TimeoutError:
        await socket.close(1008, "silent for too long")
    except (UserError, KeyError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, UserError) else "not a message of the camera"
        await socket.close(1003, reason[:100])


async def _hang_up(socket: WebSocket, reason: str, code: int = 1008) -> NoReturn:
    await socket.close(code, reason)
    raise WebSocketDisconnect(code)
