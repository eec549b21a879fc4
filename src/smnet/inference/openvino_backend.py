"""An exported file under OpenVINO: the ``.xml`` with the network and the ``.bin`` with its weights.

Nothing here imports PyTorch. Importing openvino would report itself to its makers each time; it is
imported without that.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.errors import UserError
from smnet.inference.exported import (
    INPUT,
    OUTPUT,
    ExportedBackend,
    bounded,
)
from smnet.system import available_cores

SECTION = "smnet"
"""Of the file's rt_info, where the metadata are."""
MAX_DESCRIPTION = 64 * 2**20
"""Bytes of an ``.xml`` that is read; the largest of ours has about 2 MB."""
MAX_WEIGHTS = 4 * 2**30


def import_openvino() -> Any:
    """The library, without its telemetry, which would run at every import.

    Raises:
        UserError: it is not installed.
    """
    reporter = "openvino_telemetry"
    if reporter not in sys.modules:
        sys.modules[reporter] = None  # type: ignore[assignment]  # then it does without
    try:
        import openvino
    except ImportError:
        # The extra would bring PyTorch along, which such files do without.
        raise UserError(
            "this needs openvino, which is not installed; install it with:"
            " pip install 'openvino>=2025.0'"
        ) from None
    return openvino


class OpenVinoBackend(ExportedBackend):
    """An exported file under OpenVINO, on the CPU.

    fp32 files are computed in fp32: left to itself, the engine would round to bfloat16 where the
    processor has it. fp16 files, and of int8 files what is not 8 bits, leave that choice to it.
    """

    def __init__(
        self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None
    ) -> None:
        """Open an exported file.

        Args:
            path: the ``.xml`` that ``smnet export`` wrote; its ``.bin`` lies beside it.
            device: ``"auto"`` or ``"cpu"``.
            threads: of one run; None is all cores this process may use.

        Raises:
            UserError: not such a file, or no such device.
        """
        if device not in ("auto", "cpu"):
            raise UserError(f"device={device}: OpenVINO files run on device=cpu here")
        openvino = import_openvino()
        description = bounded(Path(path), MAX_DESCRIPTION)
        if not description.read_bytes()[:256].lstrip().startswith((b"<?xml", b"<net")):
            raise UserError(f"{path}: not an OpenVINO description of a network")
        weights = bounded(description.with_suffix(".bin"), MAX_WEIGHTS)
        core = openvino.Core()
        try:
            model = core.read_model(description, weights)
            metadata = _metadata(model)
            self._take_metadata(path, metadata)
            self._check_interface(path, model, openvino.Type)
            settings = {
                "INFERENCE_NUM_THREADS": threads or available_cores(),
                "PERFORMANCE_HINT": "LATENCY",
            }
            if metadata.get("precision") not in ("fp16", "int8"):
                settings["INFERENCE_PRECISION_HINT"] = "f32"
            self._turn = threading.Lock()  # a request serves one thread at a time
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise UserError(f"{path}: OpenVINO cannot run it ({reason})") from None

    def run(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._turn:
            scores: NDArray[np.float32] = self._request.infer({INPUT: clips})[OUTPUT].copy()
        return scores

    def _check_interface(self, path: str | os.PathLike[str], model: Any, types: Any) -> None:
        spec = self.spec
        frames = [spec.frames_per_clip, 3, spec.input_size, spec.input_size]
        ports = [
            (port.any_name, port.element_type, str(port.partial_shape))
            for port in (*model.inputs, *model.outputs)
        ]
        if ports != [
            (INPUT, types.u8, _any_number_of(frames)),
            (OUTPUT, types.f32, _any_number_of([spec.num_classes])),
        ]:
            raise UserError(f"{path}: its inputs and outputs are not those its metadata describe")


def _any_number_of(shape: list[int]) -> str:
    """As the library writes a shape whose first dimension is open."""
    return f"[?,{','.join(map(str, shape))}]"


def _metadata(model: Any) -> dict[str, str]:
    if not model.has_rt_info([SECTION]):
        return {}
    found = model.get_rt_info([SECTION]).astype(dict)
    return {str(key): str(getattr(value, "value", value)) for key, value in found.items()}
