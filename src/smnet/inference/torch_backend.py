"""A checkpoint under PyTorch, prepared for inference."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smnet.checkpoints.file import load
from smnet.data.loading.dataset import read_views
from smnet.data.loading.transforms import normalise
from smnet.data.loading.views import Damage, ViewPlan
from smnet.distributed import choose_device
from smnet.errors import UserError
from smnet.models import VideoModel, fold_norms, to_channels_last
from smnet.models.spec import ModelSpec
from smnet.system import keep_freed_memory

VIEWS_AT_ONCE = 16
"""Views that go through the network together in evaluation, at the most."""


class TorchBackend:
    """A model with its normalisation folded into the convolutions, channels innermost.

    On a CPU the process keeps freed memory (:func:`smnet.system.keep_freed_memory`).

    Attributes:
        model: the prepared copy.
        device: where it runs.
        side: None, crops of any size can be scored.
    """

    side: int | None = None

    def __init__(self, model: VideoModel, device: str = "auto", compiled: bool = False) -> None:
        """Prepare a copy of ``model``; ``compiled`` has torch.compile generate code for it.

        Raises:
            UserError: no such device.
        """
        self.device = choose_device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model = fold_norms(model).to(self.device)
        to_channels_last(self.model)
        self.compiled = compiled
        # Another number of clips than the first is compiled for once more, then for any number.
        self._run: Any = torch.compile(self.model) if compiled else self.model

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str = "auto", compiled: bool = False
    ) -> TorchBackend:
        """Of a checkpoint; see :func:`smnet.checkpoints.file.load`."""
        return cls(load(path), device, compiled)

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    def read(self, path: str, plan: ViewPlan, damage: Damage | None = None) -> NDArray[np.uint8]:
        views: NDArray[np.uint8] = read_views(path, plan, damage=damage).numpy()
        return views

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            scores = score_views(self._run, torch.from_numpy(views))
        except RuntimeError as error:
            if not self.compiled or "ompiler" not in str(error):
                raise
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"backend=compile: torch.compile cannot work here ({reason}); use backend=torch"
            ) from None
        array: NDArray[np.float32] = scores.numpy()
        return array


@torch.inference_mode()
def score_views(
    model: VideoModel,
    views: torch.Tensor,
    autocast: Callable[[], AbstractContextManager[Any]] | None = None,
) -> torch.Tensor:
    """Class scores of videos: softmax of each view, averaged.

    Args:
        model: in evaluation mode.
        views: (B, V, T*L, 3, h, w) uint8, on any device.
        autocast: makes the context the network runs in (mixed precision), none by default.

    Returns:
        (B, K) float32 on the CPU, rows summing to 1.
    """
    device = next(model.parameters()).device
    batch, count = views.shape[:2]
    flat = views.flatten(0, 1)
    scores = []
    for part in flat.split(VIEWS_AT_ONCE):
        clips = normalise(part.to(device, non_blocking=True), model.spec.mean, model.spec.std)
        if autocast is None:
            logits = model(clips)
        else:
            with autocast():
                logits = model(clips)
        scores.append(logits.float().softmax(-1))
    return torch.cat(scores).unflatten(0, (batch, count)).mean(1).cpu()
