"""Train the network ``motion``, which ships with the package, on drawn motion.

    nice -n 19 python tools/train_motion.py runs/motion --cpu-minutes 60

No photograph is used: clips are drawn while the network trains (``smnet.data.synthetic.world``),
and a clip is seen a few times, each time under another symmetry. Training begins with few and small
frames and ends with those that the network reads. The same command resumes an interrupted run; a
smaller budget anneals it earlier. One thread is used. ``motion.safetensors`` in the folder is the
checkpoint; copy it to ``src/smnet/checkpoints/networks`` to ship it.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.checkpoints.file import Checkpoint, save_checkpoint
from smnet.data.loading.transforms import normalise
from smnet.data.synthetic.world import (
    BASIC_MOTIONS,
    draw_textures,
    draw_world_clip,
    random_symmetry,
)
from smnet.files import atomic_path
from smnet.models import VideoModel, accelerate, create_model, to_channels_last
from smnet.system import keep_freed_memory

MODEL = "smnet_resnet18"
OPTIONS: dict[str, Any] = {"width": 16, "modality": "rgb+rgbdiff", "dropout": 0.1}
SIDE = 64
STAGES = ((0.0, 4, 48), (0.38, 8, SIDE))
"""Share of the budget from which clips have this many segments of this many pixels."""
PLAIN = 0.3
"""Share of the budget in which plain clips become rare."""
BATCH = 16
DRAWN = 4
"""New clips per batch; the others come from a store of recent clips."""
STORE = 1024
TEXTURES = 80
RATE, DECAY, WARMUP = 1.5e-3, 0.05, 0.03
AVERAGE = 0.998
"""Decay of the running average of the weights, which is the result."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--cpu-minutes", type=float, default=60, help="budget of processor time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(arguments.out, arguments.cpu_minutes * 60, arguments.seed)


def train(out: Path, budget: float, seed: int) -> None:
    """Train until ``budget`` seconds of processor time are used, earlier runs included."""
    torch.manual_seed(seed)
    network = create_model(MODEL, len(BASIC_MOTIONS), **OPTIONS)
    averaged = create_model(MODEL, len(BASIC_MOTIONS), **OPTIONS)
    accelerate(network, "training").train()
    to_channels_last(network)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    step, used_before = 0, 0.0
    if (state_file := out / "state.pt").exists():
        state = torch.load(state_file, weights_only=True)
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step, used_before = state["step"], state["used"]
    else:
        start_direction_selective(network.difference.conv1)
        averaged.load_state_dict(network.state_dict())
    began, saved = time.process_time(), 0.0
    clips = Clips(np.random.default_rng((seed, step)), network.spec.frames_per_segment)
    loss_mean, right_mean = 2.5, 0.1
    while (used := used_before + time.process_time() - began) < budget:
        share = used / budget
        segments, side = next((s, p) for since, s, p in reversed(STAGES) if share >= since)
        inputs, labels = clips.batch(segments, side, plain=1 - share / PLAIN)
        rate = RATE * min(1, share / WARMUP + 0.02) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        scores = network(normalise(inputs, network.spec.mean, network.spec.std))
        loss = F.cross_entropy(scores, labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        step += 1
        _average(averaged, network, min(AVERAGE, step / (step + 10)))
        loss_mean += 0.01 * (loss.item() - loss_mean)
        right = (scores.argmax(1) == labels).float().mean().item()
        right_mean += 0.01 * (right - right_mean)
        if step % 100 == 0:
            print(
                f"step {step}: {used / 60:.1f} of {budget / 60:.0f} min, {segments} x {side} px,"
                f" loss {loss_mean:.3f}, {right_mean:.1%} right, {clips.drawn} drawn",
                flush=True,
            )
        if used - saved > 60:
            saved = used
            _save(out, network, averaged, optimizer, step, used)
    _save(out, network, averaged, optimizer, step, used)


@torch.no_grad()
def start_direction_selective(conv: nn.Conv2d) -> None:
    """Start the convolution of differences with moving waves under a window.

    Each output channel prefers one of eight directions at one of two speeds (Adelson and Bergen,
    "Spatiotemporal energy models for the perception of motion", 1985). Random filters find them
    too, but that takes most of the budget.
    """
    reach = conv.kernel_size[0] // 2
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    window = torch.exp(-(x**2 + y**2) / (2 * 1.8**2))
    for channel in range(conv.out_channels):
        direction = 2 * math.pi * (channel % 8) / 8
        wavelength, speed = ((5.0, 0.6), (8.0, 1.6))[channel // 8 % 2]
        along = x * math.cos(direction) + y * math.sin(direction)
        for k in range(conv.in_channels // 3):
            wave = torch.cos(2 * math.pi / wavelength * (along - speed * (k - 1.5))) * window
            conv.weight[channel, 3 * k : 3 * k + 3] = wave - wave.mean()
    conv.weight *= math.sqrt(2) / conv.weight.flatten(1).norm(dim=1).mean()


class Clips:
    """Drawn clips, some new and some from a store.

    Args:
        rng: source of randomness.
        frames_per_segment: of the network.
    """

    def __init__(self, rng: np.random.Generator, frames_per_segment: int) -> None:
        self.rng = rng
        self.frames_per_segment = frames_per_segment
        self.textures = draw_textures(rng, TEXTURES)
        self.shape = (0, 0)
        self.store: list[tuple[Tensor, int]] = []
        self.drawn = 0

    def batch(self, segments: int, side: int, plain: float) -> tuple[Tensor, Tensor]:
        """Clips (B, T*L, 3, side, side) uint8 and labels (B,); ``plain`` is the share of plain
        clips among the new ones."""
        if self.shape != (segments, side):
            self.shape, self.store = (segments, side), []
        fresh = BATCH if len(self.store) < 8 * BATCH else DRAWN
        for _ in range(fresh):
            self._draw(segments, side, self.rng.random() < plain)
        recent = list(range(len(self.store) - fresh, len(self.store)))
        old = (
            self.rng.choice(len(self.store) - fresh, BATCH - fresh, replace=False).tolist()
            if fresh < BATCH
            else []
        )
        chosen = [self._varied(*self.store[i]) for i in recent + old]
        self.store = self.store[-STORE:]
        clips, labels = zip(*chosen, strict=True)
        return torch.stack(clips), torch.tensor(labels)

    def _draw(self, segments: int, side: int, plain: bool) -> None:
        if self.rng.random() < 0.2:
            place = int(self.rng.integers(TEXTURES))
            self.textures[place] = draw_textures(self.rng, 1)[0]
        self.drawn += 1
        self.store.append(
            draw_world_clip(
                self.rng,
                self.textures,
                segments=segments,
                frames_per_segment=self.frames_per_segment,
                side=side,
                plain=plain,
            )
        )

    def _varied(self, clip: Tensor, label: int) -> tuple[Tensor, int]:
        clip, label = random_symmetry(self.rng, clip, label)
        if self.rng.random() < 0.3:
            clip = clip[:, self.rng.permutation(3).tolist()]
        return (255 - clip if self.rng.random() < 0.15 else clip), label


@torch.no_grad()
def _average(averaged: VideoModel, network: VideoModel, decay: float) -> None:
    for mean, value in zip(
        averaged.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _save(
    out: Path,
    network: VideoModel,
    averaged: VideoModel,
    optimizer: torch.optim.Optimizer,
    step: int,
    used: float,
) -> None:
    spec = replace(averaged.spec, input_size=SIDE, short_side=SIDE, class_names=BASIC_MOTIONS)
    recipe = {"about": "drawn motion, tools/train_motion.py", "steps": step, "cpu_seconds": used}
    save_checkpoint(out / "motion.safetensors", Checkpoint(spec, averaged.state_dict(), recipe))
    state = {
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "used": used,
    }
    with atomic_path(out / "state.pt") as temporary:
        torch.save(state, temporary)


if __name__ == "__main__":
    main()
