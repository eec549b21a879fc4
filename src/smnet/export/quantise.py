"""int8 by static calibration (ONNX Runtime), with the layers that suffer kept in fp32.

Weights are signed, with one scale per channel. The ranges of the other tensors come from the user's
own clips. The rest follows the engine that runs the file:

- ONNX Runtime: activations unsigned and asymmetric, which it multiplies fastest; all operators
  that have an 8-bit form, so that features stay 8 bits wide between convolutions.
- OpenVINO: activations signed and symmetric; all convolutions but the first, and the operators that
  move features. With the others in 8 bits too, or with its own quantiser NNCF, the scores of
  version 2026.4 were wrong by up to 0.8; ONNX Runtime ran the same file within 0.07.
"""

from __future__ import annotations

import ast
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from smnet.console import progress_bar
from smnet.errors import UserError
from smnet.export.onnx_rewrites import put_maxima_first
from smnet.export.parity import MAX_DROP, Scorer
from smnet.files import temporary_folder
from smnet.inference.exported import INPUT, SCOPES
from smnet.system import available_cores

RANKING_CLIPS = 8
Feeds = Callable[[Path, NDArray[np.uint8]], Iterator[dict[str, Any]]]
"""The inputs of an fp32 file on calibration clips, one run of the network each."""
NEVER = ("Softmax",)
"""Operators that stay in fp32: the scores themselves would be rounded to 1/255."""
NEVER_PARTS = ("head",)
"""Parts that stay in fp32: rounded logits would make classes equal, and they cost no time."""
FOR_OPENVINO = ("Conv", "MaxPool", "GlobalAveragePool", "Concat", "Slice")
NOT_FOR_OPENVINO = ("stem", *NEVER_PARTS)
"""Operators that are quantised for OpenVINO, and parts that are not."""


@dataclass(frozen=True)
class Quantised:
    """The parts of a quantised network (the stem and the residual blocks), those of them that were
    kept in fp32, and the lost top-1 in percent points."""

    parts: tuple[str, ...]
    kept: tuple[str, ...]
    drop: float


def quantise(
    source: Path,
    target: Path,
    calibration: NDArray[np.uint8],
    drop_of: Callable[[Path], float],
    say: Callable[[str], None],
    engine: str,
    feeds: Feeds,
    run: Callable[[Path, int], Scorer],
) -> Quantised:
    """Quantise an exported network to int8, as far as the accuracy allows.

    First all parts are quantised. If that loses more than :data:`MAX_DROP`, the parts are ranked by
    how much the scores recover when a part alone stays in fp32. Then the best 1, 2, 4, ... parts
    stay in fp32, up to half of them.

    Args:
        source: the fp32 file, in :func:`smnet.export.onnx_rewrites.use_engine_forms`.
        target: the int8 file.
        calibration: clips (N, T*L, 3, h, w) uint8 for the ranges of the tensors.
        drop_of: measures the top-1 that a file loses, in percent points.
        engine: ``"onnxruntime"`` or ``"openvino"``.
        feeds: the inputs of the network on clips.
        run: opens a file and scores clips with it, see :mod:`smnet.export.writers`.

    Raises:
        UserError: the loss stays above the limit.
    """
    with temporary_folder() as folder, _quiet():
        maker = _Maker(source, Path(folder), calibration, engine, feeds)
        parts = tuple(maker.parts)
        kept: tuple[str, ...] = ()
        ranked: list[str] | None = None
        while True:
            maker.make(target, kept)
            drop = drop_of(target)
            number = f"{len(kept)} of {len(parts)} parts in fp32"
            say(f"int8, {number}: {drop:+.2f} points of top-1 lost")
            if drop <= MAX_DROP:
                return Quantised(parts, kept, drop)
            count = max(2 * len(kept), 1)
            if count > len(parts) // 2:
                raise UserError(
                    f"int8 costs {drop:.2f} points of top-1 with {number} (at most {MAX_DROP} are"
                    " allowed), so nothing was written; use --precision fp32, or calibrate on more"
                    " clips"
                )
            ranked = ranked or _rank(maker, calibration[:RANKING_CLIPS], run)
            kept = tuple(ranked[:count])


class _Maker:
    """Writes int8 files of one network; the ranges are measured once."""

    def __init__(
        self,
        source: Path,
        folder: Path,
        calibration: NDArray[np.uint8],
        engine: str,
        feeds: Feeds,
    ) -> None:
        self.source = source
        self.feeds = feeds
        self.folder = folder
        self.calibration = calibration
        self.engine = engine
        self.prepared = folder / "prepared.onnx"
        whole = onnx.load(source)
        quant_pre_process(source, self.prepared, skip_symbolic_shape=True)
        self.metadata = list(whole.metadata_props)
        before = {node.name: node for node in whole.graph.node}
        never = NOT_FOR_OPENVINO if engine == "openvino" else NEVER_PARTS
        parts = dict.fromkeys(map(part_of, whole.graph.node))  # in the order of the network
        self.parts: dict[str, list[str]] = {p: [] for p in parts if p and p not in never}
        self.outside: list[str] = []
        part = ""
        for node in onnx.load(self.prepared).graph.node:
            # New nodes of the preparation belong to the part of the node before them.
            part = part_of(before[node.name]) if node.name in before else part
            inside = part in self.parts and node.op_type not in NEVER
            (self.parts[part] if inside else self.outside).append(node.name)

    def make(self, target: Path, kept: tuple[str, ...]) -> None:
        quantize_static(
            self.prepared,
            target,
            _Reader(self.feeds(self.source, self.calibration)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            **self._settings(),
            nodes_to_exclude=[*self.outside, *(n for part in kept for n in self.parts[part])],
            calibration_cache_path=self.folder / "ranges.json",
        )
        made = onnx.load(target)
        put_maxima_first(made)
        del made.metadata_props[:]
        made.metadata_props.extend(self.metadata)
        onnx.save(made, target)

    def _settings(self) -> dict[str, Any]:
        if self.engine == "onnxruntime":
            return {"activation_type": QuantType.QUInt8}
        return {
            "activation_type": QuantType.QInt8,
            "extra_options": {"ActivationSymmetric": True},
            "op_types_to_quantize": list(FOR_OPENVINO),
        }


def whole_clips(file: Path, clips: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    """The inputs of a network that takes whole clips."""
    del file
    return ({INPUT: clip[None]} for clip in clips)


class _Reader(CalibrationDataReader):
    """Gives the library the inputs one by one."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def part_of(node: Any) -> str:
    """The part of a node: ``stem``, a block as ``layer3.2``, ``head``, or "" outside the model."""
    written = {entry.key: entry.value for entry in node.metadata_props}
    scopes = ast.literal_eval(written.get(SCOPES, "[]"))
    inside = [scope.removeprefix("model.") for scope in scopes if scope.startswith("model.")]
    if not inside:
        return ""
    words = inside[-1].split(".")
    if len(words) > 1 and words[1].isdecimal():
        return ".".join(words[:2])
    return "head" if words[0] == "fc" else "stem"


def _rank(maker: _Maker, clips: NDArray[np.uint8], run: Callable[[Path, int], Scorer]) -> list[str]:
    """The parts, by how close the scores come to fp32 if a part stays in fp32, best first."""
    threads = available_cores()
    expected = run(maker.source, threads)(clips)
    trial = maker.folder / "trial.onnx"
    distance = {}
    with progress_bar() as bar:
        task = bar.add_task("finding sensitive parts", total=len(maker.parts), note="")
        for part in maker.parts:
            maker.make(trial, (part,))
            distance[part] = _divergence(expected, run(trial, threads)(clips))
            bar.advance(task)
    return sorted(distance, key=lambda part: distance[part])


def _divergence(expected: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Mean Kullback-Leibler divergence of scores (N, K) from the expected ones."""
    p, q = (np.maximum(x.astype(np.float64), 1e-12) for x in (expected, scores))
    return float((p * np.log(p / q)).sum(1).mean())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library, which logs advice through the root logger."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)
