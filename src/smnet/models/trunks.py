"""The trunks that families build on, by name."""

from __future__ import annotations

from typing import Any, Literal

from .base import ModelSpec, VideoModel
from .differences import DifferenceResNet, FrameAndDifferenceResNet
from .mobilenetv2 import MobileNetV2
from .res2net import Res2NetBlock
from .resnet import Place, ResNet, Temporal

Modality = Literal["rgb", "rgbdiff", "rgb+rgbdiff"]

NETWORKS: dict[str, type[ResNet]] = {
    "rgb": ResNet,
    "rgbdiff": DifferenceResNet,
    "rgb+rgbdiff": FrameAndDifferenceResNet,
}
RESNETS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
TRUNKS = (*RESNETS, "res2net50", "mobilenetv2")


def build_trunk(
    spec: ModelSpec,
    trunk: str,
    temporal: Temporal | None = None,
    place: Place = "before_conv1",
    modality: Modality = "rgb",
    **options: Any,
) -> VideoModel:
    """The trunk called ``trunk`` with a family's temporal parts in its blocks.

    Args:
        spec: what the model is.
        trunk: one of :data:`TRUNKS`.
        temporal: builds the temporal part of each block, None for a plain trunk.
        place: where in the residual branch it stands.
        modality: what the trunk sees of a segment: a frame; the differences of six
            (``"rgbdiff"``, a ResNet only); or a frame and the differences around it
            (``"rgb+rgbdiff"``, a ResNet only).
        options: further keywords of the trunk's class.

    Raises:
        ValueError: no trunk of that name, or an option that it does not take.
    """
    if modality not in NETWORKS:
        raise ValueError(f"modality must be one of {', '.join(NETWORKS)}, not {modality!r}")
    if temporal is None and place in ("after_conv1", "instead_of_conv2"):
        raise ValueError(f"place={place}: there is no temporal part here to be placed")
    network = NETWORKS[modality]
    parts: dict[str, Any] = {"temporal": temporal, "place": place}
    if trunk in RESNETS:
        return network(spec, RESNETS[trunk], **parts, block=None, **options)
    if trunk == "res2net50":
        return network(spec, 50, **parts, block=Res2NetBlock, **options)
    if trunk == "mobilenetv2" and modality != "rgb":
        raise ValueError(f"modality={modality} is there for the ResNets, not for {trunk}")
    if trunk == "mobilenetv2":
        return MobileNetV2(spec, **parts, **options)
    raise ValueError(f"no trunk is called {trunk!r}; there are {', '.join(TRUNKS)}")
