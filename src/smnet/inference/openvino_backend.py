"""An exported ``.xml`` file, with its weights in the ``.bin`` beside it, under OpenVINO.

Does not import PyTorch.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError
from smnet.inference.exported import (
    DISTANCES,
    FEATURES,
    INPUT,
    OUTPUT,
    ExportedBackend,
    bounded,
)
from smnet.system import engine_threads

SECTION = "smnet"
"""Section of the file's rt_info that holds the metadata."""
MAX_DESCRIPTION = 64 * 2**20
"""Largest ``.xml`` that is read, bytes; ours have about 2 MB."""
MAX_WEIGHTS = 4 * 2**30


def import_openvino() -> Any:
    """Import the library without its telemetry, which would otherwise run at every import."""
    telemetry = "openvino_telemetry"
    if telemetry not in sys.modules:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # an import error to the library
    try:
        import openvino
    except ImportError:
        # The extra would bring PyTorch along, which exported files do without.
        raise UserError(
            "this needs openvino, which is not installed; install it with:"
            " pip install 'openvino>=2025.0'"
        ) from None
    return openvino


class OpenVinoBackend(ExportedBackend):
    """An exported file under OpenVINO, on the CPU.

    fp32 files are computed in fp32. Left to itself, the engine would round to bfloat16 on
    processors that support it. fp16 and int8 files leave that choice to the engine. Clips run one
    by one: the engine fuses more where the batch has a fixed size, and the frames of a clip are
    a batch already.
    """

    def _open(self) -> dict[str, str]:
        if self.device not in ("auto", "cpu"):
            raise UserError(f"device={self.device}: OpenVINO files run on device=cpu only")
        openvino = import_openvino()
        description = bounded(Path(self.path), MAX_DESCRIPTION)
        if not description.read_bytes()[:256].lstrip().startswith((b"<?xml", b"<net")):
            raise UserError(f"{self.path}: not an OpenVINO model")
        weights = bounded(description.with_suffix(".bin"), MAX_WEIGHTS)
        core = openvino.Core()
        try:
            self._model = core.read_model(description, weights)
            metadata = _metadata(self._model)
            settings = {
                "INFERENCE_NUM_THREADS": self.threads or engine_threads(),
                "PERFORMANCE_HINT": "LATENCY",
            }
            if metadata.get("precision") not in ("fp16", "int8"):
                settings["INFERENCE_PRECISION_HINT"] = "f32"
            self._turn = threading.Lock()  # a request serves one thread at a time
            one = self._model.clone()
            for port in one.inputs:
                shape = port.partial_shape
                if shape.rank.is_static and len(shape) and shape[0].is_dynamic:
                    shape[0] = 1
                    one.reshape({port: shape})
            compiled = core.compile_model(one, "CPU", settings)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise UserError(f"{self.path}: OpenVINO cannot run it ({reason})") from None
        return metadata

    def _interface(self) -> tuple[list[Any], list[Any]]:
        types = import_openvino().Type
        ports = [
            (port.any_name, port.element_type, str(port.partial_shape))
            for port in (*self._model.inputs, *self._model.outputs)
        ]
        expected = [(INPUT, types.u8, self.shapes[0])]
        expected += [(name, types.f32, shape) for name, shape in self.outputs.items()]
        # The library writes an open first dimension as "?".
        return ports, [(n, t, f"[{','.join(['?', *map(str, s)])}]") for n, t, s in expected]

    def run(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._outputs(clips, OUTPUT)[0]

    def run_judge(
        self, clips: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, distances = self._outputs(clips, OUTPUT, DISTANCES)
        return scores, distances

    def run_features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._outputs(clips, FEATURES)[0]

    def _outputs(self, clips: NDArray[np.uint8], *names: str) -> list[NDArray[np.float32]]:
        rows = []
        with self._turn:
            for clip in clips:
                made = self._request.infer({INPUT: clip[None]})
                rows.append([made[name].copy() for name in names])
        return [np.concatenate(of) for of in zip(*rows, strict=True)]


def _metadata(model: Any) -> dict[str, str]:
    if not model.has_rt_info([SECTION]):
        return {}
    section = model.get_rt_info([SECTION]).astype(dict)
    return {str(key): str(getattr(value, "value", value)) for key, value in section.items()}
