"""TSN on RGB differences: the second stream beside RGB frames (Wang et al., ECCV 2016).

Late fusion with the RGB stream is a weighted mean of the scores: ``smnet evaluate A B``. Other
families see differences by ``modality="rgbdiff"``, see :mod:`smnet.models.differences`.
"""

from __future__ import annotations

from typing import Any

from .base import ModelSpec, VideoModel
from .trunks import build_trunk


def rgbdiff(spec: ModelSpec, trunk: str, **options: Any) -> VideoModel:
    """TSN on RGB differences on a ResNet; ``options`` are the trunk's."""
    return build_trunk(spec, trunk, None, modality="rgbdiff", **options)
