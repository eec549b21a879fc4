"""The engines of exported files: how each file is written, read back, and run."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smnet import __version__
from smnet.errors import UserError
from smnet.export.parity import Scorer
from smnet.inference.exported import DISTANCES, FEATURES, INPUT, OUTPUT, SCOPES
from smnet.inference.onnx_backend import OnnxBackend
from smnet.inference.openvino_backend import SECTION, OpenVinoBackend, import_openvino
from smnet.models import VideoModel, accelerate
from smnet.models.base import probabilities
from smnet.models.fast import Purpose

OPSETS = range(18, 26)
"""Versions of the ONNX operators that PyTorch's exporter writes."""


class Deployed(nn.Module):
    """A copy of a model with its normalisation and scores, accelerated for a purpose.

    Frames (B, T*L, 3, H, W) uint8 -> scores (B, K) float32; of a model with discriminants also the
    distances (B,) float32; and with ``features`` the feature maps (B, T', C, h, w) float32. With
    ``half``, weights and arithmetic are in float16, except the softmax.
    """

    def __init__(
        self,
        model: VideoModel,
        half: bool = False,
        purpose: Purpose = "export",
        features: bool = False,
    ) -> None:
        super().__init__()
        self.features = features
        self.model = accelerate(model, purpose)
        std = torch.tensor(model.spec.std).view(3, 1, 1)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -torch.tensor(model.spec.mean).view(3, 1, 1) / std)
        if half:
            self.half()

    def forward(self, frames: Tensor) -> Tensor | tuple[Tensor, ...]:
        clips = frames.to(self.scale.dtype) * self.scale + self.shift
        features = self.model.forward_features(clips)
        logits = self.model.forward_head(features)
        scores = probabilities(logits.float(), self.model.spec)
        distances = self.model.distances(features, logits)
        more = [] if distances is None else [distances.float()]
        if self.features:
            more.append(features.float())
        return (scores, *more) if more else scores


def trace(
    model: VideoModel, half: bool = False, purpose: Purpose = "export", features: bool = False
) -> torch.export.ExportedProgram:
    """Trace :class:`Deployed` for batches of any size.

    Raises:
        UserError: PyTorch cannot trace this model.
    """
    spec = model.spec
    size = (2, spec.frames_per_clip, 3, spec.input_size, spec.input_size)
    try:
        return torch.export.export(
            Deployed(model, half, purpose, features).eval(),
            (torch.zeros(size, dtype=torch.uint8),),
            dynamic_shapes=({0: torch.export.Dim("batch", max=2**31 - 1)},),
            strict=False,
        )
    except RuntimeError as error:
        raise refused(spec.name, error) from error


def refused(name: str, error: Exception) -> UserError:
    """The error that PyTorch cannot trace a model."""
    return UserError(f"PyTorch {torch.__version__} cannot export {name} ({_in_a_line(error)})")


def outputs_of(model: VideoModel, metadata: dict[str, str]) -> tuple[bool, list[str]]:
    """Whether a file of these metadata has features, and the names of its outputs."""
    features = FEATURES in metadata
    far = [] if model.discriminants is None else [DISTANCES]
    return features, [OUTPUT, *far, *([FEATURES] if features else [])]


def write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    metadata: dict[str, str],
    opset: int | None = None,
    purpose: Purpose = "export",
    inputs: Sequence[str] = (INPUT,),
    outputs: Sequence[str] = (OUTPUT,),
) -> None:
    """Write a program as an ONNX file, with these names of its inputs and outputs.

    For engines the graph is also rewritten, see
    :func:`smnet.export.onnx_rewrites.use_engine_forms`.

    Raises:
        UserError: the program cannot be written, or not in that opset.
    """
    import onnx

    try:
        made: Any = torch.onnx.export(
            program,
            (),
            input_names=list(inputs),
            output_names=list(outputs),
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
    written = next(entry.version for entry in model.opset_import if not entry.domain)
    if opset not in (None, written):  # the exporter keeps its default if a conversion fails
        raise UserError(
            f"--opset {opset}: PyTorch {torch.__version__} wrote this model in opset {written}"
            f" instead; use --opset {written}, or leave --opset out"
        )
    model.producer_name, model.producer_version = "smnet-video", __version__
    onnx.helper.set_model_props(model, metadata)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        # Remove stack traces, which contain paths of this machine. quantise.py needs the scopes.
        kept = [entry for entry in item.metadata_props if entry.key == SCOPES]
        del item.metadata_props[:]
        item.metadata_props.extend(kept)
    if purpose in ("onnxruntime", "openvino", "volumes"):
        from smnet.export.onnx_rewrites import use_engine_forms

        use_engine_forms(model, turns=purpose == "onnxruntime")
    onnx.save(model, path)


def _in_a_line(error: Exception) -> str:
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:200]


def write_openvino(onnx: Path, path: Path, metadata: dict[str, str], half: bool = False) -> None:
    """Convert an ONNX file, fp32 or int8, to OpenVINO's .xml, with the .bin beside it.

    The metadata are stored in its rt_info. ``half`` stores the weights in float16.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(onnx)
    for key, value in metadata.items():
        model.set_rt_info(value, [SECTION, key])
    openvino.save_model(model, path, compress_to_fp16=half)


def run_onnx(file: Path, threads: int) -> Scorer:
    """A function that scores clips with an ONNX file on the CPU."""
    return OnnxBackend(file, "cpu", threads).run


def run_openvino(file: Path, threads: int) -> Scorer:
    """A function that scores clips with an OpenVINO file on the CPU."""
    return OpenVinoBackend(file, "cpu", threads).run


def run_program(file: Path, threads: int) -> Scorer:
    """A function that scores clips with a torch.export program, on PyTorch's own threads."""
    del threads
    module = torch.export.load(file).module()

    @torch.inference_mode()
    def run(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return module(torch.from_numpy(clips)).numpy()

    return run


@dataclass(frozen=True)
class Engine:
    """An engine that a model can be exported to.

    Attributes:
        suffix: of the exported file.
        precisions: values of ``--precision`` that it takes.
        packages: Python packages that exporting to it needs.
        purpose: of int8 files and of steps, see :func:`smnet.models.accelerate`.
        run: opens an exported file.
    """

    suffix: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...]
    purpose: Purpose
    run: Callable[[Path, int], Scorer]

    def write(
        self, model: VideoModel, path: Path, metadata: dict[str, str], half: bool, opset: int | None
    ) -> None:
        """Write a file with float32 or float16 weights; a torch program has the metadata in its
        extra file smnet.json."""
        if self.suffix == ".pt2":
            text = json.dumps(metadata, ensure_ascii=False)
            torch.export.save(trace(model, half), path, extra_files={"smnet.json": text})
        elif self.suffix == ".onnx":
            features, outputs = outputs_of(model, metadata)
            program = trace(model, half, "onnx", features)
            write_onnx(program, path, metadata, opset, outputs=outputs)
        else:
            source = self.write_fp32_onnx(model, path, metadata, opset, "volumes")
            self.finish(source, path, metadata, half)

    def write_fp32_onnx(
        self,
        model: VideoModel,
        path: Path,
        metadata: dict[str, str],
        opset: int | None,
        purpose: Purpose | None = None,
    ) -> Path:
        """Write the ONNX file that is quantised or converted, beside ``path``.

        ``purpose``: None is that of int8 files.
        """
        purpose = purpose or self.purpose
        source = path.with_name("fp32.onnx")
        features, outputs = outputs_of(model, metadata)
        program = trace(model, purpose=purpose, features=features)
        write_onnx(program, source, metadata, opset, purpose, outputs=outputs)
        return source

    def finish(self, onnx: Path, path: Path, metadata: dict[str, str], half: bool = False) -> None:
        """Turn an ONNX file for the engine into the exported file."""
        if self.suffix == ".onnx":
            shutil.copyfile(onnx, path)
        else:
            write_openvino(onnx, path, metadata, half)


_ONNX = ("onnx", "onnxscript", "onnxruntime")
ENGINES = {
    "onnx": Engine(".onnx", ("fp32", "fp16", "int8"), _ONNX, "onnxruntime", run_onnx),
    "openvino": Engine(
        ".xml", ("fp32", "fp16", "int8"), (*_ONNX, "openvino"), "openvino", run_openvino
    ),
    "torch": Engine(".pt2", ("fp32", "fp16"), (), "export", run_program),
}
"""The values of ``smnet export --to``."""


def check_precision(path: Path, precision: str) -> None:
    """Refuse a file to which the library gave another precision than was asked for."""
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
        half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)
        int8 = any(node.op_type == "QuantizeLinear" for node in graph.node)
    elif path.suffix == ".xml":
        text = path.read_text(encoding="utf-8")
        half, int8 = 'element_type="f16"' in text, 'type="FakeQuantize"' in text
    else:
        weights = torch.export.load(path).state_dict.values()
        half, int8 = any(w.dtype == torch.float16 for w in weights), False
    written = "int8" if int8 else "fp16" if half else "fp32"
    if written != precision:
        raise UserError(
            f"--precision {precision}: the exporter wrote {written} instead, so nothing was written"
        )


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence the warnings and the log of PyTorch's exporter; failures are read from the result."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for log, level in zip(logs, before, strict=True):
                log.setLevel(level)
