"""A browser's camera: JPEG frames in, labels out, by presentation time."""

from __future__ import annotations

import io
import struct
import time
from collections import deque
from typing import Any

import numpy as np
from PIL import Image

from smnet.errors import UserError
from smnet.inference.streams import stream_of
from smnet.live.capture import Sample
from smnet.live.clock import Ticks
from smnet.live.scoring import CausalScorer, Scorer, WindowScorer
from smnet.live.watch import rate_of
from smnet.serve.batching import Batcher
from smnet.serve.models import Delegate, Model, Pixels, Values

STAMP = struct.Struct(">d")
"""Seconds, before the JPEG in every message."""
MOST_BYTES = 1 << 20
"""Of a message."""
_MOST_PIXELS = 1920 * 1080
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
