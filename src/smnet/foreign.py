"""Reading weights that other programs wrote, without running anything that is in the file.

``.pth`` files are pickles. They are read by PyTorch's ``weights_only`` unpickler, which builds
tensors and plain containers and refuses the rest; safetensors files hold no code at all. Neither
may take more memory than the file has bytes.
"""

from __future__ import annotations

import mmap
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from smnet.errors import UserError

WRAPPERS = ("state_dict", "model")
"""Where training programs put the weights in what they save."""

_STRIP = (
    "if you trust its origin, save its weights alone, in the environment that wrote it, by"
    ' torch.save({"state_dict": torch.load(FILE, weights_only=False)["state_dict"]}, NEW)'
)


def read_foreign(path: Path) -> dict[str, Tensor]:
    """The named tensors of a ``.pth``, ``.pth.tar``, ``.pt`` or ``.safetensors`` file.

    The kind is told by the content. Wrappers (``{"state_dict": ...}``) are opened, and the
    ``module.`` of data-parallel training is taken off the names.

    Raises:
        UserError: no such file, damaged, holding something else, or claiming to hold more than
            it does.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        begin = file.read(9)
    if len(begin) == 9 and begin[8:] == b"{":
        tensors = _read_safetensors(path)
    else:
        tensors = _tensors_of(_unpickle(path), path)
        _check_sizes(tensors, path)
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            if "smnet" in (file.metadata() or {}).get("format", ""):
                raise UserError(f"{path}: a checkpoint of smnet already; there is nothing to do")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or cut short ({error})") from None
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    return tensors


def _unpickle(path: Path) -> object:
    _check_container(path)
    try:
        with warnings.catch_warnings():  # of damaged files, which the errors below name
            warnings.simplefilter("ignore")
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = _first_global(str(error))
        if what is None:
            raise UserError(f"{path}: not a file of weights, or damaged") from None
        raise UserError(
            f"{path}: holds a {what} besides tensors; to read that, code of the file would have to"
            f" run, so the file is not read; {_STRIP}"
        ) from None
    except Exception as error:  # damaged bytes lead the unpickler to errors of any kind
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise UserError(f"{path}: not a file of weights, or damaged ({reason[:120]})") from None
    return loaded


def _check_container(path: Path) -> None:
    """Refuse what would grow in memory beyond the size of the file."""
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path}: an empty file")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                declared = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise UserError(f"{path}: damaged or cut short ({error})") from None
        if declared > size:
            raise UserError(_too_much(path, declared, size))
    # The one thing in a weights_only pickle that is filled to a size the file need not have.
    # Records are stored as they are, so the name would stand there in full.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            raise UserError(f"{path}: holds a bytearray, which no file of weights does; not read")


def _tensors_of(loaded: object, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"{path}: holds no named tensors")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: {name!r} is no tensor but a {type(value).__name__};"
                f" looked for named tensors at the top and in {', '.join(WRAPPERS)}"
            )
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise UserError(f"{path}: {name!r} is sparse, quantised or without data")
    return dict(loaded)


def _check_sizes(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A pickle can claim any shape: by strides of 0, or by a storage that is grown to it."""
    size = path.stat().st_size
    storages: dict[int, int] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise UserError(f"{path}: {name!r} claims more values than are stored for it")
    if sum(storages.values()) > size:
        raise UserError(_too_much(path, sum(storages.values()), size))


def _too_much(path: Path, declared: int, size: int) -> str:
    return f"{path}: claims to hold {declared:,} bytes and has {size:,}; not read"


def _first_global(message: str) -> str | None:
    """The class or function that PyTorch refused to build, from its (long) message."""
    found = re.search(r"GLOBAL ([\w.]+)", message)
    return found[1].rstrip(".") if found else None
