"""Test protocols: views = clips x crops, softmax averaged over views, every clip counted once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.file import load, read_checkpoint
from smnet.checkpoints.metadata import view_plan
from smnet.console import console, progress_bar
from smnet.data.annotations.classes import match
from smnet.data.annotations.read import Clip, ClipSet, read_clips
from smnet.data.annotations.source import ClipSource, Source, as_source, split_of
from smnet.data.loading.dataset import ClipDataset, TestBatches
from smnet.data.loading.loader import ClipLoader, make_loader
from smnet.data.loading.views import ViewPlan
from smnet.data.open import check_decoder
from smnet.data.packed.read import name_when_packed
from smnet.data.sampling.rules import clips_of_validation
from smnet.distributed import Processes, join
from smnet.errors import UserError
from smnet.evaluation.results import Evaluation
from smnet.inference.backends import check_crops, is_exported, open_backend, refuse_program
from smnet.inference.exported import ExportedBackend
from smnet.inference.torch_backend import score_views
from smnet.models import ModelSpec, VideoModel, to_channels_last
from smnet.recipes.recipe import parse_views
from smnet.system import keep_freed_memory


def validation_plan(spec: ModelSpec) -> ViewPlan:
    """The views of validation during training: one crop of the clips that the sampling rule
    validates with (one in all that are published, also where the test takes two or ten)."""
    return view_plan(spec, clips_of_validation(spec.sampling), validation=True)


def protocol_loader(
    clips: Sequence[Clip],
    plan: ViewPlan,
    processes: Processes,
    batch: int = 8,
    workers: int | None = None,
) -> ClipLoader:
    """Every clip of a list once, over all processes; ``batch`` counts views."""
    return make_loader(
        ClipDataset(clips, plan),
        TestBatches(len(clips), max(1, batch // plan.views), processes.rank, processes.world),
        workers,
        pin_memory=processes.device.type == "cuda",
    )


def score_clips(
    network: VideoModel | ExportedBackend,
    loader: ClipLoader,
    processes: Processes,
    *,
    on_error: str = "raise",
    autocast: Callable[[], AbstractContextManager[Any]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.float32], dict[int, str], dict[int, str]]:
    """Scores of every clip of a list, each exactly once over all processes.

    Args:
        network: a model in evaluation mode, on its device; or an exported file.
        loader: of :func:`protocol_loader`.
        processes: this process among the others.
        on_error: ``"raise"`` stops at the first clip that cannot be read; ``"skip"`` gives it a row
            of NaN, which counts as wrong, and reports it.
        autocast: of a model, see :func:`score_views`.
        progress: called with the number of videos just done.

    Returns:
        Scores (N, K) float32 in the order of the list; the problems met, each by the index of its
        clip; and what was lost of clips that could be read.

    Raises:
        UserError: a clip cannot be read and ``on_error`` is ``"raise"``.
    """
    count = len(loader.dataset)
    scores = np.full((count, network.spec.num_classes), np.nan, dtype=np.float32)
    problems: dict[int, str] = {}
    damaged: dict[int, str] = {}
    for part in loader:
        if part.problems and on_error == "raise":
            raise UserError(part.problems[0][1])
        problems.update(part.problems)
        damaged.update(part.damaged)
        if len(part.indices):
            if isinstance(network, ExportedBackend):
                rows = network.score(part.views.numpy())
            else:
                rows = score_views(network, part.views, autocast).numpy()
            scores[part.indices.numpy()] = rows
        progress(len(part.indices) + len(part.problems))
    everyone = processes.gather((scores[processes.rank :: processes.world], problems, damaged))
    for rank, (found, not_read, hurt) in enumerate(everyone):
        scores[rank :: processes.world] = found
        problems.update(not_read)
        damaged.update(hurt)
    return scores, problems, damaged


def evaluate_checkpoints(
    checkpoints: Sequence[str],
    source: Source,
    *,
    split: str = "val",
    views: str | None = None,
    weights: str | None = None,
    sampling: str | None = None,
    on_error: str = "raise",
    batch: int = 8,
    workers: int | None = None,
    device: str = "auto",
    decoder: str = "pyav",
) -> Evaluation | None:
    """Measure one checkpoint, or the weighted mean of the scores of several, on a data set.

    Class identity is by name: scores are put into the order of the data set's classes, and a
    checkpoint of other classes is refused.

    Args:
        checkpoints: files or folders of runs; or exported ``.onnx`` and ``.xml`` files.
        source: the data set. Where it leaves fold, val_fraction or split_seed open, these are
            taken from the recipes of the checkpoints.
        split: which part of the data set; or ``"all"`` of it.
        views: clips x crops; None is what the recipes of the checkpoints say, ``"1x1"`` where they
            say nothing.
        weights: shares of several checkpoints, ``"1,1.5"``; equal by default.
        sampling: the sampling rule to measure with, instead of that of each checkpoint.
        on_error, batch, workers: see :func:`score_clips`; ``batch`` counts views.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
        decoder: of video files, ``"pyav"`` or ``"torchcodec"``.

    Returns:
        The evaluation; None on all but the first of several processes.

    Raises:
        UserError: data, checkpoints or class names that do not go together, or no such decoder.
    """
    check_decoder(decoder)
    for checkpoint in checkpoints:
        refuse_program(checkpoint)
    recipes = [{} if is_exported(c) else read_checkpoint(c).recipe for c in checkpoints]
    views = views or _views_of(recipes)
    plan_views = parse_views(views)
    shares = _shares(weights, len(checkpoints))
    with join(device) as processes:
        if processes.device.type == "cpu":
            keep_freed_memory()
        networks = [_open(checkpoint, device, processes) for checkpoint in checkpoints]
        clip_set, clips = _clips_to_measure(
            as_source(source),
            split,
            [
                network.recipe if isinstance(network, ExportedBackend) else recipe
                for recipe, network in zip(recipes, networks, strict=True)
            ],
            missing="report" if on_error == "skip" else "error",
        )
        if clip_set.drawn and split == "val" and processes.first:
            console.print(
                f"{clip_set.root}: has no split of its own; measured on the clips that training"
                " leaves out. For every clip: --split all",
                markup=False,
                soft_wrap=True,
            )
        orders, plans = [], []  # of all, before any has been run
        for checkpoint, network in zip(checkpoints, networks, strict=True):
            order, note = _class_order(network.spec, clip_set, checkpoint)
            orders.append(order)
            if note and processes.first:
                console.print(note, markup=False, soft_wrap=True)
            spec = replace(network.spec, sampling=sampling or network.spec.sampling)
            try:
                plans.append(replace(view_plan(spec, *plan_views), decoder=decoder))
                if isinstance(network, ExportedBackend):
                    check_crops(network, plans[-1])
            except UserError as error:
                raise UserError(f"{checkpoint}: {error}") from None
        total = np.zeros((len(clips), len(clip_set.classes)), dtype=np.float64)
        problems: dict[int, str] = {}
        damaged: dict[int, str] = {}
        for network, order, plan, share in zip(networks, orders, plans, shares, strict=True):
            with progress_bar(quiet=not processes.first) as bar:
                task = bar.add_task("evaluating", total=len(clips), note=f"views {views}")
                scores, not_read, hurt = score_clips(
                    network,
                    protocol_loader(clips, plan, processes, batch, workers),
                    processes,
                    on_error=on_error,
                    progress=lambda done: bar.advance(task, done * processes.world),  # noqa: B023
                )
            total += share * scores[:, order].astype(np.float64)
            # A clip counts once, whichever of the networks wanted the frames that are not there.
            problems, damaged = not_read | problems, hurt | damaged
        if not processes.first:
            return None
    return Evaluation(
        scores=total.astype(np.float32),
        labels=np.array([clip.label for clip in clips], dtype=np.int64),
        classes=clip_set.classes,
        paths=tuple(name_when_packed(clip.path) for clip in clips),
        views=views,
        problems=in_order(problems),
        sampling=", ".join(dict.fromkeys(plan.sampling for plan in plans)),
        damaged=in_order(damaged),
    )


def in_order(messages: dict[int, str]) -> tuple[str, ...]:
    """Messages about clips, by the index of each, in the order of the clips."""
    return tuple(messages[index] for index in sorted(messages))


def _open(path: str, device: str, processes: Processes) -> VideoModel | ExportedBackend:
    """A checkpoint's model on its device, or an exported file under its engine."""
    if is_exported(path):
        # An engine may know another device than PyTorch does; unless told, it takes its best.
        network = open_backend(path, "auto" if device == "auto" else str(processes.device))
        assert isinstance(network, ExportedBackend)
        return network
    model = load(path).to(processes.device)
    to_channels_last(model)
    return model


def _shares(weights: str | None, count: int) -> list[float]:
    """What each of several checkpoints counts for; all together one."""
    words = ["1"] * count if weights is None else weights.split(",")
    try:
        shares = [float(word) for word in words]
    except ValueError:
        raise UserError(f"weights {weights!r}: write numbers such as 1,1.5") from None
    if len(shares) != count or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise UserError(
            f"weights {weights!r}: give one share, not negative, a checkpoint ({count})"
        )
    return [share / sum(shares) for share in shares]


def _views_of(recipes: Sequence[Mapping[str, Any]]) -> str:
    """The views that the recipes of some checkpoints say, ``"1x1"`` where they say nothing."""
    said = dict.fromkeys(str(recipe["views"]) for recipe in recipes if recipe.get("views"))
    if len(said) > 1:
        raise UserError(
            f"the checkpoints' recipes measure by different views ({', '.join(said)}); say which"
            " with --views"
        )
    return next(iter(said), "1x1")


def _clips_to_measure(
    source: ClipSource,
    split: str,
    recipes: Sequence[Mapping[str, Any]],
    missing: Literal["error", "report"],
) -> tuple[ClipSet, list[Clip]]:
    """The data set and the clips of one split of it, split as for the training of the networks.

    Raises:
        UserError: the networks were trained on different splits of the data set.
    """
    splits = [recipe for recipe in recipes if split_of(recipe)] or [{}]
    sources = list(dict.fromkeys(source.with_split(recipe) for recipe in splits))
    found = []
    for one in sources:
        clip_set = read_clips(one, missing=missing)
        found.append((clip_set, _labelled(clip_set, split)))
    first, *others = ({clip.path for clip in clips} for _, clips in found)
    if any(other != first for other in others):
        ways = "; ".join(
            f"fold={s.fold}, val_fraction={s.val_fraction}, split_seed={s.split_seed}"
            for s in sources
        )
        raise UserError(
            f"{source.data}: the checkpoints were trained on different splits of it ({ways});"
            " evaluate each alone, or choose one with --fold"
        )
    return found[0]


def _labelled(clip_set: ClipSet, split: str) -> list[Clip]:
    """The clips to measure on; those that the disk lacks are among them and count as unreadable."""
    names = ("train", "val", "test") if split == "all" else (split,)
    sides = (clip_set.splits, clip_set.missing)
    clips = [clip for name in names for side in sides for clip in side.get(name, ())]
    if not clips:
        there = ", ".join(f"{name} ({len(rows)})" for name, rows in clip_set.splits.items())
        raise UserError(f"{clip_set.root}: no split {split!r}; there are: {there}")
    unknown = sum(clip.label < 0 for clip in clips)
    if unknown:
        raise UserError(
            f"{clip_set.root}: {unknown} of {len(clips)} clips of split {split!r} have no label,"
            " so there is nothing to measure; use smnet predict"
        )
    return clips


def _class_order(
    spec: ModelSpec, clip_set: ClipSet, checkpoint: str
) -> tuple[NDArray[np.int64], str]:
    """Columns of the model's scores in the order of the data set's classes; in what their names
    differ, for people."""
    if spec.class_names is None:
        if spec.num_classes != len(clip_set.classes):
            raise UserError(
                f"{checkpoint}: {spec.num_classes} classes without names; the data set has"
                f" {len(clip_set.classes)}"
            )
        return np.arange(spec.num_classes), ""
    if spec.class_names == clip_set.classes:
        return np.arange(spec.num_classes), ""
    try:
        found = match(spec.class_names, clip_set.classes)
    except UserError as error:
        raise UserError(f"{checkpoint}: {error}") from None
    return np.array(found.order), f"{checkpoint}: {found.note}" if found.note else ""
