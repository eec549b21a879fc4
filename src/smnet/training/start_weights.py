"""What a new model starts from: image-network weights, or a checkpoint of ours to fine-tune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from smnet.checkpoints.file import Checkpoint, read_checkpoint
from smnet.checkpoints.header import is_checkpoint
from smnet.checkpoints.hub import is_address
from smnet.errors import UserError
from smnet.models import VideoModel, load_weights
from smnet.models.registry import input_of


def start_from(model: VideoModel, source: str, *, frozen_norms: bool = False) -> str:
    """Start ``model`` from ``source`` and say in one line what was done.

    Args:
        model: a fresh model, its ``spec`` with class names if they are known. From a checkpoint it
            takes the mean and deviation by which frames are normalised, too.
        source: ``"none"``; ``"imagenet"``; a file of image-network weights (torchvision's names);
            or a checkpoint of this program (a file, or ``hf://owner/name``), whose trunk and
            temporal parts are taken, and its classifier too if it names the same classes in the
            same order and has the same tensors. Of one without tensors of temporal parts (TSN,
            TSM), the trunk alone goes into any family.
        frozen_norms: the normalisations will keep their statistics. Temporal parts that start anew
            change the scale of what comes to them (SMNet's threefold), so that these then have to
            come with the weights.

    Raises:
        UserError: weights that are not to be had or do not fit; ``frozen_norms`` and weights
            without temporal parts for a model with some.
    """
    checkpoint = _read_ours(source)
    own, own_head = _shapes(model.state_dict())
    given, given_head = _shapes({} if checkpoint is None else checkpoint.tensors)
    trunk_alone = own != given and all(map(model.is_trunk_key, given))
    if frozen_norms and trunk_alone and not all(map(model.is_trunk_key, own)):
        raise UserError(
            f"weights={source} with freeze_norm=true: the temporal parts of {model.spec.name} start"
            " anew, and statistics that were taken without them do not fit; give a checkpoint of"
            f" {model.spec.name} (weights=CHECKPOINT), or freeze_norm=false"
        )
    if source == "none":
        return "weights: random"
    if trunk_alone:
        try:
            load_weights(model, source if checkpoint is None else checkpoint.tensors)
        except ValueError as error:
            raise UserError(f"weights={source}: {error}") from None
        whose = "" if checkpoint is None else f" of {checkpoint.spec.name}"
        said = f"weights: the trunk{whose} from {source}; the rest starts anew"
    if checkpoint is None:
        return said
    theirs = checkpoint.spec
    if not trunk_alone:
        named_alike = theirs.class_names and theirs.class_names == model.spec.class_names
        with_head = bool(named_alike) and own_head == given_head
        said = _fine_tune(model, checkpoint, source, with_head)
    if "mean" not in input_of(model.spec.name, model.spec.options):
        model.spec = replace(model.spec, mean=theirs.mean, std=theirs.std)
    return said


def _read_ours(source: str) -> Checkpoint | None:
    """The checkpoint of this program that ``source`` names; None where it names none."""
    path = Path(source)
    if source in ("none", "imagenet"):
        return None
    if is_address(source) or path.is_dir() or is_checkpoint(path):
        return read_checkpoint(source)
    return None


def _shapes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, torch.Size], dict[str, torch.Size]]:
    """The shapes of a model's tensors, and those of its classifier."""
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
    for problem, keys in (("lacks", missing), ("has besides", unknown), ("differs in", misfit)):
        if keys:
            raise UserError(
                f"weights={source}: a {checkpoint.spec.name} that does not fit {model.spec.name}"
                f" as it is set up here: it {problem} {', '.join(keys[:5])}"
            )
    model.load_state_dict(taken, strict=False)
    head = "classifier too" if with_head else "the classifier starts anew"
    return f"weights: {checkpoint.spec.name} from {source}; {head}"
