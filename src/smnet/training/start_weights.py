"""The weights that training starts from: an image network, or a checkpoint to fine-tune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from smnet.checkpoints.file import Checkpoint, read_checkpoint
from smnet.checkpoints.header import is_checkpoint, is_path
from smnet.errors import UserError
from smnet.models import VideoModel, load_weights
from smnet.models.discriminants import PREFIX
from smnet.models.registry import input_of


def start_from(model: VideoModel, source: str, *, needs_temporal: bool = False) -> str:
    """Load the start weights into ``model``.

    Args:
        model: a new model; ``model.spec`` has class names if they are known. The mean and deviation
            of the normalisation are taken from a checkpoint.
        source: ``"none"``; ``"imagenet"``; a file of image-network weights with torchvision's
            names; or a checkpoint of smnet (a name, a file, or ``hf://owner/name``). From a
            checkpoint the trunk and the temporal modules are taken, and the classifier if it has
            the same classes in the same order. A checkpoint without temporal weights (TSN, TSM)
            gives its trunk to any family.
        needs_temporal: whether the temporal modules must be part of ``source``. So it is where
            normalisations keep their statistics: new modules change the scale of features, SMNet's
            threefold.

    Returns:
        One line that says what was loaded.

    Raises:
        UserError: the weights are missing or do not fit, or lack temporal modules that they need.
    """
    checkpoint = _read_ours(source)
    own, own_head = _shapes(model.state_dict())
    given, given_head = _shapes({} if checkpoint is None else checkpoint.tensors)
    trunk_alone = own != given and all(map(model.is_trunk_key, given))
    if needs_temporal and trunk_alone:
        raise UserError(
            f"weights={source} with freeze_norm or freeze: the temporal modules of"
            f" {model.spec.name} are new, and statistics measured without them do not fit; give a"
            f" checkpoint of {model.spec.name} (weights=CHECKPOINT), freeze less (freeze=stem), or"
            " leave freeze and freeze_norm out"
        )
    if source == "none":
        return "weights: random"
    if trunk_alone:
        try:
            load_weights(model, source if checkpoint is None else checkpoint.tensors)
        except ValueError as error:
            raise UserError(f"weights={source}: {error}") from None
        whose = "" if checkpoint is None else f" of {checkpoint.spec.name}"
        note = f"weights: the trunk{whose} from {source}; the rest is new"
    if checkpoint is None:
        return note
    theirs = checkpoint.spec
    if not trunk_alone:
        named_alike = theirs.class_names and theirs.class_names == model.spec.class_names
        with_head = bool(named_alike) and own_head == given_head
        note = _fine_tune(model, checkpoint, source, with_head)
    if "mean" not in input_of(model.spec.name, model.spec.options):
        model.spec = replace(model.spec, mean=theirs.mean, std=theirs.std)
    return note


def _read_ours(source: str) -> Checkpoint | None:
    """The smnet checkpoint at ``source``; None if it is something else."""
    path = Path(source)
    if source in ("none", "imagenet"):
        return None
    if not is_path(source) or path.is_dir() or is_checkpoint(path):
        checkpoint = read_checkpoint(source)
        kept = {k: v for k, v in checkpoint.tensors.items() if not k.startswith(PREFIX)}
        return replace(checkpoint, tensors=kept)
    return None


def _shapes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, torch.Size], dict[str, torch.Size]]:
    """The shapes of the tensors of body and classifier."""
    body: dict[str, torch.Size] = {}
    head: dict[str, torch.Size] = {}
    for key, tensor in tensors.items():
        (head if key.startswith("fc.") else body)[key] = tensor.shape
    return body, head


def _fine_tune(model: VideoModel, checkpoint: Checkpoint, source: str, with_head: bool) -> str:
    own = model.state_dict()
    taken = {k: v for k, v in checkpoint.tensors.items() if with_head or not k.startswith("fc.")}
    missing = [k for k in own if k not in taken and not k.startswith("fc.")]
    unknown = [k for k in taken if k not in own]
    misfit = [k for k in taken if k in own and taken[k].shape != own[k].shape]
    for problem, keys in (("lacks", missing), ("also has", unknown), ("differs in", misfit)):
        if keys:
            raise UserError(
                f"weights={source}: the {checkpoint.spec.name} there does not fit {model.spec.name}"
                f" with these options: it {problem} {', '.join(keys[:5])}"
            )
    model.load_state_dict(taken, strict=False)
    head = "with its classifier" if with_head else "the classifier is new"
    return f"weights: {checkpoint.spec.name} from {source}; {head}"
