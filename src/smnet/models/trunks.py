"""The trunks that families build on, by name."""

from __future__ import annotations

from typing import Any

from .base import ModelSpec, VideoModel
from .mobilenetv2 import MobileNetV2
from .res2net import Res2NetBlock
from .resnet import Place, ResNet, Temporal

RESNETS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
TRUNKS = (*RESNETS, "res2net50", "mobilenetv2")


def build_trunk(
    spec: ModelSpec,
    trunk: str,
    temporal: Temporal | None = None,
    place: Place = "before_conv1",
    **options: Any,
) -> VideoModel:
    """The trunk called ``trunk`` with a family's temporal parts in its blocks.

    Args:
        spec: what the model is.
        trunk: one of :data:`TRUNKS`.
        temporal: builds the temporal part of each block, None for a plain trunk.
        place: where in the residual branch it stands.
        options: further keywords of the trunk's class.

    Raises:
        ValueError: no trunk of that name, or an option that it does not take.
    """
    if trunk in RESNETS:
        return ResNet(spec, RESNETS[trunk], temporal=temporal, place=place, **options)
    if trunk == "res2net50":
        return ResNet(spec, 50, temporal=temporal, place=place, block=Res2NetBlock, **options)
    if trunk == "mobilenetv2":
        return MobileNetV2(spec, temporal=temporal, place=place, **options)
    raise ValueError(f"no trunk is called {trunk!r}; there are {', '.join(TRUNKS)}")
