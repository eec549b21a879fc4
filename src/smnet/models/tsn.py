"""TSN: an image network on sparse segments (Wang et al., ECCV 2016).

The scores of the segments are averaged over time. Without any temporal part, the order of the
frames makes no difference.
"""

from __future__ import annotations

from .base import ModelSpec, VideoModel
from .options import Options
from .trunks import Trunk


def tsn(spec: ModelSpec, trunk: Trunk, options: Options) -> VideoModel:
    """TSN on any trunk."""
    return trunk.build(spec)
