"""What a run prepares before its first step: clips, views, model, precision, folder."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from smnet.console import progress_bar
from smnet.data.annotations.mirror import mirror
from smnet.data.annotations.read import Clip, ClipSet, read_clips
from smnet.data.annotations.source import source_of
from smnet.data.loading.cache import SHARE, keep_clips
from smnet.data.loading.dataset import TrainBatches, ViewPlan
from smnet.data.loading.loader import ClipLoader
from smnet.data.open import check_decoder, median_seconds
from smnet.data.sampling.rules import check
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.files import write_text
from smnet.models import VideoModel
from smnet.models.registry import input_of, new_model
from smnet.recipes.recipe import Recipe, dump_recipe, read_recipe, read_yaml
from smnet.system import available_cores, keep_freed_memory

RECIPE_HEADER = "# The whole recipe of the run in this folder.\n"
"""First line of the ``recipe.yaml`` that a run writes."""


def read_training_clips(recipe: Recipe) -> ClipSet:
    """Read and check the whole data set of a recipe.

    Raises:
        UserError: the data set cannot be read, has no training clips, or has a class name that a
            checkpoint cannot store.
    """
    if recipe.data is None:
        raise UserError("no data: give --data DIR (a folder, a csv or a list), or set data=")
    source = replace(
        source_of(recipe),
        fold=recipe.fold,
        val_fraction=recipe.val_fraction,
        folds=recipe.folds,
        groups=recipe.groups,
        copies=recipe.copies or (),
        background=recipe.background,
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
                f"{recipe.data}: the class name {name!r} is not valid UTF-8, so a checkpoint cannot"
                " store it; rename the folder"
            ) from None
    return clips


def data_fingerprint(clips: ClipSet) -> dict[str, Any]:
    """Identify a data set: counts of classes and clips, a digest of the class names, and a digest
    of paths (relative to the root) and labels in order."""
    root = str(clips.root).rstrip("/") + "/"
    sides = {"train": clips.splits.get("train", ()), "val": validation_clips(clips)}
    digest = hashlib.sha256()
    for name, side in sides.items():
        digest.update(name.encode())
        for clip in side:
            digest.update(f"{clip.name.removeprefix(root)!r} {clip.label}\n".encode())
    counts = {name: len(side) for name, side in sides.items()}
    names = hashlib.sha256(repr(clips.classes).encode()).hexdigest()
    classes = {"classes": len(clips.classes), "names": names}
    return {**classes, **counts, "digest": digest.hexdigest()}


def validation_clips(clips: ClipSet) -> list[Clip]:
    """The labelled validation clips. Missing files are included and count as unreadable."""
    listed = [*clips.splits.get("val", ()), *clips.missing.get("val", ())]
    return [clip for clip in listed if clip.label >= 0]


def training_plan(recipe: Recipe, clips: ClipSet) -> tuple[ViewPlan, str]:
    """The random training view of a recipe, and a line that says whether clips are mirrored."""
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
    check(recipe.sampling, "train", frames_per_segment=frames_per_segment)
    check_decoder(recipe.decoder)
    plan = ViewPlan(
        sampling=recipe.sampling,
        segments=recipe.segments,
        frames_per_segment=frames_per_segment,
        rate=recipe.rate,
        size=recipe.size,
        short_side=recipe.resize_to,
        train=True,
        crop=recipe.crop,
        scale_first=recipe.scale_first,
        mirror=labels,
        decoder=recipe.decoder,
    )
    return plan, note


def keep_decoded(recipe: Recipe, loaders: Sequence[ClipLoader | None], processes: Processes) -> str:
    """Decode the clips of loaders into memory, as far as it suffices. Returns a line for the log.

    Every process keeps them, so each takes its share of the memory.
    """
    datasets = [loader.dataset for loader in loaders if loader is not None]
    workers = available_cores() if recipe.workers is None else recipe.workers
    with progress_bar(quiet=not processes.first) as bar:
        task = bar.add_task("decoding clips", total=None, note="")
        kept, size = keep_clips(
            datasets,
            workers,
            SHARE / processes.world,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    count = sum(len(dataset) for dataset in datasets)
    return f"cache: {kept} of {count} clips in memory, {size / 1e6:.0f} MB"


def train_batches(
    recipe: Recipe, labels: Sequence[int], processes: Processes, batch: int
) -> TrainBatches:
    """The order of the training clips, whose classes are ``labels``, ``batch`` at a time."""
    balanced = labels if recipe.balance == "classes" else None
    where = (processes.rank, processes.world)
    return TrainBatches(len(labels), batch, recipe.seed, *where, balanced)


def seed_everything(recipe: Recipe, processes: Processes) -> None:
    """Seed PyTorch and choose fast kernels, or reproducible ones with ``deterministic=true``."""
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.benchmark = not recipe.deterministic
    if recipe.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    if processes.device.type == "cpu":
        keep_freed_memory()
    else:
        torch.set_float32_matmul_precision("high")


def build_model(recipe: Recipe, clips: ClipSet) -> VideoModel:
    """Build the model of a recipe for the classes of a data set."""
    options = dict(recipe.options)
    options.setdefault("dropout", recipe.dropout)
    try:
        model = new_model(recipe.model, len(clips.classes), recipe.segments, options)
    except ValueError as error:
        raise UserError(str(error)) from None
    if recipe.warm and not model.spec.options.get("causal"):
        raise UserError("warm= warms up the state of a causal model; set options.causal=true")
    model.spec = replace(
        model.spec,
        sampling=recipe.sampling,
        rate=recipe.rate,
        input_size=recipe.size,
        short_side=recipe.resize_to,
        clip_seconds=median_seconds(clips.splits["train"]),
        class_names=clips.classes,
        several=clips.several,
    )
    if clips.several and isinstance(model.fc, nn.Linear):
        share = label_share(clips)
        nn.init.constant_(model.fc.bias, math.log(share / (1 - share)))
    return model


def class_counts(clips: ClipSet) -> dict[str, int]:
    """The number of training clips of each class."""
    counts = Counter(label for clip in clips.splits["train"] for label in clip.labels)
    return {name: counts[label] for label, name in enumerate(clips.classes)}


def label_share(clips: ClipSet) -> float:
    """Share of the labels that a training clip has, on average; between 0 and 1."""
    counts = [len(clip.labels) for clip in clips.splits["train"]]
    return min(max(sum(counts) / len(counts) / len(clips.classes), 0.01), 0.99)


def mixed_precision(
    recipe: Recipe, device: torch.device
) -> tuple[Callable[[], AbstractContextManager[Any]], torch.amp.GradScaler]:
    """The autocast context and the loss scaler, which is active with fp16 only.

    ``amp=auto`` is bf16 on a GPU that supports it and float32 elsewhere: CPUs without bf16
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


def compiled_and_distributed(
    model: VideoModel, recipe: Recipe, processes: Processes, stack: ExitStack
) -> nn.Module:
    """The network that the loop calls: ``model``, compiled and wrapped in DDP where needed."""
    network: nn.Module = torch.compile(model) if recipe.compile else model  # type: ignore
    if processes.world > 1:
        network = DistributedDataParallel(network)
        stack.enter_context(warnings.catch_warnings())
        # Raised for 1x1 kernels, whose strides differ in name only.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
    return network


def start_folder(folder: Path, recipe: Recipe) -> None:
    """Write ``recipe.yaml`` into the folder of a new run.

    Raises:
        UserError: the folder contains a run, a checkpoint or a recipe that a run did not write.
    """
    if (folder / "resume.pt").exists():
        raise UserError(
            f"{folder}: contains a run already; resume it with: smnet train --resume {folder},"
            " or choose another --out"
        )
    for name in ("last.safetensors", "best.safetensors"):
        if (folder / name).exists():
            raise UserError(
                f"{folder}: contains a {name}, which would be overwritten; choose another --out"
            )
    own = folder / "recipe.yaml"
    if own.exists() and not own.read_bytes().startswith(RECIPE_HEADER.encode()):
        raise UserError(f"{own}: exists and was not written by a run; choose another --out")
    store_recipe(folder, recipe)


def store_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the ``recipe.yaml`` of a run, unless it is there already."""
    file, text = folder / "recipe.yaml", RECIPE_HEADER + dump_recipe(recipe)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)


def stored_recipe(folder: Path) -> Recipe:
    """The recipe of the run in ``folder``.

    A run from before groups were guessed keeps its split.

    Raises:
        UserError: it is missing or damaged.
    """
    file = folder / "recipe.yaml"
    recipe = read_recipe(str(file.absolute()))
    if "groups" in read_yaml(file.read_text(encoding="utf-8")):
        return recipe
    return recipe.model_copy(update={"groups": "off"})


def check_folder_is_not_data(folder: Path, clips: ClipSet) -> None:
    """Refuse a run folder inside a data set whose folders are its classes."""
    if clips.format == "folders" and folder.resolve().is_relative_to(Path(clips.root).resolve()):
        raise UserError(
            f"{folder}: lies inside the data set {clips.root}, where every folder is a class;"
            " choose another --out"
        )


def describe(recipe: Recipe, clips: ClipSet, model: VideoModel, processes: Processes) -> str:
    """Model, input, data and devices of a run in one line."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    splits = ", ".join(f"{name} {len(rows)}" for name, rows in clips.splits.items())
    return (
        f"model: {recipe.model}, {parameters:.2f} M parameters, {recipe.segments} segments of"
        f" {recipe.size} x {recipe.size}; {len(clips.classes)} classes; clips: {splits};"
        f" {processes.world} x {processes.device.type}"
    )


class StopRequested(Exception):
    """Raised during validation after Ctrl-C or SIGTERM; everything is saved at that point."""


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set. A second Ctrl-C interrupts immediately."""
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
