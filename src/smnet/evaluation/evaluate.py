"""Evaluation of checkpoints and exported files on a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from smnet.checkpoints.header import read_header
from smnet.console import console, progress_bar
from smnet.data.annotations.classes import match
from smnet.data.annotations.read import Clip, ClipSet, read_clips
from smnet.data.annotations.source import ClipSource, Source, as_source, split_of
from smnet.data.open import check_decoder
from smnet.data.packed.read import origin
from smnet.distributed import Processes, join
from smnet.errors import UserError
from smnet.evaluation.results import Evaluation, truth_of
from smnet.evaluation.scoring import in_order, protocol_loader, score_clips
from smnet.inference.backends import (
    Backend,
    is_exported,
    open_backend,
    plan_views,
    refuse_program,
)
from smnet.inference.decision import BACKGROUND
from smnet.models import ModelSpec
from smnet.models.spec import Decision
from smnet.recipes.views import parse_views


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
    unknown: str | None = None,
) -> Evaluation | None:
    """Measure one checkpoint, or the weighted mean of the scores of several, on a data set.

    Classes are matched by name: scores are put into the order of the data set's classes, and a
    checkpoint of other classes is refused.

    Args:
        checkpoints: files or folders of runs; or exported ``.onnx`` and ``.xml`` files.
        source: the data set. Where it leaves fold, val_fraction or split_seed open, these are
            taken from the recipes of the checkpoints.
        split: which part of the data set; or ``"all"`` of it.
        views: clips x crops. None takes the views of the checkpoints' recipes, or ``"1x1"``.
        weights: shares of several checkpoints, ``"1,1.5"``; equal by default.
        sampling: a sampling rule in place of each checkpoint's own.
        on_error: ``"raise"``, or ``"skip"``: an unreadable clip counts as wrong.
        batch: views per batch.
        workers: decoding processes; None is one per core, at most 8.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        decoder: of video files, ``"pyav"`` or ``"torchcodec"``.
        unknown: clips of classes that the checkpoints do not know: another data set, or names of
            classes of this one with commas between them.

    Returns:
        The evaluation; None on all but the first of several processes.

    Raises:
        UserError: data, checkpoints or class names that do not match, or no such decoder.
    """
    check_decoder(decoder)
    for checkpoint in checkpoints:
        refuse_program(checkpoint)
    shares = _shares(weights, len(checkpoints))
    with join(device) as processes:
        backends = [_open(checkpoint, device, processes) for checkpoint in checkpoints]
        recipes = [backend.recipe for backend in backends]
        views = views or _views_of(recipes)
        missing: Literal["error", "report"] = "report" if on_error == "skip" else "error"
        source = as_source(source)
        clip_set, clips = _clips_to_measure(source, split, recipes, missing)
        if clip_set.drawn and split == "val":
            _say(
                f"{source.data}: the data set has no splits; measured on the clips that training"
                " holds out. For every clip: --split all",
                processes,
            )
            for checkpoint in checkpoints:
                if not is_exported(checkpoint) and trained_on_all(checkpoint):
                    _say(
                        f"{checkpoint}: trained on all clips of its data set, perhaps on these;"
                        " the report of its run has the result on clips that it had not seen",
                        processes,
                    )
        clip_set, clips, strange = _set_aside(clip_set, clips, unknown)
        knows_none = all(BACKGROUND in (backend.spec.class_names or ()) for backend in backends)
        if knows_none and BACKGROUND not in clip_set.classes:
            clip_set = replace(clip_set, classes=(*clip_set.classes, BACKGROUND))
            _say(
                f"{source.data}: no clips of {BACKGROUND!r}; this answer counts as wrong", processes
            )
        orders, plans = [], []  # of all, before any is run
        for checkpoint, backend in zip(checkpoints, backends, strict=True):
            try:
                order, note = _class_order(backend.spec, clip_set)
                plan = plan_views(backend, *parse_views(views), sampling)
            except UserError as error:
                raise UserError(f"{checkpoint}: {error}") from None
            if note:
                _say(f"{checkpoint}: {note}", processes)
            orders.append(order)
            plans.append(replace(plan, decoder=decoder))
        everything = [*clips, *strange]
        distances: NDArray[np.float32] | None = None  # of a single checkpoint
        total = np.zeros((len(everything), len(clip_set.classes)), dtype=np.float64)
        problems: dict[int, str] = {}
        damaged: dict[int, str] = {}
        for backend, order, plan, share in zip(backends, orders, plans, shares, strict=True):
            with progress_bar(quiet=not processes.first) as bar:
                task = bar.add_task("evaluating", total=len(everything), note=f"views {views}")
                result = score_clips(
                    backend,
                    protocol_loader(everything, plan, processes, batch, workers),
                    processes,
                    on_error=on_error,
                    progress=lambda done: bar.advance(task, done * processes.world),  # noqa: B023
                )
            total += share * result.scores[:, order].astype(np.float64)
            distances = result.distances if len(backends) == 1 else None
            # A clip counts once, whichever of the models could not read it.
            problems, damaged = result.problems | problems, result.damaged | damaged
        if not processes.first:
            return None
    origins = [origin(clip) for clip in clips]
    known, several = len(clips), clip_set.several or any(b.spec.several for b in backends)
    (decision, *others) = (_decision(b.spec, o) for b, o in zip(backends, orders, strict=True))
    return Evaluation(
        scores=total[:known].astype(np.float32),
        labels=np.array([clip.label for clip in clips], dtype=np.int64),
        classes=clip_set.classes,
        paths=tuple(path for path, _ in origins),
        parts=tuple(part for _, part in origins),
        views=views,
        problems=in_order({i: text for i, text in problems.items() if i < known}),
        sampling=", ".join(dict.fromkeys(plan.frames_by for plan in plans)),
        damaged=in_order(damaged),
        truth=truth_of(clips, len(clip_set.classes)) if several else None,
        decision=Decision() if others else decision,
        unknown=total[known:].astype(np.float32) if unknown is not None else None,
        distances=None if distances is None else distances[:known],
        unknown_distances=None if distances is None else distances[known:],
        clips=tuple(clips),
    )


def trained_on_all(checkpoint: str) -> bool:
    """Whether a checkpoint was trained on the clips of a drawn validation split, too."""
    return bool(read_header(checkpoint).metrics.get("trained_on_all"))


def _decision(spec: ModelSpec, order: NDArray[np.int64]) -> Decision:
    """The decision of a network, with thresholds in the order of the data set's classes."""
    own = spec.decision.thresholds
    thresholds = None if own is None else tuple(own[i] for i in order)
    return replace(spec.decision, thresholds=thresholds)


def _set_aside(
    clip_set: ClipSet, clips: list[Clip], unknown: str | None
) -> tuple[ClipSet, list[Clip], list[Clip]]:
    """The data set and its clips without those of unknown classes, and clips of unknown classes.

    Raises:
        UserError: neither a data set nor classes of this one.
    """
    if unknown is None:
        return clip_set, clips, []
    if Path(unknown).exists():
        other = read_clips(as_source(unknown))
        return clip_set, clips, [clip for side in other.splits.values() for clip in side]
    names = {name.strip() for name in unknown.split(",")}
    if strangers := sorted(names - set(clip_set.classes)):
        raise UserError(
            f"unknown {', '.join(strangers)}: neither a data set nor classes of {clip_set.root},"
            f" which are {', '.join(clip_set.classes)}"
        )
    kept = [name for name in clip_set.classes if name not in names]
    new = {k: kept.index(n) for k, n in enumerate(clip_set.classes) if n not in names}
    known = [
        replace(clip, label=new[clip.label], labels=tuple(new[k] for k in clip.labels if k in new))
        for clip in clips
        if clip.label in new
    ]
    strange = [clip for clip in clips if clip.label not in new]
    if not known or not strange:
        side = "known" if not known else "unknown"
        raise UserError(f"{clip_set.root}: no clip of a class that is {side}")
    return replace(clip_set, classes=tuple(kept)), known, strange


def _say(line: str, processes: Processes) -> None:
    if processes.first:
        console.print(line, markup=False, soft_wrap=True)


def _open(path: str, device: str, processes: Processes) -> Backend:
    # ONNX Runtime may know devices that PyTorch does not; "auto" takes its best.
    own_choice = is_exported(path) and device == "auto"
    return open_backend(path, "auto" if own_choice else str(processes.device))


def _shares(weights: str | None, count: int) -> list[float]:
    """The weight of each of several checkpoints; they sum to one."""
    words = ["1"] * count if weights is None else weights.split(",")
    try:
        shares = [float(word) for word in words]
    except ValueError:
        raise UserError(f"weights {weights!r}: write numbers such as 1,1.5") from None
    if len(shares) != count or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise UserError(
            f"weights {weights!r}: give one number per checkpoint ({count}), none negative and not"
            " all zero"
        )
    return [share / sum(shares) for share in shares]


def _views_of(recipes: Sequence[Mapping[str, Any]]) -> str:
    """The views in the recipes of the checkpoints, ``"1x1"`` where there are none."""
    given = dict.fromkeys(str(recipe["views"]) for recipe in recipes if recipe.get("views"))
    if len(given) > 1:
        raise UserError(
            f"the checkpoints' recipes use different views ({', '.join(given)}); choose with"
            " --views"
        )
    return next(iter(given), "1x1")


def _clips_to_measure(
    source: ClipSource,
    split: str,
    recipes: Sequence[Mapping[str, Any]],
    missing: Literal["error", "report"],
) -> tuple[ClipSet, list[Clip]]:
    """The data set and the clips of one split of it, split as for the training of the networks."""
    splits = [recipe for recipe in recipes if split_of(recipe)] or [{}]
    sources = list(dict.fromkeys(source.with_split(recipe) for recipe in splits))
    read = []
    for one in sources:
        clip_set = read_clips(one, missing=missing)
        read.append((clip_set, _labelled(clip_set, split)))
    first, *others = ({clip.name for clip in clips} for _, clips in read)
    if any(other != first for other in others):
        ways = "; ".join(
            f"fold={s.fold}, val_fraction={s.val_fraction}, split_seed={s.split_seed}"
            for s in sources
        )
        raise UserError(
            f"{source.data}: the checkpoints were trained on different splits of it ({ways});"
            " evaluate each alone, or choose one with --fold"
        )
    return read[0]


def _labelled(clip_set: ClipSet, split: str) -> list[Clip]:
    """The clips to measure on, including those that are missing on the disk."""
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


def _class_order(spec: ModelSpec, clip_set: ClipSet) -> tuple[NDArray[np.int64], str]:
    """Columns of the model's scores in the order of the data set's classes, and a line on names
    that differ."""
    if spec.class_names is None and spec.num_classes != len(clip_set.classes):
        raise UserError(
            f"{spec.num_classes} classes without names; the data set has {len(clip_set.classes)}"
        )
    if spec.class_names in (None, clip_set.classes):
        return np.arange(spec.num_classes), ""
    assert spec.class_names is not None
    matched = match(spec.class_names, clip_set.classes)
    return np.array(matched.order), matched.note
