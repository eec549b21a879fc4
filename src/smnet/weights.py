"""What a new model starts from: image-network weights, or a checkpoint of ours to fine-tune."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from smnet.checkpoint import FORMAT, read_checkpoint
from smnet.errors import UserError
from smnet.hub import is_address
from smnet.models import VideoModel, load_weights


def start_from(model: VideoModel, source: str) -> str:
    """Start ``model`` from ``source`` and say in one line what was done.

    Args:
        model: a fresh model, its ``spec`` with class names if they are known.
        source: ``"none"``; ``"imagenet"``; a file of image-network weights (torchvision's names);
            or a checkpoint of this program (a file, or ``hf://owner/name``), whose trunk and
            temporal parts are taken, and its classifier too if it names the same classes in the
            same order.

    Raises:
        UserError: weights that are not to be had or do not fit.
    """
    if source == "none":
        return "weights: random"
    if source != "imagenet" and (Path(source).is_dir() or _is_checkpoint(source)):
        return _fine_tune(model, source)
    try:
        load_weights(model, source)
    except ValueError as error:
        raise UserError(f"weights={source}: {error}") from None
    return f"weights: the trunk from {source}; the rest starts anew"


def _fine_tune(model: VideoModel, source: str) -> str:
    checkpoint = read_checkpoint(source)
    own = model.state_dict()
    same_classes = (
        checkpoint.spec.class_names is not None
        and checkpoint.spec.class_names == model.spec.class_names
    )
    taken = {k: v for k, v in checkpoint.tensors.items() if same_classes or not k.startswith("fc.")}
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
    head = "classifier too" if same_classes else "the classifier starts anew"
    return f"weights: {checkpoint.spec.name} from {source}; {head}"


def _is_checkpoint(source: str) -> bool:
    if is_address(source):
        return True
    try:
        with safe_open(source, framework="pt") as file:
            return (file.metadata() or {}).get("format", "").startswith(FORMAT.partition("/")[0])
    except (SafetensorError, OSError):
        return False
