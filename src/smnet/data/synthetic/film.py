"""What a film adds to a scene: light, lens, sensor and encoder."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smnet.data.synthetic.layers import sway


def film(rng: np.random.Generator, clip: Tensor, adjacent: int) -> Tensor:
    """Light, lens, sensor and encoder: (n, 3, s, s) -> the same, in [0, 1]."""
    count, side = len(clip), clip.shape[-1]
    t = np.linspace(0, 1, count)
    gain = rng.uniform(0.6, 1.3) * np.exp(sway(rng, count, rng.choice((0, 0.2, 0.6))))
    gain = gain * (1 + rng.normal(0, rng.choice((0, 0.02)), count))
    offset = rng.uniform(-0.1, 0.1)
    if rng.random() < 0.3:  # a shadow or a lamp that moves
        x, y = rng.uniform(-1, 1, 2)
        across = torch.linspace(-1, 1, side)
        reach = torch.from_numpy((x + rng.uniform(-1, 1) * t).astype(np.float32))
        light = torch.sigmoid(
            4 * (across[None, None, :] + y * across[:, None] - reach[:, None, None])
        )
        clip = clip * (1 + rng.uniform(-0.6, 0.4) * light)[:, None]
    clip = clip * torch.from_numpy(gain.astype(np.float32))[:, None, None, None] + offset
    if rng.random() < 0.15:
        clip = clip.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if rng.random() < 0.3:  # exposure as long as the interval between frames
        runs = clip.view(-1, adjacent, *clip.shape[1:])
        clip = torch.cat([(runs[:, :-1] + runs[:, 1:]) / 2, runs[:, -1:]], 1).flatten(0, 1)
    if rng.random() < 0.4:  # out of focus
        small = int(side * rng.uniform(0.35, 0.9))
        clip = F.interpolate(clip, size=(small, small), mode="bilinear", antialias=True)
        clip = F.interpolate(clip, size=(side, side), mode="bilinear")
    deviation = rng.choice((0.0, 0.01, 0.03, 0.07))
    if deviation:
        clip = clip + float(deviation) * torch.from_numpy(
            rng.standard_normal((count, 1, side, side), dtype=np.float32)
        )
    if rng.random() < 0.4:
        clip = compress(clip, int(rng.choice((4, 8))), rng.uniform(0.01, 0.12))
    if rng.random() < 0.25:
        clip = keep_blocks(clip, adjacent, rng.uniform(0.005, 0.03))
    clip = clip.clamp(0, 1)
    if rng.random() < 0.3:
        clip = clip ** rng.uniform(0.6, 1.6)
    if rng.random() < 0.06:  # a wide picture in a square one
        bar = int(side * rng.uniform(0.05, 0.2))
        clip = clip.clone()
        clip[:, :, :bar] = clip[:, :, side - bar :] = 0
    return clip


def compress(clip: Tensor, block: int, step: float) -> Tensor:
    """Quantise the cosine transform of blocks as JPEG does; ``step`` grows with the frequency."""
    side = clip.shape[-1]
    index = torch.arange(block)
    cosines = torch.cos(math.pi / block * (index[None] + 0.5) * index[:, None])
    cosines[0] /= math.sqrt(2)
    cosines *= math.sqrt(2 / block)
    # One product with a block-diagonal matrix is faster than many with small ones.
    every = torch.block_diag(*[cosines] * (side // block))
    steps = (step * (1 + index[:, None] + index[None, :])).tile(side // block, side // block)
    coefficients = (every @ clip @ every.T).div_(steps).round_().mul_(steps)
    return every.T @ coefficients @ every


def keep_blocks(clip: Tensor, adjacent: int, threshold: float) -> Tensor:
    """Repeat blocks that hardly change between adjacent frames, as encoders skip them."""
    runs = clip.reshape(-1, adjacent, *clip.shape[1:]).clone()
    for k in range(1, adjacent):
        change = (runs[:, k] - runs[:, k - 1]).abs().mean(1, keepdim=True)
        still = F.avg_pool2d(change, 4) < threshold
        still = still.repeat_interleave(4, 2).repeat_interleave(4, 3)
        runs[:, k] = torch.where(still, runs[:, k - 1], runs[:, k])
    return runs.flatten(0, 1)
