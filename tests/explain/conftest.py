"""Backends whose scores are known by hand."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from smnet.data.loading.views import Scaler
from smnet.inference.classifier import Classifier
from smnet.models.spec import ModelSpec


class Rising:
    """The score of class 1 is the share of pairs of frames in which brightness grows."""

    spec = ModelSpec("tsn_resnet18", 2, 4, input_size=8, short_side=8, class_names=("no", "yes"))
    recipe: ClassVar[dict[str, object]] = {}
    side = None
    scaler: ClassVar[Scaler] = "pillow"
    classifier = None

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        bright = views[:, 0].mean((2, 3, 4))  # (B, T)
        grows = (np.diff(bright, axis=1) > 0).sum(1) / max(bright.shape[1] - 1, 1)
        return np.stack([1 - grows, grows], 1).astype(np.float32)


class Corner:
    """A linear network: its features are the mean brightness of 4x4 cells, and only the upper left
    one of frame 2 counts."""

    spec = Rising.spec
    recipe: ClassVar[dict[str, object]] = {}
    side = None
    scaler: ClassVar[Scaler] = "pillow"
    classifier = Classifier(np.array([[0], [1]], np.float32), np.zeros(2, np.float32))

    def features(
        self, views: NDArray[np.uint8], pool: Any = lambda maps: maps.mean((3, 4))
    ) -> NDArray[np.float32]:
        cells = views[:, 0].astype(np.float32).mean(2)  # (B, T, 8, 8)
        cells = cells.reshape(*cells.shape[:2], 4, 2, 4, 2).mean((3, 5))
        counted = np.zeros_like(cells)
        counted[:, 1, 0, 0] = cells[:, 1, 0, 0] / 255 * cells[0].size * 4
        pooled: NDArray[np.float32] = pool(counted[:, :, None])[:, None]
        return pooled

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self.features(views)[:, 0].mean((1, 2))
        yes = 1 / (1 + np.exp(-logits))
        return np.stack([1 - yes, yes], 1).astype(np.float32)


@pytest.fixture
def rising() -> Rising:
    return Rising()


@pytest.fixture
def corner() -> Corner:
    return Corner()


def brightening(count: int = 4, side: int = 8) -> NDArray[np.uint8]:
    """A view (T, 3, side, side) that grows brighter."""
    levels = np.linspace(10, 240, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, 3, side, side)).copy()
