"""The presets: recipes by what they cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A recipe and the cost of its network.

    Attributes:
        name: of the recipe.
        gmac: billions of multiply-adds per clip.
        megabytes: of the weights in float32.
        trains, predicts: clips per second of training and of prediction on one core (AMD EPYC,
            ``benchmarks/presets.py``), without reading.
    """

    name: str
    gmac: float
    megabytes: float
    trains: float
    predicts: float


PRESETS = (
    Preset("nano", 0.11, 2.9, 24, 51),
    Preset("small", 0.36, 2.9, 14, 39),
    Preset("medium", 9.24, 95.8, 0.87, 3.5),
    Preset("large", 35.2, 95.8, 0.24, 1.0),
)
"""From the smallest to the largest."""
