"""Reading weights that other programs wrote, without running anything that is in the file.

``.pth`` files are pickles. They are read by PyTorch's ``weights_only`` unpickler, which builds
tensors and plain containers and refuses the rest; safetensors files hold no code at all. Neither
may take more memory than the file has bytes.

Some networks differ in what has no tensors, so that only the name tells them from another.
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
"""Where training programs put the running average of the weights, which they measure and publish;
timm's loader prefers it too."""
WRAPPERS = (*AVERAGED, "state_dict", "model")
"""Where training programs put the weights in what they save, the first that is there."""
PREFIXES = ("module.", "_orig_mod.")
"""What data-parallel training and ``torch.compile`` put before every name."""
MAX_CARD = 1 << 20
"""Bytes of a ``config.json`` that are read."""

_STRIP = (
    "if you trust its origin, save its weights alone, in the environment that wrote it, by"
    " c = torch.load(FILE, weights_only=False); c = c if isinstance(c, dict) else c.state_dict();"
    f" torch.save({{k: c[k] for k in {WRAPPERS} if k in c}} or c, NEW)"
)


class Weights(NamedTuple):
    """The tensors of a file by name, and the key under which they lay ("" at the top)."""

    tensors: dict[str, Tensor]
    under: str = ""


def read_foreign(path: Path) -> Weights:
    """The named tensors of a ``.pth``, ``.pth.tar``, ``.pt`` or ``.safetensors`` file.

    The kind is told by the content. Of :data:`WRAPPERS` the first that is there is opened, and
    :data:`PREFIXES` that all names have are taken off.

    Raises:
        ValueError: no such file, damaged, holding something else, claiming to hold more than it
            does, or values that are not finite; or a name that :func:`check_name` refuses.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file of weights")
    check_name(path)
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
            raise ValueError(f"{path}: {name!r} is of 8 bits, {tensor.dtype}: quantised")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: {name!r} has values that are NaN or infinite")
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return Weights(tensors, under)


def check_name(name: str | Path) -> None:
    """Refuse networks that have the tensors of others: timm's anti-aliased ResNets, with filters
    between the layers, and MMAction2's C2D, which pools over time.

    Raises:
        ValueError: such a network's name, or a path where it stands: of the file or a folder near
            to it, as in the cache of the hub.
    """
    for part in Path(name).parts[-4:]:
        if found := re.search(r"resnet(blur|aa)\d+", part):
            raise ValueError(
                f"{name}: {found[0]} filters between its layers, without any tensor of its own; it"
                " is another network than the ResNet of the same tensors, and not here"
            )
        if re.match(r"c2d_(?!.*nopool)", part):
            raise ValueError(
                f"{name}: C2D pools over time after its first stage, without any tensor for it; it"
                " is another network than the TSN of the same tensors, and not here"
            )


def read_card(path: Path) -> Mapping[str, Any]:
    """What timm's ``config.json`` on the hub says of how the weights beside it were trained:
    ``mean`` and ``std`` of values in [0, 1] among others; {} where there is none.

    Raises:
        ValueError: it names a network that :func:`check_name` refuses.
    """
    file = path.with_name("config.json")
    try:
        written = json.loads(file.read_bytes()) if file.stat().st_size < MAX_CARD else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(written, dict) or not isinstance(written.get("pretrained_cfg"), dict):
        return {}
    check_name(str(written.get("architecture", "")))
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
        # Opened, for PyTorch judges a path by its ending; warnings are of damaged files, which the
        # errors below name.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: object = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = _first_global(str(error))
        if what is None:
            raise ValueError(f"{path}: not a file of weights, or damaged") from None
        raise ValueError(
            f"{path}: holds a {what} besides tensors; to read that, code of the file would have to"
            f" run, so the file is not read; {_STRIP}"
        ) from None
    except Exception as error:  # damaged bytes lead the unpickler to errors of any kind
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ValueError(f"{path}: not a file of weights, or damaged ({reason[:120]})") from None
    return loaded


def _check_container(path: Path) -> None:
    """Refuse what would grow in memory beyond the size of the file."""
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
            raise ValueError(_too_much(path, declared, size))
    # The one thing in a weights_only pickle that is filled to a size the file need not have.
    # Records are stored as they are, so the name would stand there in full.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            raise ValueError(f"{path}: holds a bytearray, which no file of weights does; not read")


def _tensors_of(loaded: object, path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, and the wrapper that they were in."""
    under = ""
    if isinstance(loaded, Mapping):
        under = next((w for w in WRAPPERS if isinstance(loaded.get(w), Mapping)), "")
        loaded = loaded[under] if under else loaded
    if isinstance(loaded, Mapping) and under in AVERAGED:  # PyTorch's AveragedModel counts in it
        loaded = {name: value for name, value in loaded.items() if name != "n_averaged"}
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"{path}: holds no named tensors")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path}: {name!r} is no tensor but a {type(value).__name__};"
                f" looked for named tensors at the top and in {', '.join(WRAPPERS)}"
            )
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise ValueError(f"{path}: {name!r} is sparse, quantised or without data")
    return dict(loaded), under


def _check_sizes(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A pickle can claim any shape: by strides of 0, or by a storage that is grown to it."""
    size = path.stat().st_size
    storages: dict[int, int] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise ValueError(f"{path}: {name!r} claims more values than are stored for it")
    if sum(storages.values()) > size:
        raise ValueError(_too_much(path, sum(storages.values()), size))


def _too_much(path: Path, declared: int, size: int) -> str:
    return f"{path}: claims to hold {declared:,} bytes and has {size:,}; not read"


def _first_global(message: str) -> str | None:
    """The class or function that PyTorch refused to build, from its (long) message."""
    found = re.search(r"GLOBAL ([\w.]+)", message)
    return found[1].rstrip(".") if found else None
