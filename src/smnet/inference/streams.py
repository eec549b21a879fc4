"""A causal network on one endless stream: a frame in, its logits out, the state kept inside.

PyTorch is imported only for a checkpoint; exported files (``smnet export --stream``) run without.
"""

from __future__ import annotations

import json
import math
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smnet.data.loading.views import Scaler
from smnet.errors import UserError
from smnet.inference.backends import SUFFIXES, open_backend
from smnet.inference.exported import ExportedBackend
from smnet.inference.onnx_backend import OnnxBackend
from smnet.inference.openvino_backend import OpenVinoBackend, import_openvino
from smnet.models.spec import ModelSpec

FRAME, LOGITS, NEXT = "frame", "logits", ".next"
"""Names of the input and the output of an exported step. The state ``NAME`` is an input of this
name; ``NAME.next`` is the output that replaces it."""

MOST_BYTES = 1 << 30
"""Memory that the state of a file may take; files come from anywhere."""

Frame = NDArray[np.uint8]
Logits = NDArray[np.float32]


class NotAStream(UserError):
    """A network that takes whole clips was opened as a stream."""


class Stream(Protocol):
    """A causal network and the state of one stream.

    Attributes:
        spec: the model and its input description.
        recipe: see :class:`smnet.inference.backends.Backend`.
        scaler: what scales its frames, see :class:`smnet.data.loading.views.ViewPlan`.
        state_bytes: size of the state.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def recipe(self) -> Mapping[str, Any]: ...

    @property
    def scaler(self) -> Scaler: ...

    @property
    def state_bytes(self) -> int: ...

    def restart(self) -> None:
        """Forget all frames."""

    def step(self, frame: Frame) -> Logits:
        """Logits (K,) of the next frame (3, h, w), or segment (L, 3, h, w)."""


class TorchStream:
    """A checkpoint under PyTorch."""

    def __init__(self, backend: Any) -> None:
        """Start a stream of a :class:`smnet.inference.torch_backend.TorchBackend`."""
        from smnet.models.streaming import state_bytes

        self._backend = backend
        self._model = backend.model
        self.state_bytes = state_bytes(self._model.initial_state())
        self.restart()

    @property
    def spec(self) -> ModelSpec:
        spec: ModelSpec = self._model.spec
        return spec

    @property
    def recipe(self) -> Mapping[str, Any]:
        recipe: Mapping[str, Any] = self._backend.recipe
        return recipe

    @property
    def scaler(self) -> Scaler:
        scaler: Scaler = self._backend.scaler
        return scaler

    def restart(self) -> None:
        self.state = self._model.initial_state()

    def step(self, frame: Frame) -> Logits:
        import torch

        from smnet.data.loading.transforms import normalise

        with torch.inference_mode():
            pixels = torch.from_numpy(frame)[None].to(self._backend.device)
            image = normalise(pixels, self.spec.mean, self.spec.std)
            if image.dim() == 4:
                image = image.contiguous(memory_format=torch.channels_last)
            logits, self.state = self._model.step(image, self.state)
            row: Logits = logits[0].float().cpu().numpy()
        return row


class _ExportedStream(ExportedBackend):
    """What the engines of exported steps share. The file states the shapes of the state.

    Attributes:
        states: shape of each tensor of the state.
    """

    steps = True

    def __init__(
        self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None
    ) -> None:
        super().__init__(path, device, threads)
        self.restart()

    def _shapes(self, metadata: Mapping[str, str]) -> None:
        try:
            shapes = json.loads(metadata["state"])
            self.states = {str(name): tuple(map(int, shape)) for name, shape in shapes.items()}
        except (KeyError, ValueError, TypeError, AttributeError):
            raise NotAStream(
                f"{self.path}: takes whole clips, not single frames; use it with --mode window, or"
                " write a file for streams with: smnet export --stream"
            ) from None
        impossible = any(size < 1 for shape in self.states.values() for size in shape)
        if impossible or self.state_bytes > MOST_BYTES:
            raise UserError(
                f"{self.path}: its state does not match its metadata, which names empty tensors or"
                f" more than {MOST_BYTES / 1e6:.0f} MB"
            )

    @property
    def state_bytes(self) -> int:
        return sum(4 * math.prod(shape) for shape in self.states.values())

    def blank(self) -> dict[str, NDArray[np.float32]]:
        """The state before the first frame."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.states.items()}

    @abstractmethod
    def restart(self) -> None:
        """Begin a new stream."""

    @abstractmethod
    def step(self, frame: Frame) -> Logits:
        """See :class:`Stream`."""

    def run(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (B, K) of whole clips, each as a new stream."""
        return np.stack([score_clip(self, clip) for clip in clips])


class OnnxStream(_ExportedStream, OnnxBackend):
    """An exported step under ONNX Runtime.

    Attributes:
        state: the state after the last frame.
    """

    def _open(self) -> dict[str, str]:
        metadata = super()._open()
        self._shapes(metadata)
        self._outputs = [LOGITS, *(name + NEXT for name in self.states)]
        return metadata

    def _interface(self) -> tuple[list[Any], list[Any]]:
        names = [[port.name for port in side] for side in self._ports()]
        return names, [[FRAME, *self.states], self._outputs]

    def _ports(self) -> tuple[Any, Any]:
        return self._session.get_inputs(), self._session.get_outputs()

    def restart(self) -> None:
        self.state = self.blank()

    def step(self, frame: Frame) -> Logits:
        logits, self.state = self.run_step(frame, self.state)
        return logits

    def run_step(
        self, frame: Frame, state: Mapping[str, NDArray[np.float32]]
    ) -> tuple[Logits, dict[str, NDArray[np.float32]]]:
        """Logits (K,) of a frame after the frames in ``state``, and the next state."""
        logits, *after = self._session.run(self._outputs, feed(frame, state))
        return logits[0], dict(zip(self.states, after, strict=True))


class OpenVinoStream(_ExportedStream, OpenVinoBackend):
    """An exported step under OpenVINO.

    The state lies in two sets of arrays. A step reads one of them and writes the other, so that
    nothing is copied: copies take a fifth of the time of a step.
    """

    def _open(self) -> dict[str, str]:
        metadata = super()._open()
        self._shapes(metadata)
        try:
            self._bind()
        except RuntimeError:
            raise UserError(f"{self.path}: its state does not match its metadata") from None
        return metadata

    def _bind(self) -> None:
        """Give the arrays of the state to two requests."""
        first, second = self.blank(), self.blank()
        other = self._request.get_compiled_model().create_infer_request()
        self._state, self._next = (first, self._request), (second, other)
        frame, logits = self._model.input(FRAME).shape, self._model.output(LOGITS).shape
        self._frame, self._logits = np.zeros(frame, np.uint8), np.zeros(logits, np.float32)
        for request, before, after in ((self._request, first, second), (other, second, first)):
            arrays = {FRAME: self._frame, LOGITS: self._logits, **before}
            arrays |= {name + NEXT: array for name, array in after.items()}
            for name, array in arrays.items():
                tensor = import_openvino().Tensor(array, shared_memory=True)
                request.set_tensor(name, tensor)

    def _interface(self) -> tuple[list[Any], list[Any]]:
        names = [
            {n for p in side for n in p.names} for side in (self._model.inputs, self._model.outputs)
        ]
        expected = [{FRAME, *self.states}, {LOGITS, *(name + NEXT for name in self.states)}]
        # A tensor that is an input and an output has the names of both.
        return [have & want for have, want in zip(names, expected, strict=True)], [*expected]

    def restart(self) -> None:
        for array in self._state[0].values():
            array.fill(0)

    def step(self, frame: Frame) -> Logits:
        with self._turn:
            self._frame[...] = frame.reshape(self._frame.shape)
            self._state[1].infer(share_inputs=True, share_outputs=True)
            self._state, self._next = self._next, self._state
            logits: Logits = self._logits[0].copy()
        return logits


def feed(frame: Frame, state: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """The inputs of an exported step: the frame as (1, 3, h, w) or a segment (L, 3, h, w)."""
    return {FRAME: frame.reshape(-1, *frame.shape[-3:]), **state}


def segments_of(clip: Frame, spec: ModelSpec) -> Frame:
    """What a stream of (T*L, 3, h, w) is stepped through: frames (T, 3, h, w), or with L > 1
    segments (T, L, 3, h, w)."""
    length = spec.frames_per_segment
    return clip if length == 1 else clip.reshape(-1, length, *clip.shape[1:])


def score_clip(stream: Stream, clip: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scores (K,) of a clip (T*L, 3, h, w) as a new stream, by the mean of its logits."""
    stream.restart()
    return mean_scores([stream.step(x) for x in segments_of(clip, stream.spec)], stream.spec)


def mean_scores(logits: Sequence[Logits], spec: ModelSpec) -> NDArray[np.float32]:
    """Calibrated scores (K,) of the mean of logits (K,): the consensus of a model, and
    :func:`smnet.models.base.probabilities`."""
    mean = np.stack(logits).mean(0, dtype=np.float64) / spec.decision.temperature
    raised = np.exp(mean - mean.max())
    scores = 1 / (1 + np.exp(-mean)) if spec.several else raised / raised.sum()
    return np.asarray(scores, np.float32)


def open_stream(
    path: str | os.PathLike[str], device: str = "auto", backend: str | None = None
) -> Stream:
    """Open a causal checkpoint, or a file of ``smnet export --stream``.

    Args:
        path: see :func:`smnet.inference.backends.open_backend`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: None chooses by the file.

    Raises:
        NotAStream: the network needs whole clips.
        UserError: no such file, backend or device.
    """
    suffix = Path(path).suffix
    if suffix == SUFFIXES["onnxruntime"] and backend in (None, "onnxruntime"):
        return OnnxStream(path, device)
    if suffix == SUFFIXES["openvino"] and backend in (None, "openvino"):
        return OpenVinoStream(path, device)
    return stream_of(open_backend(path, device, backend), path)


def stream_of(backend: Any, path: str | os.PathLike[str]) -> Stream:
    """A stream of an opened checkpoint.

    Raises:
        NotAStream: its model looks at later frames.
        UserError: it was opened with ``backend="compile"``.
    """
    if not backend.spec.causal:
        raise NotAStream(
            f"{path}: {backend.spec.name} looks at later frames; use --mode window, or train it"
            " with options.causal=true"
        )
    if backend.compiled:
        raise UserError(
            "backend=compile: steps are not compiled; use backend=torch, or whole windows"
        )
    return TorchStream(backend)
