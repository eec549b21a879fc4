"""Scores of what happens now: of the last window, or step by step with a causal network."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.metadata import view_plan
from smnet.data.loading.views import Scaler, ViewPlan, read_views
from smnet.errors import UserError
from smnet.inference.backends import Backend, is_exported, open_backend
from smnet.inference.streams import NotAStream, Stream, mean_scores, open_stream, stream_of
from smnet.live.capture import Pixels, Sample
from smnet.models.spec import ModelSpec

MODES = ("auto", "window", "causal")


class Scorer(Protocol):
    """Samples in, scores out.

    Attributes:
        spec: the model.
        recipe: see :class:`smnet.inference.backends.Backend`.
        mode: ``"window"`` or ``"causal"``.
        state_bytes: size of what is kept between frames.
    """

    mode: str

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def recipe(self) -> Mapping[str, Any]: ...

    @property
    def state_bytes(self) -> int: ...

    def prepare(self, frame: Pixels) -> Pixels:
        """The crop (3, h, w) of a frame (H, W, 3)."""

    def restart(self) -> None:
        """Forget all samples."""

    def add(self, sample: Sample) -> None:
        """Take the next sample."""

    def scores(self) -> NDArray[np.float32] | None:
        """Scores (K,) of the last T samples; None before there are as many."""


class WindowScorer:
    """Any network: the last T samples as one clip, scored as ``smnet predict`` scores them."""

    mode = "window"

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._plan = _frame_plan(backend.spec, backend.scaler)
        self._window: deque[Pixels] = deque(maxlen=backend.spec.num_segments)

    @property
    def spec(self) -> ModelSpec:
        return self._backend.spec

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self._backend.recipe

    @property
    def state_bytes(self) -> int:
        return self.spec.frames_per_clip * 3 * self.spec.input_size**2

    def prepare(self, frame: Pixels) -> Pixels:
        view: Pixels = self._backend.read(frame[None], self._plan)[0, 0]
        return view

    def restart(self) -> None:
        self._window.clear()

    def add(self, sample: Sample) -> None:
        self._window.extend([sample.views] * sample.ticks)

    def scores(self) -> NDArray[np.float32] | None:
        if len(self._window) < self.spec.num_segments:
            return None
        clip = np.concatenate(self._window)[None, None]
        row: NDArray[np.float32] = self._backend.score(clip)[0]
        return row


class CausalScorer:
    """A causal network: one step per sample, and the mean of the last T logits.

    On the first T samples this is what the network says of them as a clip.
    """

    mode = "causal"

    def __init__(self, stream: Stream, read: Callable[[Pixels, ViewPlan], Pixels]) -> None:
        self._stream, self._read = stream, read
        self._plan = _frame_plan(stream.spec, stream.scaler)
        self._logits: deque[NDArray[np.float32]] = deque(maxlen=stream.spec.num_segments)

    @property
    def spec(self) -> ModelSpec:
        return self._stream.spec

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self._stream.recipe

    @property
    def state_bytes(self) -> int:
        return self._stream.state_bytes

    def prepare(self, frame: Pixels) -> Pixels:
        return self._read(frame[None], self._plan)[0, 0]

    def restart(self) -> None:
        self._stream.restart()
        self._logits.clear()

    def add(self, sample: Sample) -> None:
        views = sample.views if self.spec.frames_per_segment > 1 else sample.views[0]
        for _ in range(sample.ticks):
            self._logits.append(self._stream.step(views))

    def scores(self) -> NDArray[np.float32] | None:
        if len(self._logits) < self.spec.num_segments:
            return None
        return mean_scores(list(self._logits), self.spec)


def open_scorer(
    path: str | os.PathLike[str],
    mode: str = "auto",
    device: str = "auto",
    backend: str | None = None,
) -> Scorer:
    """Open a network for a live stream.

    Args:
        path: a checkpoint, or an exported file.
        mode: ``"window"``; ``"causal"``; ``"auto"`` is causal if the network is.
        device, backend: see :func:`smnet.inference.backends.open_backend`.

    Raises:
        UserError: no such file, mode, device or backend, or a network that is not causal.
    """
    if mode not in MODES:
        raise UserError(f"--mode {mode}: use {', '.join(MODES)}")
    if mode == "window":
        return WindowScorer(open_backend(path, device, backend))
    if is_exported(path):
        try:
            return CausalScorer(open_stream(path, device, backend), _read_with_pillow)
        except NotAStream:
            if mode == "causal":
                raise
            return WindowScorer(open_backend(path, device, backend))
    opened = open_backend(path, device, backend)
    if mode == "auto" and not opened.spec.causal:
        return WindowScorer(opened)
    return CausalScorer(stream_of(opened, path), opened.read)


def _read_with_pillow(frames: Pixels, plan: ViewPlan) -> Pixels:
    return read_views(frames, plan)


def _frame_plan(spec: ModelSpec, scaler: Scaler) -> ViewPlan:
    """The crop of the test protocol, of one frame as a video of its own."""
    one = replace(spec, sampling="uniform", rate=None, num_segments=1, frames_per_segment=1)
    return replace(view_plan(one), scaler=scaler)
