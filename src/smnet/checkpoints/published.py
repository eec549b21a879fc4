"""Published networks by name: fetched once, converted strictly, and kept as our checkpoints.

The table ``networks/published.csv`` holds facts from the model zoo of MMAction2 (``sha256`` is the
beginning of the hash in its file names; accuracies are those that it states). Networks that are
published in several versions have one without a suffix; ``16f`` is 16 frames.

Does not import PyTorch until a file is converted.
"""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from smnet.errors import UserError
from smnet.files import wait_for
from smnet.system import cache_folder

HOST = "https://download.openmmlab.com/mmaction/v1.0/recognition/"
NETWORKS = Path(__file__).parent / "networks"
SHIPPED = {"motion": NETWORKS / "motion.safetensors"}
"""Networks whose checkpoint is part of the package."""
DATASETS = {
    "kinetics400": "Kinetics-400",
    "kinetics700": "Kinetics-700",
    "kinetics710": "Kinetics-710",
    "somethingv1": "Something-Something V1",
    "somethingv2": "Something-Something V2",
}
MAX_BYTES = 1 << 30
"""Largest file that is fetched; the largest published one has a quarter of it."""


@dataclass(frozen=True)
class Published:
    """A network that another program published.

    Attributes:
        name: ``MODEL-DATASET`` or ``MODEL-DATASET-VERSION``.
        frames: of a clip.
        sampling: as its publisher writes it, frames x interval x clips or 1 x 1 x segments.
        start: what it was trained from.
        top1, top5: published accuracy, per cent.
        protocol: of these numbers.
        params: number of parameters.
        sha256: how the hash of the file begins.
        file: its path at :data:`HOST`.
    """

    name: str
    frames: int
    sampling: str
    start: str
    top1: float
    top5: float
    protocol: str
    params: str
    sha256: str
    file: str

    @property
    def model(self) -> str:
        """Its name in ``smnet models``."""
        return self.name.partition("-")[0]

    @property
    def dataset(self) -> str:
        """The data set that it was trained on, a key of :data:`DATASETS`."""
        return self.name.split("-")[1]

    @property
    def megabytes(self) -> int:
        """Size of the file: four bytes a parameter."""
        return round(float(self.params.removesuffix("M")) * 4)

    @property
    def address(self) -> str:
        return HOST + self.file

    @property
    def class_names(self) -> Path | None:
        """The file of its class names; None where the package has none."""
        path = NETWORKS / f"{self.dataset}.txt"
        return path if path.is_file() else None


@cache
def published() -> Mapping[str, Published]:
    """The published networks by name."""
    with (NETWORKS / "published.csv").open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    kinds = {"frames": int, "top1": float, "top5": float}
    return {
        row["name"]: Published(**row | {key: kind(row[key]) for key, kind in kinds.items()})
        for row in rows
    }


def is_name(source: str | os.PathLike[str]) -> bool:
    """Whether ``source`` names a known network. ``./NAME`` is a path."""
    return isinstance(source, str) and (source in SHIPPED or source in published())


def checkpoint_of(name: str) -> Path:
    """Our checkpoint of a known network, fetched and converted if it is not in the cache.

    Raises:
        UserError: the file cannot be fetched or converted.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    network = published()[name]
    folder = cache_folder("weights")
    checkpoint = folder / f"{name}.safetensors"
    if checkpoint.is_file():
        return checkpoint
    with wait_for(folder / f"{name}.lock"):
        if not checkpoint.is_file():  # another process made it meanwhile
            _make(network, folder, checkpoint)
    return checkpoint


def did_you_mean(source: str) -> str:
    """The names of networks like ``source``, for messages; "" if none is."""
    near = difflib.get_close_matches(source, [*SHIPPED, *published()], n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _make(network: Published, folder: Path, checkpoint: Path) -> None:
    """Fetch, check, convert, write."""
    from smnet.checkpoints.download import fetch, sha256_of  # a cold start needs no network

    original = folder / Path(network.file).name
    by_hand = original.is_file()
    if by_hand:
        if not sha256_of(original).startswith(network.sha256):
            raise UserError(
                f"{original} is damaged or another file (its SHA-256 does not begin"
                f" {network.sha256}); delete it"
            )
    else:
        fetch(network.address, original, network.sha256, MAX_BYTES, network.name)
    try:
        from smnet.checkpoints.convert import convert
        from smnet.checkpoints.save import Checkpoint, save_checkpoint
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(
            f"{network.name}: converting it needs PyTorch, which is not installed here; install"
            " torch, or copy the file that `smnet export` writes elsewhere"
        ) from None
    converted = convert(original, classes=network.class_names).checkpoint
    about = {
        "top1": network.top1 / 100,
        "top5": network.top5 / 100,
        "views": network.protocol,
        "source": "MMAction2's model zoo; no figure of ours",
    }
    recipe = {**converted.recipe, "address": network.address, "expected": about}
    save_checkpoint(checkpoint, Checkpoint(converted.spec, converted.tensors, recipe))
    if not by_hand:
        original.unlink()
