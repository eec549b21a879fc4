"""Starting weights of a trunk: ImageNet, from a file, the cache or the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from .base import VideoModel
from .foreign import read_foreign

# torchvision's IMAGENET1K_V1 files, and Res2Net's (26w x 4s, not the v1b with another stem) as timm
# mirrors it; its authors' repository is licensed for non-commercial use. The eight hex digits begin
# the file's SHA-256.
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
    """Start the trunk of ``model`` from image-network weights in torchvision's names.

    Args:
        model: any model on a trunk with torchvision's names.
        source: ``"imagenet"``, a path to a ``.pth`` or ``.safetensors`` file, or the tensors.

    Everything of the trunk must be found and fit; the classifier (``fc``) and temporal parts are
    left as they are. Nothing is loaded when anything is wrong.

    Raises:
        ValueError: weights not to be had, damaged, or not of this trunk.
    """
    if isinstance(source, Mapping):
        state, where = source, "the given tensors"
    elif str(source) == "imagenet":
        path = imagenet_file(model.spec.name.partition("_")[2])
        state, where = read_foreign(path).tensors, str(path)
    else:
        state, where = read_foreign(Path(source)).tensors, str(source)
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
    for problem, keys in (("lacks", missing), ("has besides", unknown), ("does not fit", misfit)):
        if keys:
            shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
            raise ValueError(f"{where} is not a trunk of {model.spec.name}: it {problem} {shown}")
    model.load_state_dict(given, strict=False)


def imagenet_file(trunk: str) -> Path:
    """Path of the published ImageNet weights of ``trunk``, fetched into the cache if need be.

    Raises:
        ValueError: no weights are published for it, the file is not to be had, or its hash is
            wrong; the message says which file to put where.
    """
    if trunk not in PUBLISHED:
        raise ValueError(f"no ImageNet weights are known for {trunk}; give a file, or weights=none")
    name = PUBLISHED[trunk]
    url = _HOSTS.get(trunk, _HOST) + name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=True)
        except (URLError, OSError) as error:
            raise ValueError(
                f"cannot fetch {url} ({error}); put the file at {path},"
                " give another with weights=FILE, or start without: weights=none"
            ) from None
    expected = name.rsplit("-", 1)[1].removesuffix(".pth")
    if not _sha256(path).startswith(expected):
        raise ValueError(f"{path} is damaged (its SHA-256 does not begin {expected}); delete it")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
