"""What a training run is made of before its first step: clips, views, model, precision, folder."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from smnet.data.annotations.classes import mirror
from smnet.data.annotations.read import Clip, ClipSet, read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.loading.dataset import ViewPlan
from smnet.data.open import check_decoder
from smnet.data.sampling.rules import check
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.files import write_text
from smnet.models import VideoModel
from smnet.models.registry import input_of, new_model
from smnet.recipes.recipe import Recipe, dump_recipe
from smnet.system import keep_freed_memory

OF_A_RUN = "# The whole recipe of the run in this folder.\n"
"""How the ``recipe.yaml`` of a run begins."""


def read_training_clips(recipe: Recipe) -> ClipSet:
    """The data set of a recipe, refused as a whole if anything is wrong with it."""
    if recipe.data is None:
        raise UserError("no data: give --data DIR (a folder, a csv or a list), or set data=")
    source = ClipSource(
        data=recipe.data,
        format=recipe.format,
        root=recipe.root,
        labels=recipe.labels,
        first_label=recipe.first_label,
        fold=recipe.fold,
        val_fraction=recipe.val_fraction,
        split_seed=recipe.split_seed,  # not the seed of the run: all runs share one validation set
    )
    clips = read_clips(
        source,
        missing="report" if recipe.on_error == "skip" else "error",
    )
    if not clips.splits.get("train"):
        raise UserError(f"{recipe.data}: no training clips (format {clips.format})")
    for name in clips.classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{recipe.data}: the class name {name!r} is not UTF-8, and no checkpoint could hold"
                " it; rename the folder"
            ) from None
    return clips


def learned_from(clips: ClipSet) -> dict[str, Any]:
    """What tells one data set from another: how many classes and clips there are, and digests of
    the classes' names and of the clips' paths, below the set's root, and labels, in order."""
    root = str(clips.root).rstrip("/") + "/"
    sides = {"train": clips.splits.get("train", ()), "val": validation_clips(clips)}
    digest = hashlib.sha256()
    for name, side in sides.items():
        digest.update(name.encode())
        for clip in side:
            digest.update(f"{clip.path.removeprefix(root)!r} {clip.label}\n".encode())
    counts = {name: len(side) for name, side in sides.items()}
    names = hashlib.sha256(repr(clips.classes).encode()).hexdigest()
    classes = {"classes": len(clips.classes), "names": names}
    return {**classes, **counts, "digest": digest.hexdigest()}


def validation_clips(clips: ClipSet) -> list[Clip]:
    """The validation clips that have a label; those that the disk lacks count as unreadable."""
    listed = [*clips.splits.get("val", ()), *clips.missing.get("val", ())]
    return [clip for clip in listed if clip.label >= 0]


def training_plan(recipe: Recipe, clips: ClipSet) -> tuple[ViewPlan, str]:
    """The random view of training, and a line on mirroring."""
    labels, note = None, "mirror: off"
    if recipe.flip == "auto":
        found = mirror(clips.classes)
        labels = found.order
        if labels is None:
            note = f"mirror: off, {found.reason}"
        elif found.pairs:
            pairs = "; ".join(f"{a} <-> {b}" for a, b in found.pairs[:3])
            more = f" and {len(found.pairs) - 3} more" if len(found.pairs) > 3 else ""
            note = f"mirror: on, labels swap: {pairs}{more}"
        else:
            note = "mirror: on, no class name tells left from right"
    try:
        fixed = input_of(recipe.model, recipe.options)
    except ValueError as error:
        raise UserError(str(error)) from None
    frames_per_segment = fixed.get("frames_per_segment", 1)
    # A strategy that does not go with the model is said here.
    check(recipe.sampling, "train", frames_per_segment=frames_per_segment)
    check_decoder(recipe.decoder)
    plan = ViewPlan(
        sampling=recipe.sampling,
        segments=recipe.segments,
        frames_per_segment=frames_per_segment,
        size=recipe.size,
        short_side=recipe.resize_to,
        train=True,
        crop=recipe.crop,
        mirror=labels,
        decoder=recipe.decoder,
    )
    return plan, note


def seed_everything(recipe: Recipe, processes: Processes) -> None:
    """Seed torch, and set it up for speed or, if the recipe says so, for reproducible kernels."""
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.benchmark = not recipe.deterministic
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    if processes.device.type == "cpu":
        keep_freed_memory()
    else:
        torch.set_float32_matmul_precision("high")


def build(recipe: Recipe, clips: ClipSet) -> VideoModel:
    """The model of a recipe for the classes of a data set."""
    options = dict(recipe.options)
    options.setdefault("dropout", recipe.dropout)
    try:
        model = new_model(recipe.model, len(clips.classes), recipe.segments, options)
    except ValueError as error:
        raise UserError(str(error)) from None
    model.spec = replace(
        model.spec,
        sampling=recipe.sampling,
        input_size=recipe.size,
        short_side=recipe.resize_to,
        class_names=clips.classes,
    )
    return model


def mixed_precision(
    recipe: Recipe, device: torch.device
) -> tuple[Callable[[], AbstractContextManager[Any]], torch.amp.GradScaler]:
    """The context to compute in, and the loss scaler (which does nothing but under fp16).

    ``amp=auto`` is bf16 on a GPU that has it and full precision elsewhere: CPUs without bf16
    arithmetic are slower with it.
    """
    kind = recipe.amp
    if kind == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        kind = "bf16" if has_bf16 else "off"
    if kind == "fp16" and device.type != "cuda":
        raise UserError("amp=fp16 needs a GPU; use amp=bf16 or amp=off on a CPU")
    scaler = torch.amp.GradScaler(device.type, enabled=kind == "fp16")
    if kind == "off":
        return nullcontext, scaler
    dtype = torch.bfloat16 if kind == "bf16" else torch.float16
    return lambda: torch.autocast(device.type, dtype), scaler


def start_folder(folder: Path, recipe: Recipe) -> None:
    """Make a run's folder.

    Raises:
        UserError: it holds a run already, or a recipe that no run wrote.
    """
    if (folder / "resume.pt").exists():
        raise UserError(
            f"{folder}: holds a run already; go on with: smnet train --resume {folder},"
            " or choose another --out"
        )
    for name in ("last.safetensors", "best.safetensors"):
        if (folder / name).exists():
            raise UserError(f"{folder}: holds a {name}, which stays; choose another --out")
    own = folder / "recipe.yaml"
    if own.exists() and not own.read_bytes().startswith(OF_A_RUN.encode()):
        raise UserError(f"{own}: a run would write its recipe there; choose another --out")
    write_text(own, OF_A_RUN + dump_recipe(recipe))


def check_outside(folder: Path, clips: ClipSet) -> None:
    """``UserError`` for a run's folder that would be taken for a class of the data set."""
    if clips.format == "folders" and folder.resolve().is_relative_to(Path(clips.root).resolve()):
        raise UserError(
            f"{folder}: lies inside the data set {clips.root}, of which each folder is a class;"
            " choose another --out"
        )


def describe(recipe: Recipe, clips: ClipSet, model: VideoModel, processes: Processes) -> str:
    """What is trained on what, in a line."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    splits = ", ".join(f"{name} {len(rows)}" for name, rows in clips.splits.items())
    return (
        f"model: {recipe.model}, {parameters:.2f} M parameters, {recipe.segments} segments of"
        f" {recipe.size} x {recipe.size}; {len(clips.classes)} classes; clips: {splits};"
        f" {processes.world} x {processes.device.type}"
    )


class Stopped(Exception):
    """Raised where a signal has asked a run to end and nothing is lost by it."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; the second Ctrl-C interrupts at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def stop(number: int, frame: Any) -> None:
        if stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
