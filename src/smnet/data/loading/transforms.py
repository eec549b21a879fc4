"""Scaling on the CPU in uint8; normalisation and mixing on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def scale_with_torch(
    frames: Sequence[NDArray[np.uint8]], height: int, width: int
) -> NDArray[np.uint8]:
    """Bilinear with antialiasing, N frames (H, W, 3) -> (N, height, width, 3).

    Within one grey level of Pillow's filter, see :data:`smnet.data.loading.views.Scale`.
    """
    stacked = np.stack(frames)
    if stacked.shape[1:3] == (height, width):
        return stacked
    pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2)
    scaled = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return scaled.permute(0, 2, 3, 1).numpy()


def normalise(
    clips: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """uint8 (..., 3, H, W) in [0, 255] -> float32 normalised, on the tensor's device."""
    return standardise(clips.float().div_(255), mean, std)


def standardise(
    clips: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Float32 (..., 3, H, W) in [0, 1] -> normalised, in place."""
    shift = torch.tensor(mean, device=clips.device).view(3, 1, 1)
    scale = torch.tensor(std, device=clips.device).view(3, 1, 1)
    return clips.sub_(shift).div_(scale)


def mix_clips(
    clips: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix a batch with itself in reverse order: Mixup (Zhang et al., 2018) or CutMix (Yun et al.,
    2019).

    If both are on, one of them is drawn for the whole batch with equal chance. The box of CutMix is
    the same on all frames of a clip.

    Args:
        clips: (B, T, 3, H, W) float.
        targets: (B, K) probabilities.
        mixup, cutmix: parameter alpha of the Beta distribution of the share; 0 is off.
        generator: a CPU generator, part of the state of the run.

    Returns:
        Clips and targets of the same shapes.
    """
    if mixup <= 0 and cutmix <= 0:
        return clips, targets
    cut = cutmix > 0 and (mixup <= 0 or torch.rand((), generator=generator).item() < 0.5)
    share = _beta(cutmix if cut else mixup, generator)
    if cut:
        height, width = clips.shape[-2:]
        box_h, box_w = (round(side * (1 - share) ** 0.5) for side in (height, width))
        top = int(torch.randint(height - box_h + 1, (), generator=generator))
        left = int(torch.randint(width - box_w + 1, (), generator=generator))
        mixed = clips.clone()
        box = (..., slice(top, top + box_h), slice(left, left + box_w))
        mixed[box] = clips.flip(0)[box]
        share = 1 - box_h * box_w / (height * width)
    else:
        mixed = clips.lerp(clips.flip(0), 1 - share)
    return mixed, targets.lerp(targets.flip(0), 1 - share)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha)."""
    shape = torch.full((2,), alpha, dtype=torch.float64)
    a, b = torch._standard_gamma(shape, generator=generator).tolist()
    return a / (a + b) if a + b > 0 else 0.5
