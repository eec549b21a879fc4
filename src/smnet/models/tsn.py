"""TSN (Wang et al., ECCV 2016): an image network on sparse segments, scores averaged over time.

The baseline without any temporal part: reversing or shuffling the frames changes nothing.
"""

from __future__ import annotations

from typing import Any

from .base import ModelSpec, VideoModel
from .trunks import build_trunk


def tsn(spec: ModelSpec, trunk: str, **options: Any) -> VideoModel:
    """TSN on any trunk; ``options`` are the trunk's."""
    return build_trunk(spec, trunk, None, **options)
