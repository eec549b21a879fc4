"""The cost of the presets: multiply-adds, size, and clips per second of one core.

    python benchmarks/presets.py

Times are CPU seconds of one thread, so other programs disturb them little. Reading is not part of
them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from smnet.measure import in_turns
from smnet.models import VideoModel, accelerate, multiply_adds, parameter_count, to_channels_last
from smnet.models.registry import new_model
from smnet.recipes.presets import PRESETS
from smnet.recipes.recipe import read_recipe
from smnet.system import describe_machine

CLASSES, ROUNDS = 10, 3


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| preset | model | pixels | GMAC | MB | trains | predicts |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for preset in PRESETS:
        recipe = read_recipe(preset.name)
        model = new_model(recipe.model, CLASSES, recipe.segments, recipe.options)
        gmac = multiply_adds(model, size=recipe.size) / 1e9
        megabytes = 4 * parameter_count(model) / 1e6
        train, predict = rates(model, recipe.size)
        print(
            f"| {preset.name} | {recipe.model} | {recipe.size} | {gmac:.2f} | {megabytes:.1f} |"
            f" {train:.2g} | {predict:.2g} |",
            flush=True,
        )
    print(", ".join(f"{key} {value}" for key, value in describe_machine().items()))


def rates(model: VideoModel, size: int) -> tuple[float, float]:
    """Clips per second in training, in batches of 2, and in prediction."""
    learning = accelerate(model, "training").train()
    fixed = accelerate(model, "inference")
    for network in (learning, fixed):
        to_channels_last(network)
    clips = torch.rand(2, model.spec.frames_per_clip, 3, size, size)

    def train() -> None:
        F.cross_entropy(learning(clips), torch.tensor([0, 1])).backward()

    def predict() -> Tensor:
        with torch.inference_mode():
            return fixed(clips[:1])

    timings = in_turns([train, predict], ROUNDS, clock="cpu")
    return 2 / timings.median(0), 1 / timings.median(1)


if __name__ == "__main__":
    main()
