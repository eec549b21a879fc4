"""What every model answers, whatever its family: a clip in, class scores out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSpec:
    """All that must be known, besides the tensors, to use a model as it was trained.

    Attributes:
        name: registry name, ``family_trunk``.
        num_classes: K, the length of the score vector.
        num_segments: T, the segments a clip is sampled at. The layers take T from their input, so
            another T is possible where the family allows it; this one was trained.
        options: the family's keyword options that differ from its defaults.
        frames_per_segment: L, consecutive frames read at each segment (5 for TDN, else 1).
        sampling: name of the sampling strategy (``smnet.data.sampling``).
        input_size: side of the square crop, pixels.
        short_side: side that a frame's short side is scaled to before cropping, pixels.
        mean, std: normalisation of RGB in [0, 1].
        class_names: K names in the order of the scores, or None before training.
    """

    name: str
    num_classes: int
    num_segments: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)
    frames_per_segment: int = 1
    sampling: str = "uniform"
    input_size: int = 224
    short_side: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {self.num_classes}")
        if self.num_segments < 1:
            raise ValueError(f"num_segments must be at least 1, not {self.num_segments}")
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names were given for {self.num_classes} classes"
            )
        # JSON has no tuples: without this a specification would not equal its own round trip.
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in self.options.items()}
        object.__setattr__(self, "options", plain)

    @property
    def frames_per_clip(self) -> int:
        """Frames that one clip feeds to the model: T * L."""
        return self.num_segments * self.frames_per_segment

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON."""
        return asdict(replace(self, options=dict(self.options)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The inverse of :meth:`to_dict`; unknown or missing keys raise ``ValueError``."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown keys in a model specification: {', '.join(sorted(unknown))}")
        missing = {"name", "num_classes"} - set(values)
        if missing:
            raise ValueError(f"a model specification lacks {', '.join(sorted(missing))}")
        given = dict(values)
        for key in ("mean", "std", "class_names"):
            if given.get(key) is not None:
                given[key] = tuple(given[key])
        return cls(**given)


class VideoModel(nn.Module):
    """Base of every model: holds the :class:`ModelSpec`, the head and the TSN consensus.

    A family implements :meth:`forward_features`. The head is global average pooling, dropout, a
    linear layer per frame and the mean of its scores over time (the consensus of TSN, Wang et al.,
    ECCV 2016). The linear layer is ``fc``, as in torchvision.
    """

    def __init__(self, spec: ModelSpec, num_features: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.spec = spec
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(num_features, spec.num_classes)
        nn.init.normal_(self.fc.weight, std=0.001)  # as the TSN family: start near chance
        nn.init.zeros_(self.fc.bias)

    def forward(self, clips: Tensor) -> Tensor:
        """Scores of clips.

        Args:
            clips: (B, T*L, 3, H, W) float, normalised with ``spec.mean`` and ``spec.std``.

        Returns:
            Logits (B, K).
        """
        return self.forward_head(self.forward_features(clips))

    def forward_features(self, clips: Tensor) -> Tensor:
        """Feature maps (B, T', C, h, w) of clips (B, T*L, 3, H, W)."""
        raise TypeError(f"{type(self).__name__} does not define forward_features")

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (B, K) of feature maps (B, T', C, h, w)."""
        pooled = features.mean(dim=(3, 4))  # (B, T', C)
        scores: Tensor = self.fc(self.dropout(pooled))  # (B, T', K)
        return scores.mean(dim=1)

    def is_trunk_key(self, key: str) -> bool:
        """Whether a ``state_dict`` key belongs to the image network under the family's parts."""
        return not key.startswith("fc.") and ".temporal." not in key

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of an image network's tensors this model starts from, under this model's names."""
        return {k: v for k, v in state.items() if not k.startswith("fc.")}


def fold_frames(clips: Tensor) -> tuple[Tensor, int]:
    """(B, T, 3, H, W) -> the frames (B*T, 3, H, W), time fastest, and T.

    Raises:
        ValueError: the input is not five-dimensional with three colour channels.
    """
    if clips.dim() != 5 or clips.shape[2] != 3:
        raise ValueError(f"expected clips of shape (B, T, 3, H, W), got {tuple(clips.shape)}")
    return clips.flatten(0, 1), clips.shape[1]


def unfold_frames(frames: Tensor, num_segments: int) -> Tensor:
    """(B*T, C, h, w) -> (B, T, C, h, w)."""
    return frames.unflatten(0, (-1, num_segments))


def parameter_count(model: nn.Module) -> int:
    """Number of learned values in ``model`` (running statistics are not counted)."""
    return sum(p.numel() for p in model.parameters())


def to_channels_last(model: nn.Module) -> None:
    """Lay out the weights of 2D and 3D convolutions with channels innermost."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def multiply_adds(model: VideoModel, num_segments: int | None = None, size: int = 224) -> int:
    """Multiply-adds of one clip of ``size`` x ``size`` crops through ``model``.

    Counted on shapes alone, by PyTorch's own counter for convolutions and matrix products
    (attention included); layers whose arithmetic no such operator shows say it themselves
    (``uncounted_multiply_adds``).
    """
    from torch.utils.flop_counter import FlopCounterMode

    shadow = _on_meta(model).eval()
    extra = 0

    def count(module: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal extra
        extra += module.uncounted_multiply_adds(*args)  # type: ignore[operator]

    for module in shadow.modules():
        if hasattr(module, "uncounted_multiply_adds"):
            module.register_forward_pre_hook(count)
    frames = (num_segments or model.spec.num_segments) * model.spec.frames_per_segment
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        shadow(torch.empty(1, frames, 3, size, size, device="meta"))
    return int(counter.get_total_flops()) // 2 + extra


def _on_meta(model: VideoModel) -> VideoModel:
    """A copy with the same structure and no memory behind its tensors."""
    shadows: dict[int, Any] = {}
    for parameter in model.parameters():
        shadows[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"))
    for buffer in model.buffers():
        shadows[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, shadows)
