"""TSN: an image network on sparse segments (Wang et al., ECCV 2016).

The scores of the segments are averaged over time. Without any temporal part, the order of the
frames makes no difference.
"""

from __future__ import annotations

from typing import Literal

from .base import ModelSpec, VideoModel
from .options import Options, declared
from .trunks import Trunk


@declared
class TSNOptions(Options):
    """Options of TSN."""

    place: Literal["before_conv1"] = "before_conv1"
    """No effect: TSN has no temporal part. Earlier checkpoints may name it."""


def tsn(spec: ModelSpec, trunk: Trunk, options: TSNOptions) -> VideoModel:
    """TSN on any trunk."""
    return trunk.build(spec)
