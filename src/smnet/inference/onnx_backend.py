"""An exported ``.onnx`` file under ONNX Runtime. Does not import PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError, missing_extra
from smnet.inference.exported import (
    DISTANCES,
    FEATURES,
    INPUT,
    OUTPUT,
    ExportedBackend,
    bounded,
)
from smnet.system import engine_threads

MAX_NETWORK = 2 * 2**30
"""Largest ``.onnx`` file that is read, bytes: the limit of the format itself."""


class OnnxBackend(ExportedBackend):
    """An exported file under ONNX Runtime."""

    def _open(self) -> dict[str, str]:
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra("onnxruntime", "runtime") from None
        # As bytes: given a path, older versions follow it to weights in any other file.
        network = bounded(Path(self.path), MAX_NETWORK).read_bytes()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; they are raised as well
        options.intra_op_num_threads = self.threads or engine_threads()
        # Spinning idle threads would take the cores from the threads that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _providers(self.device, onnxruntime.get_available_providers())
        try:
            self._session = onnxruntime.InferenceSession(network, options, providers=providers)
        except Exception as error:  # the library's own exceptions have no common base
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.path}: onnxruntime {onnxruntime.__version__} cannot run it ({reason})"
            ) from None
        if self.device.startswith("cuda") and len(self._session.get_providers()) < 2:
            raise UserError(f"device={self.device}: onnxruntime cannot use it; use device=cpu")
        return self._session.get_modelmeta().custom_metadata_map

    def _interface(self) -> tuple[list[Any], list[Any]]:
        ports = (self._session.get_inputs(), self._session.get_outputs())
        inputs, outputs = ([(p.name, p.type, p.shape[1:]) for p in side] for side in ports)
        expected = [(INPUT, "tensor(uint8)", self.shapes[0])]
        expected += [(name, "tensor(float)", shape) for name, shape in self.outputs.items()]
        return [*inputs, *outputs], expected

    def run(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._session.run([OUTPUT], {INPUT: clips})[0]

    def run_judge(
        self, clips: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, distances = self._session.run([OUTPUT, DISTANCES], {INPUT: clips})
        return scores, distances

    def run_features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._session.run([FEATURES], {INPUT: clips})[0]


def _providers(device: str, available: list[str]) -> list[Any]:
    """The execution providers for a device, best first."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(f"device={device}: unknown; use auto, cpu, cuda or cuda:1")
    cuda = "CUDAExecutionProvider"
    if kind == "cuda" and cuda not in available:
        raise UserError(
            f"device={device}: this onnxruntime has no CUDA; use device=cpu, or install"
            " onnxruntime-gpu"
        )
    if kind == "cpu" or cuda not in available:
        return ["CPUExecutionProvider"]
    return [(cuda, {"device_id": int(number or 0)}), "CPUExecutionProvider"]
