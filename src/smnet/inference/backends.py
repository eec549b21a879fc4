"""What runs a trained network: PyTorch on a checkpoint, or ONNX Runtime or OpenVINO on a file.

Nothing here imports PyTorch until a checkpoint is opened, so that a machine without it can predict.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.hub import is_address
from smnet.data.loading.views import Damage, ViewPlan
from smnet.errors import UserError, missing_extra
from smnet.inference.exported import (
    INPUT,
    OUTPUT,
    ExportedBackend,
    bounded,
)
from smnet.models.spec import ModelSpec
from smnet.system import available_cores

ENGINES = {"onnxruntime": ".onnx", "openvino": ".xml"}
"""What runs exported files, and the suffix of those that it takes."""
MAX_NETWORK = 2 * 2**30
"""Bytes of an ``.onnx`` that is read, which are no more by its format."""
BACKENDS = ("torch", "compile", *ENGINES)


class Backend(Protocol):
    """A trained network, and how it wants to see videos.

    Attributes:
        spec: the model.
        side: of the crops it takes, pixels; None if it takes any.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def side(self) -> int | None: ...

    def read(self, path: str, plan: ViewPlan, damage: Damage | None = None) -> NDArray[np.uint8]:
        """The views of a video under ``plan``: (V, T*L, 3, h, w) uint8.

        ``damage`` takes what was lost on the way; ``UserError`` if it is unreadable.
        """

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (B, K) of videos (B, V, T*L, 3, h, w): softmax of each view, averaged."""


def open_backend(
    path: str | os.PathLike[str], device: str = "auto", backend: str | None = None
) -> Backend:
    """The network in a file.

    Args:
        path: an exported ``.onnx`` or ``.xml`` file; or a checkpoint, see
            :func:`smnet.checkpoints.file.read_checkpoint`. A run's folder stands for its
            ``best.onnx`` with ``backend="onnxruntime"``, its ``best.xml`` with ``"openvino"``, else
            for its best checkpoint.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        backend: one of :data:`BACKENDS`; None is the file's own: onnxruntime, openvino or torch.

    Raises:
        UserError: no such file or device, a backend that does not run such a file, or one that is
            not installed.
    """
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"no backend is called {backend!r}; use {', '.join(BACKENDS)}")
    if not is_address(path):
        file = Path(path)
        if backend in ENGINES and (found := file / f"best{ENGINES[backend]}").is_file():
            file = found
        for engine, suffix in ENGINES.items():
            if file.suffix == suffix:
                if backend not in (None, engine):
                    raise UserError(
                        f"{file}: an exported file, which {engine} runs; backend={backend} takes"
                        f" {'a file of its own' if backend in ENGINES else 'the checkpoint'} that"
                        f" {'smnet export makes' if backend in ENGINES else 'it was made from'}"
                    )
                return _open_exported(file, engine, device)
        refuse_program(file)
    if backend in ENGINES:
        raise UserError(
            f"{path}: backend={backend} takes an exported {ENGINES[backend]} file; smnet export"
            " makes it"
        )
    try:
        from smnet.inference.torch_backend import TorchBackend
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(
            f"{path}: a checkpoint needs PyTorch, which is not installed here; install torch, or"
            " predict with the file that smnet export makes of it"
        ) from None
    return TorchBackend.load(path, device, compiled=backend == "compile")


def refuse_program(path: str | os.PathLike[str]) -> None:
    """``UserError`` for a program of PyTorch, which says nothing of how clips are read for it."""
    if Path(path).suffix == ".pt2":
        raise UserError(
            f"{path}: a torch.export program; load it with torch.export.load, or give the"
            " checkpoint that it was made from"
        )


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an exported file, by its suffix."""
    return not is_address(path) and Path(path).suffix in ENGINES.values()


def check_crops(backend: Backend, plan: ViewPlan) -> None:
    """Refuse a plan whose crops are not those that an exported file takes.

    Raises:
        UserError: they are of another size.
    """
    if backend.side not in (None, plan.side):
        raise UserError(
            f"views {plan.clips}x{plan.crops} have crops of {plan.side} pixels, and the exported"
            f" file takes {backend.side}; use {plan.clips}x1, or the checkpoint"
        )


def _open_exported(file: Path, engine: str, device: str) -> Backend:
    if engine == "openvino":
        from smnet.inference.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(file, device)
    return OnnxBackend(file, device)


class OnnxBackend(ExportedBackend):
    """An exported file under ONNX Runtime."""

    def __init__(
        self, path: str | os.PathLike[str], device: str = "auto", threads: int | None = None
    ) -> None:
        """Open an exported file.

        Args:
            path: what ``smnet export`` wrote.
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
            threads: of one run; None is all cores this process may use.

        Raises:
            UserError: not such a file, or no such device.
        """
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra("onnxruntime", "runtime") from None
        # As bytes: by its path, older versions would follow it to weights in any other file.
        network = bounded(Path(path), MAX_NETWORK).read_bytes()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; they are raised as well
        options.intra_op_num_threads = threads or available_cores()
        # Idle threads that spin take the cores from those that decode the next videos.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self._session = onnxruntime.InferenceSession(network, options, providers=providers)
        except Exception as error:  # the library's own exceptions have no common base
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{path}: onnxruntime {onnxruntime.__version__} cannot run it ({reason})"
            ) from None
        if device.startswith("cuda") and len(self._session.get_providers()) < 2:
            raise UserError(f"device={device}: onnxruntime cannot use it; use device=cpu")
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._take_metadata(path, metadata)
        self._check_interface(path)

    def run(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: clips})[0]
        return scores

    def _check_interface(self, path: str | os.PathLike[str]) -> None:
        spec = self.spec
        frames = [spec.frames_per_clip, 3, spec.input_size, spec.input_size]
        taken = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
        given = [(o.name, o.type, o.shape[1:]) for o in self._session.get_outputs()]
        if taken != [(INPUT, "tensor(uint8)", frames)] or given != [
            (OUTPUT, "tensor(float)", [spec.num_classes])
        ]:
            raise UserError(f"{path}: its inputs and outputs are not those its metadata describe")


def _providers(device: str, available: list[str]) -> list[Any]:
    """The execution providers for a device, best first."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(f"no device is called {device!r}; use auto, cpu, cuda or cuda:1")
    cuda = "CUDAExecutionProvider"
    if kind == "cuda" and cuda not in available:
        raise UserError(
            f"device={device}: this onnxruntime has no CUDA; use device=cpu, or install"
            " onnxruntime-gpu"
        )
    if kind == "cpu" or cuda not in available:
        return ["CPUExecutionProvider"]
    return [(cuda, {"device_id": int(number or 0)}), "CPUExecutionProvider"]
