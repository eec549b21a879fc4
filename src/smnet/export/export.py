"""Export a checkpoint to a file that runs without this program: ONNX, OpenVINO or torch.export.

Input are decoded and cropped frames, uint8; output are softmax scores. Normalisation is part of
the graph, BN is folded into the convolutions, and the batch may have any size. Class names,
sampling and sizes are in the metadata of the file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smnet.checkpoints.file import open_model
from smnet.checkpoints.header import checkpoint_file, is_path
from smnet.console import json_text
from smnet.data.annotations.source import ClipSource, Source, as_source
from smnet.errors import UserError, missing_extra
from smnet.export.parity import (
    MAX_DROP,
    MOST_CLIPS,
    Parity,
    Scorer,
    Trial,
    compare,
    drop_of,
    score,
    trial_clips,
)
from smnet.export.stream import run_step, step_feeds, step_metadata, write_step, write_step_onnx
from smnet.export.writers import (
    ENGINES,
    OPSETS,
    Engine,
    check_precision,
    quiet_exporter,
    run_onnx,
)
from smnet.files import atomic_path, check_outputs, temporary_folder, write_text
from smnet.inference.classifier import features_metadata
from smnet.inference.exported import onnx_metadata
from smnet.inference.torch_backend import TorchBackend
from smnet.models import ModelSpec, VideoModel
from smnet.system import describe_machine

if TYPE_CHECKING:
    from smnet.export.quantise import Quantised

CALIBRATION_CLIPS = 64
TOLERANCE = 1e-3
"""Largest difference of an fp32 score that rounding can explain."""


@dataclass(frozen=True)
class Exported:
    """The exported file, its JSON report, the bytes of all files that are needed to run it, its
    comparison with the checkpoint, and what became int8 (None for other precisions)."""

    path: Path
    report: Path
    bytes: int
    parity: Parity
    quantised: Quantised | None


def export(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    calibration: Source | None = None,
    opset: int | None = None,
    stream: bool = False,
    features: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Export a checkpoint, compare the file with it, and write the file and a report.

    Args:
        checkpoint: see ``smnet.checkpoints.file.read_checkpoint``.
        out: the file. None writes beside the checkpoint, with the suffix ``.onnx``, ``.xml`` (and
            ``.bin``) or ``.pt2``, preceded by ``-fp16`` or ``-int8``.
        to: ``"onnx"``, ``"openvino"`` or ``"torch"`` (for ``torch.export.load``).
        precision: ``"fp32"``; ``"fp16"``, half the size, and faster only if the processor computes
            in 16 bits; or ``"int8"`` (not torch), by static calibration.
        calibration: a data set in any form that training takes. An open split is that of the
            checkpoint's training. int8 takes its ranges from clips of the train split; scores are
            compared on the val split. None compares on random clips.
        opset: version of the ONNX operators; None is PyTorch's default.
        stream: export one step of a causal model, with its state as inputs and outputs. The scores
            of clips that are stepped frame by frame are compared.
        features: add the feature maps as a second output, for ``smnet explain`` and ``embed``.
        overwrite: replace existing files that smnet did not write.
        say: receives lines of progress.

    Raises:
        UserError: conflicting settings, a missing extra, unreadable data, scores that differ from
            the checkpoint's, or an fp16 or int8 file that loses more than
            ``smnet.export.parity.MAX_DROP`` points of top-1. Nothing is written then.
    """
    engine = _check(to, precision, calibration, opset, stream, features)
    if out is None and not is_path(checkpoint):
        raise UserError(f"{checkpoint}: is not a file here; give the file to write with --out")
    source = checkpoint_file(checkpoint)
    ending = f"{'-stream' * stream}{'' if precision == 'fp32' else f'-{precision}'}{engine.suffix}"
    target = Path(out) if out is not None else source.with_name(source.stem + ending)
    if target.suffix != engine.suffix:
        raise UserError(f"{target}: --to {to} writes a file whose name ends in {engine.suffix}")
    report = target.with_name(target.name + ".json")
    outputs = {"--out": target, "the report": report}
    if to == "openvino" and not target.exists():  # the weights of our own .xml are ours too
        outputs["the weights"] = target.with_suffix(".bin")
    data = None if calibration is None else as_source(calibration)
    read = () if data is None else (data.data, data.root, data.labels)
    check_outputs(outputs, (source, *read), overwrite)
    model, recipe = open_model(checkpoint)
    spec, threads = model.spec, torch.get_num_threads()
    if stream and not spec.causal:
        raise UserError(
            f"{source}: --stream needs a causal model, and {spec.name} looks at later frames; train"
            " one with options.causal=true"
        )
    run = run_step if stream else engine.run
    metadata = onnx_metadata(spec, recipe, precision=precision)
    if features:
        metadata |= _features(source, model)
    clips = data and data.with_split(recipe)
    quantised = None
    with (
        temporary_folder() as folder,
        trial_clips(spec, clips, split="val", most=MOST_CLIPS) as trial,
        quiet_exporter(),
    ):
        say(f"exporting {spec.name}")
        before = _scorer(model)
        expected = score(before, trial)
        made = Path(folder, f"made{engine.suffix}")
        if precision == "int8":
            if stream:
                metadata = step_metadata(model, metadata)
                whole = made.with_name("fp32.onnx")
                write_step_onnx(model, whole, metadata, opset=opset, purpose=engine.purpose)
            else:
                whole = engine.write_fp32_onnx(model, made, metadata, opset)

            def top1_lost(file: Path) -> float:
                engine.finish(file, made, metadata)
                return drop_of(expected, run(made, threads), trial)

            quantised = _quantise(whole, engine, spec, clips, trial, top1_lost, say, stream)
        elif stream:
            write_step(engine, model, made, metadata, precision == "fp16", opset)
        else:
            engine.write(model, made, metadata, precision == "fp16", opset)
        check_precision(made, precision)
        parity = compare(before, run(made, threads), trial, threads, expected)
        _accept(source, precision, parity)
        size = _place(made, target)
    facts: dict[str, Any] = {
        "file": target.name,
        "bytes": size,
        "checkpoint": str(checkpoint),
        "model": spec.name,
        "to": to,
        "precision": precision,
        "parity": parity.to_dict(),
        "int8": quantised and asdict(quantised),
        "machine": describe_machine() | {name: version(name) for name in engine.packages},
    }
    write_text(report, json_text(facts, indent=2) + "\n")
    return Exported(target, report, size, parity, quantised)


def _quantise(
    whole: Path,
    engine: Engine,
    spec: ModelSpec,
    clips: ClipSource | None,
    trial: Trial,
    top1_lost: Callable[[Path], float],
    say: Callable[[str], None],
    stream: bool,
) -> Quantised:
    """Quantise an ONNX file with ranges from the train split; the last trial is the result."""
    from smnet.export.quantise import quantise, whole_clips

    with trial_clips(spec, clips, split="train", most=CALIBRATION_CLIPS) as ranges:
        say(f"calibrating on {ranges.source}, comparing on {trial.source}")
        one = 100 / len(trial.clips)
        if one > MAX_DROP:
            say(f"with {len(trial.clips)} clips, the loss is known in steps of {one:.1f} points")
        if trial.labels is None:
            say("the labels are not those of the model: each disagreement counts as a loss")
        int8 = whole.with_name("int8.onnx")
        feeds, run = (step_feeds, run_step) if stream else (whole_clips, run_onnx)
        return quantise(whole, int8, ranges.clips, top1_lost, say, engine.purpose, feeds, run)


def _accept(source: Path, precision: str, parity: Parity) -> None:
    """Refuse scores that differ from the checkpoint's."""
    if precision == "fp32" and parity.max_abs > TOLERANCE:
        raise UserError(
            f"{source}: the exported scores differ from the checkpoint's by up to"
            f" {parity.max_abs:.1e}, so nothing was written"
        )
    if precision == "fp16" and parity.drop > MAX_DROP:
        raise UserError(
            f"{source}: fp16 costs {parity.drop:.2f} points of top-1 (at most {MAX_DROP} are"
            " allowed), so nothing was written; use --precision fp32, or name your own clips with"
            " --calibration"
        )


def _place(made: Path, target: Path) -> int:
    """Move the finished files to their place, all or none. Returns their size in bytes."""
    files = [made, *([made.with_suffix(".bin")] if made.suffix == ".xml" else [])]
    with ExitStack() as written:
        for file in files:
            temporary = written.enter_context(atomic_path(target.with_suffix(file.suffix)))
            shutil.copyfile(file, temporary)
    return sum(file.stat().st_size for file in files)


def _features(source: Path, model: VideoModel) -> dict[str, str]:
    """The metadata of a file with features."""
    backend, spec = TorchBackend(model, "cpu"), model.spec
    if backend.classifier is None:
        raise UserError(f"{source}: --features needs a head with one linear layer")
    views = np.zeros((1, 1, spec.frames_per_clip, 3, spec.input_size, spec.input_size), np.uint8)
    shape = backend.features(views, pool=lambda maps: maps).shape[2:]
    return features_metadata(shape, backend.classifier)


def _scorer(model: VideoModel) -> Scorer:
    """A copy of the model as ``smnet predict`` and ``smnet evaluate`` run it."""
    backend = TorchBackend(model, "cpu")
    return lambda clips: backend.score(clips[:, None])


def _check(
    to: str,
    precision: str,
    calibration: Source | None,
    opset: int | None,
    stream: bool,
    features: bool,
) -> Engine:
    """The engine of ``to``, after a check of the settings and of the installed packages."""
    if to not in ENGINES:
        raise UserError(f"--to {to}: use {', '.join(ENGINES)} or web")
    engine = ENGINES[to]
    if precision not in engine.precisions:
        raise UserError(f"--precision {precision}: --to {to} has {', '.join(engine.precisions)}")
    if stream and to == "torch":
        raise UserError("--stream: use --to onnx or --to openvino; PyTorch has model.step")
    if features and (stream or to == "torch" or precision == "int8"):
        raise UserError(
            "--features: use --to onnx or --to openvino, fp32 or fp16, without --stream"
        )
    if opset is not None:
        if to == "torch":
            raise UserError("--opset is a version of ONNX operators; --to torch has none")
        if opset not in OPSETS:
            raise UserError(f"--opset {opset}: use {OPSETS[0]} to {OPSETS[-1]}")
    if precision == "int8" and calibration is None:
        raise UserError(
            "--precision int8 needs clips to calibrate on: give --calibration DATA, the data set"
            " that the model was trained on, or clips of where it will be used"
        )
    for package in engine.packages:
        if find_spec(package) is None:
            raise missing_extra(package, "openvino" if package == "openvino" else "export")
    return engine
