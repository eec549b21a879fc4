"""A trained network as a file that runs without the program that trained it: ONNX, OpenVINO, or a
torch.export program.

What goes in are frames as they were decoded and cropped, uint8; what comes out are softmax scores.
Normalisation is inside, BN is folded into the convolutions, the batch may be of any size. Class
names, sampling and sizes are in the file's metadata.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from smnet.checkpoints.file import open_model
from smnet.checkpoints.header import checkpoint_file
from smnet.checkpoints.hub import is_address
from smnet.data.annotations.source import Source, as_source
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
from smnet.export.writers import (
    RUN,
    quiet_exporter,
    trace,
    write_onnx,
    write_openvino,
    write_program,
)
from smnet.files import atomic_path, check_outputs, temporary_folder, write_text
from smnet.inference.exported import onnx_metadata
from smnet.inference.torch_backend import TorchBackend
from smnet.models import VideoModel
from smnet.models.engines import TemporalForm
from smnet.system import describe_machine

if TYPE_CHECKING:
    from smnet.export.quantise import Quantised

SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PRECISIONS = ("fp32", "fp16", "int8")
NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "torch": (),
}
CALIBRATION_CLIPS = 64
TOLERANCE = 1e-3
"""Largest difference of a score that rounding can explain in fp32."""


@dataclass(frozen=True)
class Exported:
    """What was written: the file, the report beside it, and what that says.

    ``bytes`` is the size of all that is needed to run it.
    """

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
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Export a checkpoint, compare the file with it, and write both the file and the comparison.

    Args:
        checkpoint: see :func:`smnet.checkpoints.file.read_checkpoint`.
        out: the file; None is beside the checkpoint, ``.onnx``, ``.xml`` (and ``.bin``) or
            ``.pt2``, with ``-fp16`` or ``-int8`` before it.
        to: ``"onnx"``, ``"openvino"`` or ``"torch"`` (a program that ``torch.export.load`` reads).
        precision: ``"fp32"``; ``"fp16"``, half the size, and faster only where the processor
            computes in 16 bits; or ``"int8"`` (not torch), by static calibration.
        calibration: a data set, in any form that training takes. Where it leaves the split open,
            it is split as for the training of the checkpoint. int8 takes the ranges from clips
            of its train split; scores are compared on its val split. None compares on random
            clips.
        opset: version of the ONNX operators; None is PyTorch's choice.
        overwrite: replace existing files that smnet did not write.
        say: takes a line for people.

    Raises:
        UserError: settings that do not go together, an extra that is not installed, data that
            cannot be read, scores that are not those of the checkpoint, or fp16 or int8 at more
            than :data:`smnet.export.parity.MAX_DROP` points of top-1. Nothing is written then.
    """
    _check(to, precision, calibration, opset)
    if out is None and is_address(checkpoint):
        raise UserError(f"{checkpoint}: is on the hub; say with --out where the export goes")
    source = checkpoint_file(checkpoint)
    ending = f"{'' if precision == 'fp32' else f'-{precision}'}{SUFFIX[to]}"
    target = Path(out) if out is not None else source.with_name(source.stem + ending)
    if target.suffix != SUFFIX[to]:
        raise UserError(f"{target}: --to {to} writes a file whose name ends in {SUFFIX[to]}")
    report = target.with_name(target.name + ".json")
    outputs = {"--out": target, "the report": report}
    if to == "openvino" and not target.exists():  # the weights of our own .xml are ours too
        outputs["the weights"] = target.with_suffix(".bin")
    data = None if calibration is None else as_source(calibration)
    read = () if data is None else (data.data, data.root, data.labels)
    check_outputs(outputs, (source, *read), overwrite)
    model, recipe = open_model(checkpoint)
    spec, threads = model.spec, torch.get_num_threads()
    metadata = onnx_metadata(spec, recipe, precision=precision)
    clips = data and data.with_split(recipe)
    trials = partial(trial_clips, spec, clips)
    quantised = None
    with (
        temporary_folder() as folder,
        trials(split="val", most=MOST_CLIPS) as trial,
        quiet_exporter(),
    ):
        say(f"exporting {spec.name}")
        before = _scorer(model)
        expected = score(before, trial)
        made, run = Path(folder, f"made{SUFFIX[to]}"), RUN[to]
        half = precision == "fp16"
        if to == "torch":
            write_program(trace(model, half), made, metadata)
        elif to == "onnx" and precision != "int8":
            write_onnx(trace(model, half), made, metadata, opset)
        else:
            form: TemporalForm = "shifts" if to == "openvino" else "films"
            whole, int8 = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
            write_onnx(trace(model, form=form), whole, metadata, opset, form)

            def finish(file: Path) -> Scorer:
                if to == "openvino":
                    write_openvino(file, made, metadata, half)
                else:
                    shutil.copyfile(file, made)
                return run(made, threads)

            if precision == "int8":
                with _ranges(trials, trial, say) as ranges:
                    from smnet.export.quantise import quantise

                    quantised = quantise(
                        whole,
                        int8,
                        ranges,
                        lambda file: drop_of(expected, finish(file), trial),
                        say,
                        "openvino" if to == "openvino" else "onnxruntime",
                    )
            else:
                finish(whole)
        after = run(made, threads)
        parity = compare(before, after, trial, threads, expected)
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
        "machine": describe_machine() | {name: version(name) for name in NEEDS[to]},
    }
    write_text(report, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return Exported(target, report, size, parity, quantised)


@contextmanager
def _ranges(
    trials: Callable[..., AbstractContextManager[Trial]], trial: Trial, say: Callable[[str], None]
) -> Iterator[NDArray[np.uint8]]:
    """The clips for int8's ranges, after a word on what they and the others can tell."""
    with trials(split="train", most=CALIBRATION_CLIPS) as ranges:
        say(f"calibrating on {ranges.source}, comparing on {trial.source}")
        one = 100 / len(trial.clips)
        if one > MAX_DROP:
            say(f"{len(trial.clips)} clips show a drop in steps of {one:.1f} points only")
        if trial.labels is None:
            say("their labels are not the model's: each disagreement counts as a loss")
        yield ranges.clips


def _accept(source: Path, precision: str, parity: Parity) -> None:
    """Refuse scores that are not the checkpoint's."""
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
    """Put what was made where it was wanted, nothing of it unless all of it is written; its size
    in bytes."""
    files = [made, *([made.with_suffix(".bin")] if made.suffix == ".xml" else [])]
    with ExitStack() as written:
        for file in files:
            temporary = written.enter_context(atomic_path(target.with_suffix(file.suffix)))
            shutil.copyfile(file, temporary)
    return sum(file.stat().st_size for file in files)


def _scorer(model: VideoModel) -> Scorer:
    """A copy of the model as ``smnet predict`` and ``smnet evaluate`` run it."""
    backend = TorchBackend(model, "cpu")
    return lambda clips: backend.score(clips[:, None])


def _check(
    to: str,
    precision: str,
    calibration: Source | None,
    opset: int | None,
) -> None:
    if to not in SUFFIX:
        raise UserError(f"--to {to}: use {', '.join(SUFFIX)}")
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: use {', '.join(PRECISIONS)}")
    if to == "torch" and precision == "int8":
        raise UserError("--to torch has no int8; use --to onnx or --to openvino")
    if to == "torch" and opset is not None:
        raise UserError("--to torch has no opset; --opset is of ONNX")
    if precision == "int8" and calibration is None:
        raise UserError(
            "--precision int8 needs clips to calibrate on: give --calibration DATA, the data set"
            " that the model was trained on, or clips of where it will be used"
        )
    for module in NEEDS[to]:
        if find_spec(module) is None:
            raise missing_extra(module, "openvino" if module == "openvino" else "export")
