"""A trained network as one file that runs without the program that trained it: ONNX, or a
torch.export program.

What goes in are frames as they were decoded and cropped, uint8; what comes out are softmax scores.
Normalisation is inside, BN is folded into the convolutions, the batch may be of any size. Class
names, sampling and sizes are in the file's metadata.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smnet import __version__
from smnet.backends import INPUT, OUTPUT, SCOPES, OnnxBackend, onnx_metadata
from smnet.checkpoint import checkpoint_file, load
from smnet.errors import UserError, missing_extra
from smnet.evaluate import score_views
from smnet.files import atomic_path, write_text
from smnet.machine import describe_machine
from smnet.models import VideoModel, fold_norms, to_channels_last
from smnet.parity import MOST_CLIPS, Parity, Scorer, compare, drop_of, score, trial_clips

if TYPE_CHECKING:
    from smnet.quantise import Quantised

SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
PRECISIONS = ("fp32", "int8")
CALIBRATION_CLIPS = 64
TOLERANCE = 1e-3
"""Largest difference of a score that rounding can explain in fp32."""


@dataclass(frozen=True)
class Exported:
    """What was written: the file, the report beside it, and what that says."""

    path: Path
    report: Path
    parity: Parity
    quantised: Quantised | None


def export(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    calibration: str | None = None,
    opset: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Export a checkpoint, compare the file with it, and write both the file and the comparison.

    Args:
        checkpoint: see :func:`smnet.checkpoint.read_checkpoint`.
        out: the file; None is beside the checkpoint, ``.onnx``, ``-int8.onnx`` or ``.pt2``.
        to: ``"onnx"`` or ``"torch"`` (a program that ``torch.export.load`` reads).
        precision: ``"fp32"``; or ``"int8"`` (ONNX only), by static calibration.
        calibration: a data set, in any form that training takes. int8 takes the ranges from clips
            of its train split; scores are compared on its val split. None compares fp32 on random
            clips.
        opset: version of the ONNX operators; None is PyTorch's choice.
        say: takes a line for people.

    Raises:
        UserError: settings that do not go together, an extra that is not installed, data that
            cannot be read, scores that are not those of the checkpoint, or int8 at more than
            :data:`smnet.quantise.MAX_DROP` points of top-1. Nothing is written then.
    """
    _check(to, precision, calibration, opset)
    source = checkpoint_file(checkpoint)
    ending = f"{'-int8' if precision == 'int8' else ''}{SUFFIX[to]}"
    target = Path(out) if out is not None else source.with_name(source.stem + ending)
    if target.suffix != SUFFIX[to]:
        raise UserError(f"{target}: --to {to} writes a file whose name ends in {SUFFIX[to]}")
    model = load(checkpoint)
    spec, threads = model.spec, torch.get_num_threads()
    quantised = None
    with (
        TemporaryDirectory(prefix="smnet-", ignore_cleanup_errors=True) as folder,
        trial_clips(spec, calibration, "val", MOST_CLIPS) as trial,
        _quiet(),
    ):
        say(f"exporting {spec.name}")
        program = trace(model)
        before = _scorer(model)
        expected = score(before, trial)
        made = Path(folder, f"fp32{SUFFIX[to]}")
        if to == "torch":
            _write_program(program, made, onnx_metadata(spec, precision=precision))
            after = _run_program(made)
        else:
            _write_onnx(program, made, onnx_metadata(spec, precision=precision), opset)
            after = run_onnx(made, threads)
        if precision == "int8":
            from smnet.quantise import MAX_DROP, quantise

            whole, made = made, Path(folder, "int8.onnx")
            with trial_clips(spec, calibration, "train", CALIBRATION_CLIPS) as ranges:
                say(f"calibrating on {ranges.source}, comparing on {trial.source}")
                one = 100 / len(trial.clips)
                if one > MAX_DROP:
                    say(f"{len(trial.clips)} clips show a drop in steps of {one:.1f} points only")
                if trial.labels is None:
                    say("their labels are not the model's: each disagreement counts as a loss")
                quantised = quantise(
                    whole,
                    made,
                    ranges.clips,
                    lambda file: drop_of(expected, run_onnx(file, threads), trial),
                    say,
                )
            after = run_onnx(made, threads)
        parity = compare(before, after, trial, threads, expected)
        if precision == "fp32" and parity.max_abs > TOLERANCE:
            raise UserError(
                f"{source}: the exported scores differ from the checkpoint's by up to"
                f" {parity.max_abs:.1e}, so nothing was written"
            )
        with atomic_path(target) as temporary:
            shutil.copyfile(made, temporary)
    report = target.with_name(target.name + ".json")
    facts: dict[str, Any] = {
        "file": target.name,
        "bytes": target.stat().st_size,
        "checkpoint": str(checkpoint),
        "model": spec.name,
        "to": to,
        "precision": precision,
        "parity": parity.to_dict(),
        "int8": quantised and asdict(quantised),
        "machine": describe_machine() | _versions(to),
    }
    write_text(report, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return Exported(target, report, parity, quantised)


class Deployed(nn.Module):
    """A model between its pre-processing and its softmax.

    Shape:
        frames (B, T*L, 3, H, W) uint8 -> scores (B, K).
    """

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = fold_norms(model)
        std = torch.tensor(model.spec.std).view(3, 1, 1)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -torch.tensor(model.spec.mean).view(3, 1, 1) / std)

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.model(frames.float() * self.scale + self.shift)
        return logits.softmax(-1)


def trace(model: VideoModel) -> torch.export.ExportedProgram:
    """The program of a model from frames to scores, for batches of any size."""
    spec = model.spec
    size = (2, spec.frames_per_clip, 3, spec.input_size, spec.input_size)
    return torch.export.export(
        Deployed(model).eval(),
        (torch.zeros(size, dtype=torch.uint8),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        strict=False,
    )


def run_onnx(file: Path, threads: int) -> Scorer:
    """The scores of an exported file on the CPU."""
    backend = OnnxBackend(file, "cpu", threads)
    return lambda clips: backend.score(clips[:, None])


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str], opset: int | None
) -> None:
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
        if opset is None:
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--opset {opset}: this model cannot be written in it ({reason})") from None
    model = made.model_proto
    model.producer_name, model.producer_version = "smnet-video", __version__
    onnx.helper.set_model_props(model, metadata)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        # Stack traces, with the paths of this machine. Which part a node is of, quantise.py reads.
        kept = [entry for entry in item.metadata_props if entry.key == SCOPES]
        del item.metadata_props[:]
        item.metadata_props.extend(kept)
    onnx.save(model, path)


def _write_program(
    program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str]
) -> None:
    text = json.dumps(metadata, ensure_ascii=False)
    torch.export.save(program, path, extra_files={"smnet.json": text})


def _run_program(path: Path) -> Scorer:
    module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = module(torch.from_numpy(clips)).numpy()
        return scores

    return run


def _scorer(model: VideoModel) -> Scorer:
    """The checkpoint as ``smnet evaluate`` runs it."""
    to_channels_last(model)

    def run(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = score_views(model, torch.from_numpy(clips[:, None])).numpy()
        return scores

    return run


def _versions(to: str) -> dict[str, str]:
    return {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime") if to == "onnx"}


def _check(to: str, precision: str, calibration: str | None, opset: int | None) -> None:
    if to not in SUFFIX:
        raise UserError(f"--to {to}: use {' or '.join(SUFFIX)}")
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: use {' or '.join(PRECISIONS)}")
    if to == "torch" and (precision != "fp32" or opset is not None):
        raise UserError("--to torch writes fp32 and has no opset; --precision and --opset are ONNX")
    if precision == "int8" and calibration is None:
        raise UserError(
            "--precision int8 needs clips to calibrate on: give --calibration DATA, the data set"
            " that the model was trained on, or clips of where it will be used"
        )
    if to == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            if find_spec(module) is None:
                raise missing_extra(module, "export")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
