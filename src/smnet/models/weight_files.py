"""Reads weights that other programs wrote. Code in a file is never run.

``.pth`` files are pickles. PyTorch's ``weights_only`` unpickler builds tensors and plain containers
and refuses anything else. safetensors files hold no code. A file that claims more memory than it
has bytes is refused.
"""

from __future__ import annotations

import json
import mmap
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

AVERAGED = ("state_dict_ema", "model_ema")
"""Keys of the running average of the weights, which programs evaluate and publish. timm's loader
prefers it, too."""
WRAPPERS = (*AVERAGED, "state_dict", "model")
"""Keys of the weights in a training checkpoint. The first one present is used."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes of data-parallel training and of ``torch.compile``."""
MAX_CONFIG = 1 << 20
"""Largest ``config.json`` that is read, bytes."""

_STRIP = (
    "if you trust its origin, save its weights alone, in the environment that wrote it, by"
    " c = torch.load(FILE, weights_only=False); c = c if isinstance(c, dict) else c.state_dict();"
    f" torch.save({{k: c[k] for k in {WRAPPERS} if k in c}} or c, NEW)"
)


class Weights(NamedTuple):
    """The tensors of a file by name, and the key that held them ("" at the top)."""

    tensors: dict[str, Tensor]
    under: str = ""


def read_weight_file(path: Path) -> Weights:
    """The named tensors of a ``.pth``, ``.pth.tar``, ``.pt`` or ``.safetensors`` file.

    The format is recognised by the content. The weights are at the top or under the first of
    :data:`WRAPPERS`. :data:`PREFIXES` of all names are removed.

    Raises:
        ValueError: no such file; a damaged file or one without weights; more values claimed than
            stored; values that are not finite; a name that :func:`check_architecture` refuses.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file of weights")
    check_architecture(path)
    with path.open("rb") as file:
        begin = file.read(9)
    under = ""
    if len(begin) == 9 and begin[8:] == b"{":
        tensors = _read_safetensors(path)
    else:
        tensors, under = _tensors_of(_unpickle(path), path)
        _check_sizes(tensors, path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.itemsize == 1:
            raise ValueError(f"{path}: {name!r} is quantised to 8 bits ({tensor.dtype})")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: {name!r} has values that are NaN or infinite")
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return Weights(tensors, under)


def check_architecture(name: str | Path) -> None:
    """Refuse networks that only their name tells from one with the same tensors.

    These are timm's anti-aliased ResNets, with filters between the layers, and MMAction2's C2D,
    which pools over time.

    Raises:
        ValueError: the name of such a network, as the file or as one of the folders above it (the
            hub's cache has it there).
    """
    for part in Path(name).parts[-4:]:
        if found := re.search(r"resnet(blur|aa)\d+", part):
            raise ValueError(
                f"{name}: {found[0]} has filters without tensors between its layers; it is not the"
                " ResNet with the same tensors, and is not supported"
            )
        if re.match(r"c2d_(?!.*nopool)", part):
            raise ValueError(
                f"{name}: C2D pools over time after its first stage; it is not the TSN with the"
                " same tensors, and is not supported"
            )


def read_timm_config(path: Path) -> Mapping[str, Any]:
    """``pretrained_cfg`` of timm's ``config.json`` in the folder of the weights.

    It holds, among others, ``mean`` and ``std`` of pixel values in [0, 1]. It is empty where there
    is no such file.

    Raises:
        ValueError: the file names a network that :func:`check_architecture` refuses.
    """
    file = path.with_name("config.json")
    try:
        written = json.loads(file.read_bytes()) if file.stat().st_size < MAX_CONFIG else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(written, dict) or not isinstance(written.get("pretrained_cfg"), dict):
        return {}
    check_architecture(str(written.get("architecture", "")))
    return cast(Mapping[str, Any], written["pretrained_cfg"])


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged or cut short ({error})") from None
    if not tensors:
        raise ValueError(f"{path}: holds no tensors")
    return tensors


def _unpickle(path: Path) -> object:
    _check_container(path)
    try:
        # A path would be judged by its suffix. Warnings concern damage, which raises an error
        # below.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: object = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        kind = _refused_class(str(error))
        if kind is None:
            raise ValueError(f"{path}: not a file of weights, or damaged") from None
        raise ValueError(
            f"{path}: holds a {kind} besides tensors, which cannot be read without running code of"
            f" the file; {_STRIP}"
        ) from None
    except Exception as error:  # damaged bytes raise errors of any class in the unpickler
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ValueError(f"{path}: not a file of weights, or damaged ({reason[:120]})") from None
    return loaded


def _check_container(path: Path) -> None:
    """Refuse files that would take more memory than they have bytes."""
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path}: an empty file")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                declared = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise ValueError(f"{path}: damaged or cut short ({error})") from None
        if declared > size:
            raise ValueError(_claims_more(path, declared, size))
    # A bytearray is the only object of a weights_only pickle that is filled to a claimed size.
    # Records are not compressed, so its name would appear in the file.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            raise ValueError(f"{path}: refused, because it holds a bytearray besides tensors")


def _tensors_of(loaded: object, path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, and the key that held them."""
    under = ""
    if isinstance(loaded, Mapping):
        under = next((w for w in WRAPPERS if isinstance(loaded.get(w), Mapping)), "")
        loaded = loaded[under] if under else loaded
    if isinstance(loaded, Mapping) and under in AVERAGED:  # the counter of AveragedModel
        loaded = {name: value for name, value in loaded.items() if name != "n_averaged"}
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"{path}: holds no named tensors")
    for name, value in loaded.items():
        if not isinstance(name, str):
            raise ValueError(f"{path}: the key {name!r} is not the name of a tensor")
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{path}: {name!r} is a {type(value).__name__}, not a tensor; named tensors are"
                f" expected at the top or under {', '.join(WRAPPERS)}"
            )
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise ValueError(f"{path}: {name!r} is sparse, quantised or without data")
    return dict(loaded), under


def _check_sizes(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors with more values than the file stores, such as those with strides of 0."""
    size = path.stat().st_size
    storages: dict[int, int] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise ValueError(f"{path}: {name!r} claims more values than are stored for it")
    if sum(storages.values()) > size:
        raise ValueError(_claims_more(path, sum(storages.values()), size))


def _claims_more(path: Path, declared: int, size: int) -> str:
    return f"{path}: refused, because it claims {declared:,} bytes and has {size:,}"


def _refused_class(message: str) -> str | None:
    """The class or function that PyTorch refused to build, from its message."""
    found = re.search(r"GLOBAL ([\w.]+)", message)
    return found[1].rstrip(".") if found else None
