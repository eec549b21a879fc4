"""Conversion of published checkpoints into checkpoints of smnet.

A published file holds little but tensors. What it does not say comes from its keys and shapes, then
from the file name that its program gave it, then from the user. Nothing is guessed: a wrong number
of segments or a wrong class order loads without an error and scores badly.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smnet.checkpoints.format import is_checkpoint
from smnet.checkpoints.layouts import (
    LAYOUTS,
    Layout,
    block_of,
    by_input,
    modern,
    recognise,
    some,
    trunk_of,
)
from smnet.checkpoints.metadata import MAX_SEGMENTS
from smnet.checkpoints.name_hints import NameHints
from smnet.checkpoints.save import Checkpoint
from smnet.data.annotations.names import read_class_names, tell_twins_apart, without_brackets
from smnet.data.sampling.published import WINDOW
from smnet.data.sampling.rules import list_strategies
from smnet.errors import UserError
from smnet.models import ModelSpec, VideoModel, build_model
from smnet.models.imagenet import sha256
from smnet.models.registry import family_of
from smnet.models.weight_files import AVERAGED, read_timm_config, read_weight_file

# The 174 class names of Something-Something, the same in both versions (SHA-256 of the sorted
# names, letters and digits only). Version 2 is always numbered alphabetically. TSM, TEA, TDN and
# TAM number version 1 alphabetically, MMAction2 as in the official labels file.
_SOMETHING = "35550b7174a6868eb8d3e2febfccc16b05ba9f9691b0dac64259d09f6ee94ce1"


@dataclass(frozen=True)
class Conversion:
    """The converted checkpoint, and a line on each fact that was found or assumed."""

    checkpoint: Checkpoint
    notes: tuple[str, ...]


def convert(
    source: str | os.PathLike[str],
    layout: str | None = None,
    *,
    segments: int | None = None,
    classes: str | os.PathLike[str] | None = None,
    class_order: str | None = None,
    sampling: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Conversion:
    """Convert a published checkpoint.

    Args:
        source: a ``.pth``, ``.pth.tar``, ``.pt`` or ``.safetensors`` file. Code in it is not run.
        layout: a name in :data:`smnet.checkpoints.layouts.LAYOUTS`; None recognises the keys.
        segments: T, where neither the tensors nor the file name give it.
        classes: a file of class names (one per line, ``id,name``, ``id;label``, json). Without it
            the checkpoint knows its classes by number only.
        class_order: the numbering of the classifier: ``"file"``, as in that file, or ``"sorted"``,
            alphabetical. None is ``"file"``, except for Something-Something V1: two numberings of
            it are in use, so one must be chosen.
        sampling: a rule of :mod:`smnet.data.sampling.rules`; None is the rule of the layout's
            published results.
        mean, std: normalisation per colour of values in [0, 1]. None takes timm's ``config.json``
            beside the file, or ImageNet's.

    Raises:
        UserError: not such a file; a tensor that is missing, left over or of another shape; or a
            fact that the file does not give and the caller must.
    """
    path = Path(source)
    if is_checkpoint(path):
        raise UserError(f"{path}: a checkpoint of smnet already; nothing to convert")
    try:
        state, under = read_weight_file(path)
        card = read_timm_config(path)
    except ValueError as error:
        raise UserError(str(error)) from None
    hints = NameHints.of(path)
    try:
        present = modern(state)
        if len(set(present.values())) < len(present):
            raise ValueError(
                "it has tensors under both the old (self_conv) and the new (tam) names"
            )
        renamed = any(old != new for old, new in present.items())
        state = {present[key]: tensor for key, tensor in state.items()}
        kind, why = _layout(path, state, layout)
        shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
        kind = by_input(kind, shapes)
        trunk, width = trunk_of(kind, shapes)
        head, num_classes = _classifier(kind, shapes)
        notes = [f"layout {kind.name}: {why}", f"{kind.family}_{trunk}, {num_classes} classes"]
        if under in AVERAGED:
            notes.append(f"the averaged weights ({under}), which the original program evaluates")
        if renamed:
            notes.append("older names (self_conv) read as tam.G and tam.L by their shapes")
        name = f"{kind.family}_{trunk}"
        count, how = _segments(path, kind, shapes, segments, hints)
        if count > MAX_SEGMENTS:
            raise ValueError(f"{count} segments ({how}); a checkpoint has {MAX_SEGMENTS} at most")
        options, assumed = _options(kind, trunk, width, hints)
        rule = _sampling(sampling, kind, hints)
        notes.append(f"{count} segments ({how}); sampling {rule}{assumed}")
        names, note = _class_names(path, num_classes, classes, class_order, hints)
        notes.append(note)
        fixed = family_of(name).input
        scale, note = _normalisation(fixed, mean, std, card)
        notes.append(note)
        about: dict[str, Any] = {**scale, **fixed, "sampling": rule, "class_names": names}
        spec = ModelSpec(name, num_classes, count, options, **about)
        with torch.device("meta"):
            model = build_model(spec)
        tensors, left = _fitted(model, kind, head, state)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    origin = {"file": path.name, "sha256": sha256(path), "layout": kind.name}
    checkpoint = Checkpoint(spec, tensors, {"converted_from": origin})
    return Conversion(checkpoint, (*notes, *left))


def _layout(path: Path, state: Mapping[str, Tensor], wanted: str | None) -> tuple[Layout, str]:
    if wanted is not None and wanted not in LAYOUTS:
        raise UserError(f"--from {wanted}: unknown; the layouts are {', '.join(LAYOUTS)}")
    recognised = recognise(state)
    if recognised is None:
        if wanted is not None:
            return LAYOUTS[wanted], "as given"
        raise UserError(
            f"{path}: no known layout has keys such as {some(state)}; the layouts are"
            f" {', '.join(LAYOUTS)}"
        )
    layout, key = recognised
    if wanted in (None, layout.name):
        return layout, f"{layout.evidence}, see {key}"
    if wanted == "timm" and layout.name == "torchvision":
        return LAYOUTS["timm"], f"{layout.evidence} under the names of torchvision, see {key}"
    raise UserError(
        f"{path}: --from {wanted}, but the keys are those of {layout.name}: {layout.evidence}"
        f" (see {key}); leave --from out, or use --from {layout.name}"
    )


def _classifier(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    for head in layout.heads:
        if f"{head}.weight" in shapes:
            return head, shapes[f"{head}.weight"][0]
    raise ValueError(f"it lacks the classifier, {layout.heads[0]}.weight; there are {some(shapes)}")


def _segments(
    path: Path,
    layout: Layout,
    shapes: Mapping[str, tuple[int, ...]],
    given: int | None,
    hints: NameHints,
) -> tuple[int, str]:
    if given is not None and given < 1:
        raise UserError(f"--segments {given}: at least 1 is needed")
    if layout.family == "tam":
        key, shape = next((k, s) for k, s in shapes.items() if k.endswith(".tam.G.0.weight"))
        if len(shape) != 2:
            raise ValueError(f"{key} has the shape {shape}, not (2T, T)")
        if given not in (None, shape[1]):
            raise UserError(
                f"{path}: --segments {given}, but {key} has the shape of {shape[1]} segments"
            )
        return shape[1], f"the shape of {key}"
    if given is not None:
        return given, "as given"
    if layout.name in ("torchvision", "timm"):
        return 8, "the default for an image network; --segments N sets another number"
    if hints.segments is not None:
        return hints.segments, f"the name {hints.text}"
    raise UserError(
        f"{path}: neither its tensors nor its name give the number of segments it was trained on;"
        " a wrong number would load and score badly. Give --segments (published files: 8 or 16)"
    )


def _options(
    layout: Layout, trunk: str, width: int, hints: NameHints
) -> tuple[dict[str, Any], str]:
    if hints.pooled:
        raise ValueError("its name says tpool: temporal pooling between stages is not supported")
    options: dict[str, Any] = {}
    if layout.name == "mmaction2-i3d":
        options["halve_in_stem"] = True
    if width != (32 if trunk == "mobilenetv2" else 64):
        options["width"] = width
    if layout.family != "tsm":
        return options, ""
    if hints.shift_div is None:
        return options, "; 1/8 of the channels shifted each way, as in all published files"
    if hints.shift_div != 8:
        options["shift_div"] = hints.shift_div
    return options, f"; 1/{hints.shift_div} of the channels shifted each way (the name)"


def _sampling(given: str | None, layout: Layout, hints: NameHints) -> str:
    if given is None:
        rule = layout.dense if hints.dense else layout.sampling
        if rule == "dense" and hints.window not in (None, WINDOW):
            raise ValueError(
                f"its name says clips that span {hints.window} frames; the rule dense spans"
                f" {WINDOW}. Choose one with --sampling"
            )
        return rule
    if given not in list_strategies():
        raise UserError(f"--sampling {given}: unknown; use {', '.join(list_strategies())}")
    return given


def _normalisation(
    fixed: Mapping[str, Any],
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    card: Mapping[str, Any],
) -> tuple[dict[str, tuple[float, ...]], str]:
    """The normalisation where the family does not fix it, and a line on its origin."""
    if "mean" in fixed:
        if mean or std:
            raise UserError("--mean, --std: this network takes frames from 0 to 1, not normalised")
        return {}, "frames from 0 to 1, not normalised"
    if (mean is None) != (std is None):
        raise UserError("--mean and --std: give both")
    if mean is not None and std is not None:
        if not _is_scale(mean, std):
            raise UserError("--mean, --std: three numbers each, for values in [0, 1], std above 0")
        return {"mean": mean, "std": std}, f"normalised by {mean}, {std}, as given"
    of_card = [card.get("mean"), card.get("std")]
    if all(isinstance(value, list) for value in of_card) and _is_scale(*of_card):
        mean, std = (tuple(map(float, value)) for value in of_card)  # type: ignore[arg-type]
        return {"mean": mean, "std": std}, f"normalised by {mean}, {std} (config.json beside it)"
    return {}, "normalised by ImageNet's mean and deviation (--mean and --std set others)"


def _is_scale(mean: Any, std: Any) -> bool:
    numbers = [*mean, *std]
    sound = all(isinstance(n, int | float) and abs(n) <= 1 for n in numbers)
    return sound and len(mean) == len(std) == 3 and min(std) > 0


# --- class names -----------------------------------------------------------------------------


def _class_names(
    path: Path,
    num_classes: int,
    file: str | os.PathLike[str] | None,
    order: str | None,
    hints: NameHints,
) -> tuple[tuple[str, ...] | None, str]:
    if order not in (None, "file", "sorted"):
        raise UserError(f"--class-order {order}: use file or sorted")
    if file is None:
        if order is not None:
            raise UserError("--class-order is the numbering of the names in --classes; give both")
        return None, (
            "no class names (--classes FILE gives them): evaluation matches classes by number only,"
            " so another numbering goes unnoticed"
        )
    listed = read_class_names(Path(file), unique=order == "sorted")
    names = tell_twins_apart(listed)
    if len(names) != num_classes:
        raise UserError(
            f"{file}: {len(names)} class names, but the classifier of {path} has {num_classes}"
        )
    something = names_digest(names) == _SOMETHING
    if something:  # some lists have [brackets], which change the alphabetical order
        names = tuple(without_brackets(name) for name in names)
    alphabetical = tuple(sorted(names))
    if order is None and something:
        if not hints.something_v2:
            raise UserError(
                f"{file}: the classes of Something-Something. V2 is always numbered alphabetically."
                " V1 is numbered alphabetically by TSM, TEA, TDN and TAM, and as in the official"
                " labels file by MMAction2. Choose with --class-order sorted or --class-order file"
            )
        return alphabetical, f"classes: {file}, sorted, as always in Something-Something V2"
    if order == "sorted":
        return alphabetical, f"classes: {file}, sorted"
    note = f"classes: {file}, in its order"
    if twins := [name for name, as_given in zip(names, listed, strict=True) if name != as_given]:
        note += f"; repeated names were made distinct: {', '.join(twins)}"
    return names, note


def names_digest(names: tuple[str, ...]) -> str:
    """SHA-256 of a set of class names, independent of order, case and punctuation."""
    plain = sorted("".join(c for c in name.casefold() if c.isalnum()) for name in names)
    return hashlib.sha256("\n".join(plain).encode()).hexdigest()


# --- tensors ---------------------------------------------------------------------------------


def _fitted(
    model: VideoModel, layout: Layout, head: str, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The model's ``state_dict`` from a file's, and notes on it.

    Raises:
        ValueError: not exactly the tensors of this model.
    """
    own = model.state_dict()
    temporal = {
        block_of(f"{name}.") for name, _ in model.named_modules() if name.endswith(".temporal")
    }
    theirs = layout.names(own, temporal, head)
    unused = [key for key in state if re.search(layout.unused, key)]
    # Old files lack the counters, on which no score depends.
    required = [t for o, t in theirs.items() if not o.endswith(".num_batches_tracked")]
    missing = [t for t in required if t not in state]
    extra = sorted(state.keys() - set(theirs.values()) - set(unused))
    misfit = [
        f"{t}: {_describe(state[t])} for {tuple(own[o].shape)}"
        for o, t in theirs.items()
        if t in state and not _fits(state[t], own[o])
    ]
    problems = [
        f"it {problem} {some(keys)}"
        for problem, keys in (("lacks", missing), ("also has", extra), ("differs in", misfit))
        if keys
    ]
    if problems:
        raise ValueError(
            f"not the tensors of a {model.spec.name} in the layout {layout.name}:"
            f" {'; '.join(problems)}"
        )
    counter = torch.zeros((), dtype=torch.int64)
    tensors = {o: state.get(t, counter).to(own[o].dtype, copy=True) for o, t in theirs.items()}
    notes = [f"left out, not used by the original program either: {some(unused)}"] if unused else []
    absent = sum(t not in state for t in theirs.values())
    if absent:
        notes.append(
            f"{absent} counters (num_batches_tracked) are not in the file; they start at 0"
        )
    return tensors, notes


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and given.is_floating_point() == own.is_floating_point()


def _describe(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"
