"""The base of every model: a clip in, class scores out."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .discriminants import PREFIX, Discriminants
from .layers import Delay
from .spec import ModelSpec, phases
from .streaming import State, Stream, streaming

STAGES = ("stem", "res2", "res3", "res4", "res5", "head")
"""The stages of every model from the input to the scores."""
MOMENTS = {"mean": 1, "motion": 3, "phases": 9}
"""Values per channel that the classifier of each head sees."""


class VideoModel(nn.Module):
    """Base of every model: holds the ``ModelSpec``, the head and the TSN consensus.

    A family implements ``forward_features``. The head is global average pooling, dropout, a
    linear layer per frame and the mean of its scores over time (the consensus of TSN, Wang et al.,
    ECCV 2016). With ``head="motion"`` the linear layer sees :func:`over_time` instead, and with
    ``head="phases"`` :func:`over_phases`. The linear layer is ``fc``, as in torchvision. A family
    with another head puts its module there, from the frames' features (B, T', C) to scores
    (B, T', K), of which the mean is taken, or to (B, K). With the option causal the mean is that of
    the last ``spec.num_segments`` frames: in longer clips the earlier ones warm up the state.
    """

    fc: nn.Module

    def __init__(
        self, spec: ModelSpec, num_features: int, dropout: float = 0.5, head: str = "mean"
    ) -> None:
        super().__init__()
        self.spec = spec
        self.num_features = num_features
        self.dropout = nn.Dropout(dropout)
        self.head = head
        linear = nn.Linear(num_features * MOMENTS[head], spec.num_classes)
        nn.init.normal_(linear.weight, std=0.001)  # as the TSN family: start near chance
        nn.init.zeros_(linear.bias)
        self.fc = linear
        self._named_delays: dict[nn.Module, str] | None = None
        count = spec.decision.discriminants
        self.discriminants = (
            Discriminants(spec.num_classes, linear.in_features, count) if count else None
        )

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
        if self.spec.options.get("causal"):
            features = features[:, -self.spec.num_segments :]
        if self.head != "mean":
            scores: Tensor = self.fc(self.dropout(self.moments(features)))  # (B, K)
            return scores
        pooled = features.mean(dim=(3, 4))  # (B, T', C)
        scores = self.fc(self.dropout(pooled))  # (B, T', K), or (B, K)
        return scores.mean(dim=1) if scores.dim() == 3 else scores

    def moments(self, features: Tensor) -> Tensor:
        """What the linear layer sees (B, D) of feature maps (B, T', C, h, w) of whole clips."""
        match self.head:
            case "motion":
                return over_time(features)
            case "phases":
                return over_phases(features)
        return features.mean(dim=(1, 3, 4))

    def judge(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, K) of clips, and their distances (B,) to the best class; None without
        discriminants."""
        features = self.forward_features(clips)
        logits = self.forward_head(features)
        return logits, self.distances(features, logits)

    def distances(self, features: Tensor, logits: Tensor) -> Tensor | None:
        """Distances (B,) of feature maps (B, T', C, h, w) with these logits; see :meth:`judge`."""
        if self.discriminants is None:
            return None
        distances: Tensor = self.discriminants(self.moments(features), logits)
        return distances

    def initial_state(self, batch: int = 1, size: int | None = None) -> State:
        """The state before the first frame of a stream.

        Args:
            batch: streams that are stepped together.
            size: side of the frames, pixels; None is ``spec.input_size``.

        Returns:
            Zeros by name, at most 4-D, of the type and device of the weights; empty for TSN.

        Raises:
            ValueError: see :meth:`step`.
        """
        weight = next(self.parameters())
        side = size or self.spec.input_size
        shadow = on_meta(self).eval()
        shape = (batch, self.spec.frames_per_segment, 3, side, side)
        segment = torch.empty(shape, device="meta", dtype=weight.dtype)
        stream = Stream(shadow._delays(), None)
        with torch.no_grad(), streaming(stream):
            shadow(segment)
        return {
            name: torch.zeros(x.shape, dtype=x.dtype, device=weight.device)
            for name, x in stream.before.items()
        }

    def step(self, frame: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Logits of one frame of a stream, from that frame and the state of those before it.

        A pure function: the state is only read, and a new one is returned. The mean of the logits
        of the first T steps is that of :meth:`forward` for these T frames as a clip.

        Args:
            frame: (B, 3, H, W) float, normalised; a segment of L frames is (B, L, 3, H, W).
            state: of :meth:`initial_state`, or of the step before.

        Returns:
            Logits (B, K) of this frame, and the state for the next one.

        Raises:
            ValueError: the model looks at later frames, or the state is of another size.
        """
        stream = Stream(self._delays(), state)
        with streaming(stream):
            logits: Tensor = self(frame[:, None] if frame.dim() == 4 else frame)
        return logits, stream.after

    def _delays(self) -> dict[nn.Module, str]:
        """The delays of the model, with their names."""
        if not self.spec.causal:
            raise ValueError(
                f"{self.spec.name} looks at later frames and has no step; build it with causal=true"
                " where the family has that option (smnet, tsm, tam), or score windows"
            )
        if self._named_delays is None:  # a walk over the modules costs as much as some of them
            self._named_delays = {
                m: name for name, m in self.named_modules() if isinstance(m, Delay)
            }
        return self._named_delays

    def is_trunk_key(self, key: str) -> bool:
        """Whether a ``state_dict`` key belongs to the image network under the family's parts."""
        return not key.startswith(("fc.", PREFIX)) and not is_temporal(key)

    def stage_of(self, key: str) -> str:
        """The stage of a ``state_dict`` key, one of :data:`STAGES`.

        Parts without a stage of their own count as res5, the last one before the head.
        """
        first = key.removeprefix("difference.").partition(".")[0]
        if first.startswith("layer") and first[5:].isdecimal():
            return f"res{int(first[5:]) + 1}"
        return "stem" if first in ("conv1", "bn1") else "head" if first == "fc" else "res5"

    def trunk_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of an image network's tensors this model starts from, under this model's names."""
        return {k: v for k, v in state.items() if not k.startswith("fc.")}


def probabilities(logits: Tensor, spec: ModelSpec) -> Tensor:
    """Calibrated scores (B, K) of logits: by softmax, or by sigmoid for several labels a clip."""
    tempered = logits / spec.decision.temperature
    return tempered.sigmoid() if spec.several else tempered.softmax(-1)


def over_space(features: Tensor) -> Tensor:
    """The mean over space (B, T', C) of feature maps (B, T', C, h, w)."""
    return features.mean(dim=(3, 4))


def over_time(features: Tensor) -> Tensor:
    """Moments of feature maps over time (B, 3C).

    Mean and standard deviation over time of each channel's mean over space, and the absolute
    difference between adjacent frames, averaged over space and time (0 for a single frame).

    Args:
        features: (B, T', C, h, w).
    """
    pooled = features.mean(dim=(3, 4))
    mean = pooled.mean(dim=1)
    deviation = (pooled - mean.unsqueeze(1)).square().mean(dim=1).add(1e-12).sqrt()
    if features.shape[1] == 1:
        return torch.cat([mean, deviation, torch.zeros_like(mean)], dim=1)
    motion = (features[:, 1:] - features[:, :-1]).abs().mean(dim=(1, 3, 4))
    return torch.cat([mean, deviation, motion], dim=1)


def over_phases(features: Tensor) -> Tensor:
    """:func:`over_time`, then the mean and the motion of each third of the clip (B, 9C).

    The order is mean, deviation, motion, the means of the thirds, the motions of the thirds. So
    the classifier sees what comes first.

    Args:
        features: (B, T', C, h, w).
    """
    frames = features.mean(dim=(3, 4))  # (B, T', C)
    parts = [over_time(features)]
    parts += [frames[:, start:end].mean(dim=1) for start, end in phases(frames.shape[1])]
    if features.shape[1] == 1:
        steps = torch.zeros_like(frames)
    else:
        steps = (features[:, 1:] - features[:, :-1]).abs().mean(dim=(3, 4))  # (B, T' - 1, C)
    parts += [steps[:, start:end].mean(dim=1) for start, end in phases(steps.shape[1])]
    return torch.cat(parts, dim=1)


def is_temporal(name: str) -> bool:
    """Whether a module or tensor of this name is, or belongs to, a part called ``temporal``."""
    return "temporal" in name.split(".")


def fold_frames(clips: Tensor) -> tuple[Tensor, int]:
    """(B, T, 3, H, W) -> the frames (B*T, 3, H, W), time fastest, and T.

    Raises:
        ValueError: the input is not five-dimensional with three colour channels.
    """
    if clips.dim() != 5 or clips.shape[2] != 3:
        raise ValueError(f"expected clips of shape (B, T, 3, H, W), got {tuple(clips.shape)}")
    return clips.flatten(0, 1), clips.shape[1]


def fold_segments(clips: Tensor, length: int) -> tuple[Tensor, int]:
    """(B, T*L, 3, H, W) -> the segments (B*T, L, 3, H, W), time fastest, and T; L is ``length``.

    Raises:
        ValueError: not such clips, or the number of frames is not a multiple of L.
    """
    frames, count = fold_frames(clips)
    if count % length:
        raise ValueError(
            f"expected {length} consecutive frames a segment, got clips of {count} frames"
        )
    return frames.unflatten(0, (-1, length)), count // length


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
    return sum(multiply_adds_of_modules(model, num_segments, size).values())


def multiply_adds_of_modules(
    model: VideoModel, num_segments: int | None = None, size: int = 224
) -> Counter[str]:
    """``multiply_adds``, by the name of the innermost module that computes them."""
    from torch.utils.flop_counter import FlopCounterMode

    shadow = on_meta(model).eval().requires_grad_(False)
    for parent in [*shadow.modules()]:
        for name, module in parent.named_children():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, nn.Identity())  # not counted, and slow without memory
    counter = FlopCounterMode(display=False)
    macs: Counter[str] = Counter()
    inside = [""]
    seen = 0

    def note() -> None:
        nonlocal seen
        total = int(counter.get_total_flops())
        macs[inside[-1]] += (total - seen) // 2
        seen = total

    def enter(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        note()
        inside.append(name)
        if hasattr(module, "uncounted_multiply_adds"):
            macs[name] += module.uncounted_multiply_adds(*args)  # type: ignore[operator]

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        note()
        inside.pop()

    for name, module in shadow.named_modules():
        if module is not shadow:
            module.register_forward_pre_hook(partial(enter, name))
            module.register_forward_hook(leave)
    frames = (num_segments or model.spec.num_segments) * model.spec.frames_per_segment
    with torch.no_grad(), counter:
        shadow(torch.empty(1, frames, 3, size, size, device="meta"))
        note()
    return macs


def on_meta(model: VideoModel) -> VideoModel:
    """A copy with the same structure and no memory behind its tensors."""
    shadows: dict[int, Any] = {}
    for parameter in model.parameters():
        shadows[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"))
    for buffer in model.buffers():
        shadows[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, shadows)
