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
    Preset("nano", 0.11, 2.9, 14, 29),
    Preset("small", 0.36, 2.9, 11, 27),
    Preset("medium", 9.63, 103.3, 0.68, 2.3),
    Preset("large", 36.7, 103.3, 0.18, 0.65),
)
"""From the smallest to the largest."""
