"""The trunks: image networks that families put their temporal parts into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .base import ModelSpec, VideoModel
from .differences import DifferenceResNet, FrameAndDifferenceResNet
from .mobilenetv2 import MobileNetOptions, MobileNetV2
from .options import Fraction, TrunkOptions, declared
from .res2net import Res2NetBlock
from .resnet import Place, ResNet, ResNetOptions, Temporal

Modality = Literal["rgb", "rgbdiff", "rgb+rgbdiff"]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
DEPTHS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101, "res2net50": 50}


@declared
class ResNetTrunkOptions(ResNetOptions):
    """Options of a ResNet trunk."""

    modality: Modality = "rgb"
    """The input of a segment: one frame (rgb), the differences of six frames (rgbdiff), or a frame
    and the differences around it (rgb+rgbdiff)."""
    difference_weight: Fraction | None = None
    """Share of the differences under modality=rgb+rgbdiff. null: 1/2 at 8 segments, else 1/4, as
    TDN's authors choose."""

    def __post_init__(self) -> None:
        if self.difference_weight is not None and self.modality != "rgb+rgbdiff":
            raise ValueError("difference_weight needs modality=rgb+rgbdiff")


@declared
class Res2NetTrunkOptions(ResNetTrunkOptions):
    """Options of the Res2Net trunk."""

    stride_in: Literal["conv2"] = "conv2"
    """The 3x3 convolutions carry the stride of a block."""


TRUNKS: dict[str, type[TrunkOptions]] = {
    **dict.fromkeys(RESNETS, ResNetTrunkOptions),
    "res2net50": Res2NetTrunkOptions,
    "mobilenetv2": MobileNetOptions,
}
"""The options of each trunk by its name."""


def trunks_in_words(names: tuple[str, ...]) -> str:
    """``all``, ``ResNets``, or the names of trunks."""
    if set(names) == set(TRUNKS):
        return "all"
    return "ResNets" if set(names) == set(RESNETS) else ", ".join(names)


@dataclass(frozen=True)
class Trunk:
    """A trunk, one of :data:`TRUNKS`, with its options."""

    name: str
    options: TrunkOptions

    @property
    def depth(self) -> int:
        """Layers of a ResNet or Res2Net."""
        return DEPTHS[self.name]

    def build(
        self, spec: ModelSpec, temporal: Temporal | None = None, place: Place = "before_conv1"
    ) -> VideoModel:
        """The network, with the temporal parts of a family at ``place`` in its residual blocks.

        Raises:
            ValueError: blocks of this trunk have no such place.
        """
        options = self.options
        if isinstance(options, MobileNetOptions):
            return MobileNetV2(spec, options, temporal, place)
        assert isinstance(options, ResNetTrunkOptions)
        block = Res2NetBlock if self.name == "res2net50" else None
        parts = (temporal, place, block)
        match options.modality:
            case "rgbdiff":
                return DifferenceResNet(spec, self.depth, options, *parts)
            case "rgb+rgbdiff":
                weight = options.difference_weight
                return FrameAndDifferenceResNet(
                    spec, self.depth, options, *parts, difference_weight=weight
                )
        return ResNet(spec, self.depth, options, *parts)
