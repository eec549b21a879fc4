"""Export one step of a causal model: a frame and the state in, logits and the next state out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smnet.export.parity import Scorer
from smnet.export.writers import Deployed, Engine, refused, write_onnx
from smnet.inference.streams import (
    FRAME,
    LOGITS,
    NEXT,
    OnnxStream,
    OpenVinoStream,
    feed,
    segments_of,
)
from smnet.models import VideoModel
from smnet.models.fast import Purpose

STREAMS = {".onnx": OnnxStream, ".xml": OpenVinoStream}


class DeployedStep(Deployed):
    """A step of a model with its normalisation.

    Frame (1, 3, H, W) uint8, or the L frames of a segment (L, 3, H, W), and the tensors of the
    state -> logits (1, K) float32 and the tensors of the next state, in the same order.
    """

    def __init__(self, model: VideoModel, half: bool = False, purpose: Purpose = "export") -> None:
        super().__init__(model, half, purpose)
        self.names = tuple(self.model.initial_state())

    def forward(self, frame: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        kind = self.scale.dtype
        state = {name: x.to(kind) for name, x in zip(self.names, values, strict=True)}
        image = frame.to(kind) * self.scale + self.shift
        logits, after = self.model.step(image if len(frame) == 1 else image[None], state)
        # A state that is another one of the step before is copied: engines keep each by its name.
        return logits.float(), *(after[name].float().clone() for name in self.names)


def trace_step(
    model: VideoModel, half: bool = False, purpose: Purpose = "export"
) -> torch.export.ExportedProgram:
    """Trace :class:`DeployedStep` for one stream.

    Raises:
        UserError: PyTorch cannot trace this model.
    """
    step = DeployedStep(model, half, purpose).eval()
    side = model.spec.input_size
    state = [x.float() for x in step.model.initial_state().values()]
    frame = torch.zeros(model.spec.frames_per_segment, 3, side, side, dtype=torch.uint8)
    try:
        return torch.export.export(step, (frame, *state), strict=False)
    except RuntimeError as error:
        raise refused(model.spec.name, error) from error


def write_step(
    engine: Engine,
    model: VideoModel,
    path: Path,
    metadata: dict[str, str],
    half: bool = False,
    opset: int | None = None,
) -> None:
    """Write a step for an engine.

    Args:
        engine: ONNX Runtime or OpenVINO.
        model: a causal model.
        path: the file.
        metadata: stored in the file, with the shapes of the state.
        half: weights and arithmetic in float16; frames, logits and state stay as they are.
        opset: version of the ONNX operators; None is the exporter's default.
    """
    if engine.suffix == ".onnx":
        write_step_onnx(model, path, metadata, half, opset)
        return
    onnx = path.with_name("fp32.onnx")
    write_step_onnx(model, onnx, metadata, opset=opset, purpose=engine.purpose)
    engine.finish(onnx, path, step_metadata(model, metadata), half)


def write_step_onnx(
    model: VideoModel,
    path: Path,
    metadata: dict[str, str],
    half: bool = False,
    opset: int | None = None,
    purpose: Purpose = "export",
) -> None:
    """Write a step as an ONNX file for a purpose, see :func:`write_step`."""
    names = list(model.initial_state())
    write_onnx(
        trace_step(model, half, purpose),
        path,
        step_metadata(model, metadata),
        opset,
        purpose,
        inputs=[FRAME, *names],
        outputs=[LOGITS, *(name + NEXT for name in names)],
    )


def step_metadata(model: VideoModel, metadata: dict[str, str]) -> dict[str, str]:
    """The metadata of an exported step: those of the clips' network, and the state."""
    shapes = {name: list(x.shape) for name, x in model.initial_state().items()}
    return {
        **metadata,
        "input": f"frame uint8 RGB ({model.spec.frames_per_segment}, 3, height, width), and the"
        " state before it",
        "output": "logits (1, classes), and the state after the frame; scores are the softmax of"
        " the mean over the last segments frames",
        "state": json.dumps(shapes),
    }


def run_step(file: Path, threads: int) -> Scorer:
    """A function that scores clips with an exported step, each as a new stream."""
    return STREAMS[file.suffix](file, "cpu", threads).run


def step_feeds(file: Path, clips: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    """Frames and states as an exported fp32 step sees them on clips (N, T*L, 3, h, w)."""
    stream = OnnxStream(file, "cpu")
    for clip in clips:
        stream.restart()
        for frame in segments_of(clip, stream.spec):
            yield feed(frame, stream.state)
            stream.step(frame)
