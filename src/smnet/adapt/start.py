"""The recipe of an adaptation: the network and its input as the start has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from smnet.checkpoints.header import is_checkpoint, is_path, read_header
from smnet.errors import UserError
from smnet.inference.torch_backend import TorchBackend
from smnet.models.imagenet import PUBLISHED, load_weights
from smnet.models.registry import new_model
from smnet.models.weight_files import read_weight_file
from smnet.recipes.recipe import Recipe, read_recipe

IMAGES: dict[str, Any] = {"size": 112, "segments": 8}
"""Input of a network that starts from the weights of an image network."""


def start_recipe(start: str, keys: Iterable[str], values: Mapping[str, Any]) -> Recipe:
    """The recipe by which a network is adapted.

    Args:
        start: a checkpoint of smnet (name, address, run or file), a file with the weights of an
            image network, or ``"imagenet"``.
        keys: ``key=value``, which win over those of the start.
        values: further keys as plain values.

    Raises:
        UserError: a start that cannot be read, or impossible keys.
    """
    keys = list(keys)
    given = {key.partition("=")[0].strip() for key in keys}
    path = Path(start)
    if start != "imagenet" and (not is_path(start) or path.is_dir() or is_checkpoint(path)):
        spec = read_header(start).spec
        own: dict[str, Any] = {
            "model": spec.name,
            "options": dict(spec.options),
            "segments": spec.num_segments,
            "sampling": spec.sampling,
            "size": spec.input_size,
            "short_side": spec.short_side,
        }
        if "size" in given:
            del own["short_side"]
    else:
        own = {"model": "tsn_resnet50" if start == "imagenet" else _network_of(path), **IMAGES}
    own = {k: v for k, v in own.items() if k not in given}
    return read_recipe(None, keys, {**own, **values, "weights": start})


def open_start(start: str, device: str = "auto") -> TorchBackend:
    """The network of a start, ready to compute features.

    Args:
        start: as in :func:`start_recipe`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        UserError: a start that cannot be read.
    """
    path = Path(start)
    if start != "imagenet" and (not is_path(start) or path.is_dir() or is_checkpoint(path)):
        return TorchBackend.load(start, device)
    name = "tsn_resnet50" if start == "imagenet" else _network_of(path)
    model = new_model(name, 1, IMAGES["segments"], {})
    try:
        load_weights(model, start)
    except ValueError as error:
        raise UserError(str(error)) from None
    side = IMAGES["size"]
    model.spec = replace(model.spec, input_size=side, short_side=round(side * 256 / 224))
    return TorchBackend(model, device)


def _network_of(path: Path) -> str:
    """TSN on the trunk that a file of weights fits.

    Raises:
        UserError: no trunk fits.
    """
    try:
        tensors = read_weight_file(path).tensors
    except ValueError as error:
        raise UserError(str(error)) from None
    for trunk in PUBLISHED:
        try:
            load_weights(new_model(f"tsn_{trunk}", 2, 1, {}), tensors)
        except ValueError:
            continue
        return f"tsn_{trunk}"
    raise UserError(
        f"{path}: the weights of none of the trunks {', '.join(PUBLISHED)}; name the network with"
        " model=NAME, or convert the file (smnet convert)"
    )
