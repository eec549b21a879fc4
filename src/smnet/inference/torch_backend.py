"""A checkpoint under PyTorch, prepared for inference; or the live model of a training run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from smnet.checkpoints.file import open_model
from smnet.data.clips import Part
from smnet.data.loading.dataset import read_views
from smnet.data.loading.transforms import normalise
from smnet.data.loading.views import Damage, Scaler, ViewPlan
from smnet.distributed import choose_device
from smnet.errors import UserError
from smnet.inference.classifier import Classifier
from smnet.models import VideoModel, accelerate, to_channels_last
from smnet.models.base import over_space, probabilities
from smnet.models.spec import ModelSpec
from smnet.system import keep_freed_memory

VIEWS_AT_ONCE = 16
"""Views per forward pass."""

if hasattr(os, "register_at_fork"):
    # A forked child has none of the threads of PyTorch's pool (GNU OpenMP) and would wait for them.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TorchBackend:
    """A model prepared for inference: normalisation folded into convolutions, channels last.

    On a CPU the process keeps freed memory (:func:`smnet.system.keep_freed_memory`). ``model`` is
    the prepared copy; of :meth:`live`, the model itself.
    """

    side: int | None = None  # crops of any size can be scored
    scaler: ClassVar[Scaler] = "torch"

    def __init__(
        self,
        model: VideoModel,
        device: str = "auto",
        compiled: bool = False,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        self.device = choose_device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model = accelerate(model, "inference").to(self.device)
        to_channels_last(self.model)
        self.recipe: Mapping[str, Any] = recipe or {}
        self.compiled = compiled
        self._autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        # A second batch size compiles once more, for any batch size.
        network = self.model if self.model.discriminants is None else self.model.judge
        self._network: Any = torch.compile(network) if compiled else network

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str = "auto", compiled: bool = False
    ) -> Self:
        """Open a checkpoint; see :func:`smnet.checkpoints.file.open_model`."""
        model, recipe = open_model(path)
        return cls(model, device, compiled, recipe)

    @classmethod
    def live(
        cls,
        model: VideoModel,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Self:
        """Score with ``model`` itself, in evaluation mode, where it is; for validation during
        training. ``autocast`` makes the context of mixed precision in which the network runs."""
        backend = cls.__new__(cls)
        backend.model = backend._network = model
        backend.device = next(model.parameters()).device
        backend.recipe, backend.compiled, backend._autocast = {}, False, autocast
        return backend

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    def read(
        self,
        path: str | NDArray[np.uint8],
        plan: ViewPlan,
        damage: Damage | None = None,
        part: Part | None = None,
    ) -> NDArray[np.uint8]:
        return read_views(path, plan, part=part, damage=damage).numpy()

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.judge(views)[0]

    @torch.inference_mode()
    def judge(
        self, views: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        batch, count = views.shape[:2]
        parts, far = [], []
        for part in torch.from_numpy(views).flatten(0, 1).split(VIEWS_AT_ONCE):
            frames = part.to(self.device, non_blocking=True)
            clips = normalise(frames, self.spec.mean, self.spec.std)
            with self._autocast():
                logits, distances = self._forward(clips)
            parts.append(probabilities(logits.float(), self.spec))
            if distances is not None:
                far.append(distances.float())
        scores, beyond = (
            torch.cat(rows).unflatten(0, (batch, count)).mean(1).cpu().numpy() if rows else None
            for rows in (parts, far)
        )
        assert scores is not None  # there are views
        return scores, beyond

    @torch.inference_mode()
    def features(
        self,
        views: NDArray[np.uint8],
        pool: Callable[[torch.Tensor], torch.Tensor] = over_space,
    ) -> NDArray[np.float32]:
        parts = []
        for part in torch.from_numpy(views).flatten(0, 1).split(VIEWS_AT_ONCE):
            frames = part.to(self.device, non_blocking=True)
            clips = normalise(frames, self.spec.mean, self.spec.std)
            with self._autocast():
                parts.append(pool(self.model.forward_features(clips)).float())
        array: NDArray[np.float32] = torch.cat(parts).unflatten(0, views.shape[:2]).cpu().numpy()
        return array

    @property
    def classifier(self) -> Classifier | None:
        linear = self.model.fc
        own_head = type(self.model).forward_head is not VideoModel.forward_head
        if own_head or not isinstance(linear, nn.Linear):
            return None
        weight, bias = (x.detach().float().cpu().numpy() for x in (linear.weight, linear.bias))
        return Classifier(weight, bias)

    def gradients(
        self, views: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gradient times features of one view (1, T*L, 3, h, w), for any head.

        Returns:
            (K, T', h, w), summed over the channels, and the logits (K,).
        """
        frames = torch.from_numpy(views).to(self.device)
        clips = normalise(frames, self.spec.mean, self.spec.std)
        with torch.no_grad(), self._autocast():
            features = self.model.forward_features(clips)
        with torch.enable_grad(), self._autocast():
            features.requires_grad_()
            logits = self.model.forward_head(features)[0]
            slopes = [torch.autograd.grad(x, features, retain_graph=True)[0] for x in logits]
        maps = torch.cat([(slope * features.detach()).sum(2) for slope in slopes])
        return maps.float().cpu().numpy(), logits.detach().float().cpu().numpy()

    def _forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        try:
            judged = self._network(clips)
        except RuntimeError as error:
            if not self.compiled or "ompiler" not in str(error):
                raise
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"backend=compile: torch.compile does not work here ({reason}); use backend=torch"
            ) from None
        return judged if isinstance(judged, tuple) else (judged, None)
