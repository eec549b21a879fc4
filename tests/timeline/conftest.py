"""A tiny network that knows three tints, and recordings made of stretches of tint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.data.loading.views import Scaler
from smnet.models.registry import new_model
from smnet.models.spec import ModelSpec
from tests.videos import moving_frames, write_video

NAMES = ("blue", "none", "red")
TINTS = {"red": (1.0, 0.25, 0.25), "none": (0.6, 0.6, 0.6), "blue": (0.25, 0.25, 1.0)}
FPS = 20
Parts = Sequence[tuple[str, float]]
"""(label, seconds) one after another."""

PARTS: Parts = (("none", 2), ("red", 3), ("none", 2.5), ("blue", 2), ("red", 2), ("none", 1.5))


def recording(path: Path, parts: Parts = PARTS, variable: bool = False) -> Path:
    """A recording of stretches; with ``variable`` frame rates of 20 and 10 by turns."""
    frames: list[NDArray[np.uint8]] = []
    stamps: list[int] = []
    begin = 0.0
    for number, (label, seconds) in enumerate(parts):
        rate = FPS // 2 if variable and number % 2 else FPS
        count = round(seconds * rate)
        moving = moving_frames(count, 48, 32, seed=number)
        frames += list((moving * np.array(TINTS[label])).astype(np.uint8))
        stamps += [round(1000 * (begin + i / rate)) for i in range(count)]
        begin += seconds
    if variable:
        return write_video(path, np.stack(frames), timestamps=stamps, gop=30)
    return write_video(path, np.stack(frames), fps=FPS, gop=30, bframes=2)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose scores follow the tint of the frames."""
    torch.manual_seed(0)
    model = new_model("tsn_resnet18", len(NAMES), 2, {"width": 8}).eval()
    means = []
    with torch.no_grad():
        for name in NAMES:
            frames = moving_frames(8, 32, 32) * np.array(TINTS[name])
            clip = torch.from_numpy(frames / 255).float().permute(0, 3, 1, 2)[None]
            shift = torch.tensor(model.spec.mean).view(3, 1, 1)
            scale = torch.tensor(model.spec.std).view(3, 1, 1)
            features = model.forward_features((clip - shift) / scale)
            means.append(features.mean(dim=(0, 1, 3, 4)))
        centres = torch.stack(means)
        # The nearest centre: x . c - |c|^2 / 2, with distinct scores.
        gap = torch.cdist(centres, centres).square()[0, 1:].min()
        model.fc.weight.copy_(centres * 12 / gap)
        model.fc.bias.copy_(-centres.square().sum(1) / 2 * 12 / gap)
    model.spec = replace(
        model.spec, class_names=NAMES, input_size=32, short_side=32, clip_seconds=1.0
    )
    path = tmp_path_factory.mktemp("network") / "tints.safetensors"
    save_checkpoint(path, Checkpoint(model.spec, model.state_dict()))
    return path


class TintBackend:
    """Scores by the colours of the frames, without a network."""

    spec = ModelSpec("tsn_resnet18", len(NAMES), 4, input_size=16, short_side=16, class_names=NAMES)
    recipe: ClassVar[dict[str, object]] = {}
    side = None
    scaler: ClassVar[Scaler] = "pillow"

    def score(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean over the frames of one label each: (B, V, T, 3, h, w) -> (B, 3)."""
        red, _, blue = np.moveaxis(views.mean(axis=(1, 4, 5)), -1, 0)
        label = np.where(blue > 1.3 * red, 0, np.where(red > 1.3 * blue, 2, 1))
        return np.eye(len(NAMES), dtype=np.float32)[label].mean(axis=1)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 13 seconds at 20 frames per second."""
    return recording(tmp_path_factory.mktemp("films") / "film.mp4")
