"""TSN on RGB differences, the second stream of the article (Wang et al., ECCV 2016).

Late fusion with the RGB stream is a weighted mean of the scores: ``smnet evaluate A B``. Other
families read differences under ``modality=rgbdiff``, see :mod:`smnet.models.differences`.
"""

from __future__ import annotations

from typing import Literal

from .base import ModelSpec, VideoModel
from .differences import DifferenceResNet
from .options import declared
from .resnet import ResNetOptions
from .trunks import Trunk


@declared
class RGBDiffOptions(ResNetOptions):
    """Options of TSN on RGB differences."""

    place: Literal["before_conv1"] = "before_conv1"
    """No effect: the network has no temporal part. Earlier checkpoints may name it."""


def rgbdiff(spec: ModelSpec, trunk: Trunk, options: RGBDiffOptions) -> VideoModel:
    """TSN on RGB differences, on a ResNet."""
    return DifferenceResNet(spec, trunk.depth, options)
