"""The files of an exported network: how each is written, and how it is run once to compare it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smnet import __version__
from smnet.errors import UserError
from smnet.export.parity import Scorer
from smnet.inference.exported import INPUT, OUTPUT, SCOPES
from smnet.inference.onnx_backend import OnnxBackend
from smnet.inference.openvino_backend import SECTION, OpenVinoBackend, import_openvino
from smnet.models import VideoModel, fold_norms
from smnet.models.engines import TemporalForm, set_temporal_form


class Deployed(nn.Module):
    """A model between its pre-processing and its softmax.

    Args:
        model: it is left as it is.
        half: weights and arithmetic in float16, but for the softmax.
        form: of its temporal convolutions, where an engine wants another than theirs.

    Shape:
        frames (B, T*L, 3, H, W) uint8 -> scores (B, K) float32.
    """

    def __init__(
        self, model: VideoModel, half: bool = False, form: TemporalForm | None = None
    ) -> None:
        super().__init__()
        self.model = fold_norms(model)
        if form is not None:
            set_temporal_form(self.model, form)
        std = torch.tensor(model.spec.std).view(3, 1, 1)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -torch.tensor(model.spec.mean).view(3, 1, 1) / std)
        if half:
            self.half()

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.model(frames.to(self.scale.dtype) * self.scale + self.shift)
        return logits.float().softmax(-1)


def trace(
    model: VideoModel, half: bool = False, form: TemporalForm | None = None
) -> torch.export.ExportedProgram:
    """The program of a model from frames to scores, for batches of any size; see
    :class:`Deployed`.

    Raises:
        UserError: PyTorch cannot make one of this model.
    """
    spec = model.spec
    size = (2, spec.frames_per_clip, 3, spec.input_size, spec.input_size)
    try:
        return torch.export.export(
            Deployed(model, half, form).eval(),
            (torch.zeros(size, dtype=torch.uint8),),
            dynamic_shapes=({0: torch.export.Dim("batch", max=2**31 - 1)},),
            strict=False,
        )
    except RuntimeError as error:
        raise UserError(
            f"PyTorch {torch.__version__} cannot export {spec.name} ({_in_a_line(error)})"
        ) from error


def write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    metadata: dict[str, str],
    opset: int | None = None,
    form: TemporalForm | None = None,
) -> None:
    """Write an ONNX file; ``opset`` None is PyTorch's choice, ``form`` that of the program: with
    one go :func:`smnet.export.onnx_rewrites.use_engine_forms`.

    Raises:
        UserError: the program cannot be written in that opset.
    """
    import onnx

    try:
        made: Any = torch.onnx.export(
            program,
            (),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except (RuntimeError, ValueError) as error:
        what = (
            f"PyTorch {torch.__version__} cannot write this model as ONNX; a newer one may"
            if opset is None
            else f"--opset {opset}: this model cannot be written in it"
        )
        raise UserError(f"{what} ({_in_a_line(error)})") from error
    model = made.model_proto
    model.producer_name, model.producer_version = "smnet-video", __version__
    onnx.helper.set_model_props(model, metadata)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        # Stack traces, with the paths of this machine. Which part a node is of, quantise.py reads.
        kept = [entry for entry in item.metadata_props if entry.key == SCOPES]
        del item.metadata_props[:]
        item.metadata_props.extend(kept)
    if form is not None:
        from smnet.export.onnx_rewrites import use_engine_forms

        use_engine_forms(model, turns=form == "films")
    onnx.save(model, path)


def _in_a_line(error: Exception) -> str:
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:200]


def write_openvino(onnx: Path, path: Path, metadata: dict[str, str], half: bool = False) -> None:
    """Write an ONNX file as OpenVINO's ``path`` (.xml) and the .bin beside it.

    Args:
        onnx: fp32, or int8 as :mod:`smnet.export.quantise` makes it.
        path: the .xml.
        metadata: for its rt_info.
        half: keep the weights in float16.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(onnx)
    for key, value in metadata.items():
        model.set_rt_info(value, [SECTION, key])
    openvino.save_model(model, path, compress_to_fp16=half)


def write_program(
    program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str]
) -> None:
    """Write what ``torch.export.load`` reads, with the metadata as its extra file smnet.json."""
    text = json.dumps(metadata, ensure_ascii=False)
    torch.export.save(program, path, extra_files={"smnet.json": text})


def run_onnx(file: Path, threads: int) -> Scorer:
    """The scores of an ONNX file on the CPU."""
    return OnnxBackend(file, "cpu", threads).run


def run_openvino(file: Path, threads: int) -> Scorer:
    """The scores of an OpenVINO file on the CPU."""
    return OpenVinoBackend(file, "cpu", threads).run


def run_program(file: Path, threads: int) -> Scorer:
    """The scores of a torch.export program; ``threads`` are those of PyTorch, set already."""
    del threads
    module = torch.export.load(file).module()

    @torch.inference_mode()
    def run(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = module(torch.from_numpy(clips)).numpy()
        return scores

    return run


RUN: dict[str, Callable[[Path, int], Scorer]] = {
    "onnx": run_onnx,
    "openvino": run_openvino,
    "torch": run_program,
}


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter warns of its own deprecations, and that torchvision is not installed."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(before)
