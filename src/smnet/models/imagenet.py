"""Start weights of a trunk: the published ImageNet weights, or a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from .base import VideoModel
from .weight_files import read_weight_file

# torchvision's IMAGENET1K_V1 files, and Res2Net's 26w x 4s from timm's mirror (its authors'
# repository is licensed for non-commercial use). The hexadecimal digits are the start of the file's
# SHA-256.
_HOST = "https://download.pytorch.org/models/"
_HOSTS = {
    "res2net50": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-res2net/"
}
PUBLISHED = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "res2net50": "res2net50_26w_4s-06e79181.pth",
    "mobilenetv2": "mobilenet_v2-b0353104.pth",
}


def load_weights(model: VideoModel, source: str | os.PathLike[str] | Mapping[str, Tensor]) -> None:
    """Load image-network weights into the trunk of ``model``.

    All tensors of the trunk must be present and fit, otherwise nothing is loaded. The classifier
    (``fc``) and the temporal parts are not changed.

    Args:
        model: a model of any family.
        source: ``"imagenet"``, a path to a ``.pth`` or ``.safetensors`` file, or the tensors by
            torchvision's names.

    Raises:
        ValueError: weights that are unavailable, damaged, or of another network.
    """
    if isinstance(source, Mapping):
        state, where = source, "the mapping of tensors"
    elif str(source) == "imagenet":
        path = imagenet_file(model.spec.name.partition("_")[2])
        state, where = read_weight_file(path).tensors, str(path)
    else:
        state, where = read_weight_file(Path(source)).tensors, str(source)
    given = model.trunk_weights(state)
    own = model.state_dict()
    wanted = [k for k in own if model.is_trunk_key(k) and not k.endswith("num_batches_tracked")]
    missing = [k for k in wanted if k not in given]
    unknown = [k for k in given if k not in own]
    misfit = [
        f"{k}: {tuple(given[k].shape)} for {tuple(own[k].shape)}"
        for k in given
        if k in own and given[k].shape != own[k].shape
    ]
    problems = (("it lacks", missing), ("it also has", unknown), ("the shape differs in", misfit))
    for problem, keys in problems:
        if keys:
            shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
            raise ValueError(f"{where} is not a trunk of {model.spec.name}: {problem} {shown}")
    model.load_state_dict(given, strict=False)


def imagenet_file(trunk: str) -> Path:
    """Path of the published ImageNet weights of ``trunk``, downloaded into the cache if missing.

    Raises:
        ValueError: no published weights, a failed download, or a wrong hash. The message names the
            file and its place.
    """
    if trunk not in PUBLISHED:
        raise ValueError(f"no ImageNet weights are published for {trunk}; use weights=FILE or none")
    name = PUBLISHED[trunk]
    url = _HOSTS.get(trunk, _HOST) + name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=True)
        except (URLError, OSError) as error:
            raise ValueError(
                f"cannot download {url} ({error}); put the file at {path}, or use weights=FILE or"
                " weights=none"
            ) from None
    expected = name.rsplit("-", 1)[1].removesuffix(".pth")
    if not sha256(path).startswith(expected):
        raise ValueError(f"{path} is damaged (its SHA-256 does not begin {expected}); delete it")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
