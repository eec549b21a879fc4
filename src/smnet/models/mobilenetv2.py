"""The MobileNetV2 trunk (Sandler et al., CVPR 2018) over the frames of a clip.

Layout and names are torchvision's (``features.N.conv...``), so that its weights load without
renaming; the classifier is ``fc``, as in every model here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor, nn

from .base import ModelSpec, VideoModel, fold_frames, unfold_frames
from .options import TrunkOptions, Width, declared
from .resnet import BlockSite, Place, Temporal, initialise


class Group(NamedTuple):
    """Blocks of one shape, a row of the article's table 2.

    The first block has the stride and changes the channels. Only the others have a shortcut.
    """

    expand: int
    channels: int
    blocks: int
    stride: int
    stage: int  # by the resolution of the output: 1/2 is 1, 1/4 is 2 ... 1/32 is 5


GROUPS = (
    Group(1, 16, 1, 1, stage=1),
    Group(6, 24, 2, 2, stage=2),
    Group(6, 32, 3, 2, stage=3),
    Group(6, 64, 4, 2, stage=4),
    Group(6, 96, 3, 1, stage=4),
    Group(6, 160, 3, 2, stage=5),
    Group(6, 320, 1, 1, stage=5),
)
STEM, TOP = 32, 1280
_STAGE = {1: "stem", 2: "res2", 3: "res3", 4: "res4", 5: "res5"}


@declared
class MobileNetOptions(TrunkOptions):
    """Options of the MobileNetV2 trunk."""

    width: Width = STEM
    """Channels of the first convolution. All layers scale with it, in steps of 8, except the last,
    which has at least 1280 channels. 32 is the published network."""
    modality: Literal["rgb"] = "rgb"
    """The input of a segment: one frame. Differences of frames need a ResNet."""


class InvertedResidual(nn.Module):
    """1x1 expansion, channel-wise 3x3, linear 1x1; a shortcut where the shape is unchanged.

    The temporal part stands before the expansion (``"before_conv1"``) or after its ReLU6
    (``"after_conv1"``), never in the shortcut.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expand: int,
        temporal: nn.Module | None = None,
        place: Place = "before_conv1",
    ) -> None:
        super().__init__()
        if place not in ("before_conv1", "after_conv1"):
            raise ValueError(f"place must be before_conv1 or after_conv1, not {place!r}")
        hidden = in_channels * expand
        expansion = [_conv_norm_relu(in_channels, hidden, 1)] if expand != 1 else []
        self.conv = nn.Sequential(
            *expansion,
            _conv_norm_relu(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = stride == 1 and in_channels == out_channels
        self.temporal = temporal
        self.place = place

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        y = x
        if self.temporal is not None and self.place == "before_conv1":
            y = self.temporal(y, num_segments)
        for index, layer in enumerate(self.conv):
            y = layer(y)
            if index == 0 and self.temporal is not None and self.place == "after_conv1":
                y = self.temporal(y, num_segments)
        return x + y if self.shortcut else y


class MobileNetV2(VideoModel):
    """A MobileNetV2 applied to every frame, with temporal parts in its residual blocks.

    The ten blocks that have both an expansion and a shortcut can carry a temporal part, as in TSM
    (Lin et al., ICCV 2019): one at 1/4 of the resolution, 2 at 1/8, 5 at 1/16 and 2 at 1/32. Their
    sites are stages 2 to 5; ``index`` and ``blocks`` of a site count these blocks only.
    """

    def __init__(
        self,
        spec: ModelSpec,
        options: MobileNetOptions,
        temporal: Temporal | None = None,
        place: Place = "before_conv1",
    ) -> None:
        width = options.width
        scale = width / STEM
        top = _rounded(TOP * max(1.0, scale))
        super().__init__(spec, top, options.dropout, options.head)
        sites = _sites(scale)
        layers: list[nn.Module] = [_conv_norm_relu(3, width, 3, stride=2)]
        channels = width
        for group in GROUPS:
            out = _rounded(group.channels * scale)
            for block in range(group.blocks):
                site = sites.get(len(layers))
                layers.append(
                    InvertedResidual(
                        channels,
                        out,
                        group.stride if block == 0 else 1,
                        group.expand,
                        temporal(site) if temporal and site else None,
                        place,
                    )
                )
                channels = out
        layers.append(_conv_norm_relu(channels, top, 1))
        self.features = nn.ModuleList(layers)
        initialise(self)

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T, 1280, H/32, W/32) of clips (B, T, 3, H, W)."""
        x, num_segments = fold_frames(clips)  # (B*T, 3, H, W)
        for layer in self.features:
            x = layer(x, num_segments) if isinstance(layer, InvertedResidual) else layer(x)
        return unfold_frames(x, num_segments)

    def stage_of(self, key: str) -> str:
        """As the base; ``features.0`` and the blocks at half the resolution are the stem."""
        if not key.startswith("features."):
            return super().stage_of(key)
        stages = ["stem", *(_STAGE[group.stage] for group in GROUPS for _ in range(group.blocks))]
        position = int(key.split(".")[1])
        return stages[position] if position < len(stages) else "res5"

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All tensors except the classifier, which torchvision calls ``classifier.1``."""
        return {k: v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}


def _sites(scale: float) -> dict[int, BlockSite]:
    """The sites of the blocks with expansion and shortcut, by their position in ``features``."""
    carrying: list[tuple[int, int, int, int]] = []  # position, stage, channels in, hidden channels
    position = 1
    for group in GROUPS:
        channels = _rounded(group.channels * scale)
        for block in range(group.blocks):
            if block > 0 and group.expand != 1:
                carrying.append((position, group.stage, channels, channels * group.expand))
            position += 1
    sites = {}
    for position, stage, channels, hidden in carrying:
        peers = [p for p, s, _, _ in carrying if s == stage]
        sites[position] = BlockSite(stage, peers.index(position), len(peers), channels, hidden)
    return sites


def _rounded(channels: float, step: int = 8) -> int:
    """The nearest multiple of ``step`` that is at most a tenth below ``channels``."""
    nearest = max(step, int(channels + step / 2) // step * step)
    return nearest if nearest >= 0.9 * channels else nearest + step


def _conv_norm_relu(
    in_channels: int, out_channels: int, side: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, side, stride, padding=side // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )
