"""Temporal layers that several families share. All work on folded frames (B*T, C, H, W)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .streaming import current_stream

TemporalInit = Literal["shift", "difference", "motion", "identity"]
Difference = Literal["forward", "both", "causal"]


class TemporalConv(nn.Module):
    """Convolution over time with kernel 3 and zero padding, one step a frame, no bias.

    Y[t] = W0 X[t-1] + W1 X[t] + W2 X[t+1], each W a grouped convolution of ``space`` x ``space``
    pixels (1: purely temporal). Frames before the first and after the last of a clip are zero, so
    clips of a batch never mix.

    Args:
        channels: C, in and out.
        groups: G; None means G = C (channel-wise).
        space: spatial side of the kernel, 1 or 3.
        init: ``"shift"``: the first C/``shift_div`` channels take the next frame, as many take the
            previous one, the others keep the same frame (TSM's partial shift, Lin et al., ICCV
            2019, as a trainable start; ACTION-Net and TDN start so). ``"difference"``: X[t], plus
            (X[t+1] - X[t-1]) / 2 in even channels and minus that in odd ones. ``"motion"``:
            X[t+1] - X[t]. ``"identity"``: X[t].
        shift_div: see ``init``.
        input_share: a, if the caller adds a X to the result. The total starts at 1 + a times what
            ``init`` says (``"motion"``: once). So the shifted channels start at
            (1 + a) X[t+1] - a X[t].
        causal: Y[t] = W0 X[t-2] + W1 X[t-1] + W2 X[t], which looks at no later frame. ``init``
            then takes X[t-1] for the previous and X[t] for the next frame of X[t]; ``"shift"``
            moves C/``shift_div`` channels, ``"difference"`` is that of X[t] and X[t-2].

    Shape:
        x (B*T, C, H, W) -> (B*T, C, H, W); ``weight`` is (C, C/G, 3), or (C, C/G, 3, 3, 3).
    """

    def __init__(
        self,
        channels: int,
        groups: int | None = None,
        space: int = 1,
        init: TemporalInit = "shift",
        shift_div: int = 8,
        input_share: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        groups = channels if groups is None else groups
        if groups < 1 or channels % groups:
            raise ValueError(f"groups must divide the {channels} channels, {groups} does not")
        self.channels = channels
        self.groups = groups
        self.space = space
        side = (space, space) if space > 1 else ()
        self.weight = nn.Parameter(torch.zeros(channels, channels // groups, 3, *side))
        self.causal = causal
        self.sum: nn.Module = CausalSum() if causal else TemporalSum()
        self._initialise(init, shift_div, input_share)

    @torch.no_grad()
    def _initialise(self, init: TemporalInit, shift_div: int, input_share: float) -> None:
        fold = self.channels // shift_div if init == "shift" else 0
        taps = self.weight if self.space == 1 else self.weight[..., 1, 1]
        channel = torch.arange(self.channels)
        present, shifted = (2, fold) if self.causal else (1, 2 * fold)
        tap = torch.full_like(channel, present)
        if self.causal:
            tap[:fold] = 1
        else:
            tap[:fold], tap[fold : 2 * fold] = 2, 0
        moved = tap != present
        own = channel % taps.shape[1]
        # By slices: the meta device cannot index by a mask.
        taps[channel[:shifted], own[:shifted], present] = -input_share
        taps[channel, own, tap] = 1.0 + input_share * moved
        if init == "difference":
            half = (1 + input_share) * (0.5 - channel % 2)
            taps[channel, own, 0] = -half
            taps[channel, own, 2] += half
        elif init == "motion":
            taps[channel, own, 1], taps[channel, own, 2] = -1.0, 1.0
            taps[channel, own, present] -= input_share

    def extra_repr(self) -> str:
        return f"{self.channels}, groups={self.groups}, space={self.space}"

    @property
    def channelwise(self) -> bool:
        """Whether every channel is convolved by itself, over time alone."""
        return self.groups == self.channels and self.space == 1

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        if self.channelwise:
            return self.sum(x, self.weight[:, 0], num_segments)
        if isinstance(self.sum, CausalSum):
            earlier, before, x = self.sum.frames(x, num_segments)
            return self._tap(x, 2) + self._tap(before, 1) + self._tap(earlier, 0)
        past, present, future = (self._tap(x, k) for k in range(3))
        return (
            present + shift_frames(past, 1, num_segments) + shift_frames(future, -1, num_segments)
        )

    def _tap(self, x: Tensor, k: int) -> Tensor:
        weight = self.weight[:, :, k]
        weight = weight[..., None, None] if self.space == 1 else weight
        return F.conv2d(x, weight, padding=self.space // 2, groups=self.groups)


class TemporalSum(nn.Module):
    """Channel-wise temporal convolution with kernel 3 and zero padding; the weights are an input.

    Y[t] = K_0 X[t-1] + K_1 X[t] + K_2 X[t+1], separately for every channel. A module without
    parameters, so that families whose weights depend on the clip (TEINet, TAM) share it.
    """

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        """Y of X (B*T, C, H, W), in the type of ``x``.

        ``taps`` are (C, 3), the weights K of the previous, the same and the next frame. Or
        (B*T, C, 3), one set of weights for every input frame: the weights of its contribution to
        the next frame, to itself and to the previous frame.
        """
        past, present, future = taps.to(x.dtype)[..., None, None].unbind(-3)
        y = x * present + shift_frames(x * past, 1, num_segments)
        return y + shift_frames(x * future, -1, num_segments)

    def uncounted_multiply_adds(self, x: Tensor, taps: Tensor, num_segments: int) -> int:
        """Multiply-adds of a call that no convolution operator shows."""
        del taps, num_segments
        return 3 * x.numel()


class Delay(nn.Module):
    """X[t-1] of X[t]: zeros at the first frame of a clip, the state in a stream."""

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        stream = current_stream()
        return shift_frames(x, 1, num_segments) if stream is None else stream.exchange(self, x)


class CausalSum(TemporalSum):
    """:class:`TemporalSum` of the past: Y[t] = K_0 X[t-2] + K_1 X[t-1] + K_2 X[t]."""

    def __init__(self) -> None:
        super().__init__()
        self.delays = nn.ModuleList([Delay(), Delay()])

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        """Y of X (B*T, C, H, W), in the type of ``x``.

        ``taps`` are (C, 3), the weights K of the frame before the previous one, the previous and
        the same frame. Or (B*T, C, 3), one set of weights for every output frame.
        """
        earlier, before, x = self.frames(x, num_segments)
        weights = taps.to(x.dtype)[..., None, None].unbind(-3)
        return x * weights[2] + before * weights[1] + earlier * weights[0]

    def frames(self, x: Tensor, num_segments: int) -> tuple[Tensor, Tensor, Tensor]:
        """X[t-2], X[t-1] and X[t]."""
        before = self.delays[0](x, num_segments)
        return self.delays[1](before, num_segments), before, x


class FrameDifference(nn.Module):
    """D of G and F, (B*T, C, H, W) each.

    Args:
        kind: ``"forward"``: :func:`frame_difference`. ``"both"``: the mean of that and
            :func:`backward_difference`. ``"causal"``: D[t] = G[t] - F[t-1], zero at the first
            frame. Of that only the means (B*T, C, 1, 1) are given, so the state is small.
    """

    def __init__(self, kind: Difference = "forward") -> None:
        super().__init__()
        self.kind = kind
        if kind == "causal":
            self.delay = Delay()

    def forward(self, g: Tensor, f: Tensor, num_segments: int) -> Tensor:
        if self.kind == "causal":
            if g.shape[2:] != (1, 1):
                g, f = (x.mean((2, 3), keepdim=True) for x in (g, f))
            d = g - self.delay(f, num_segments)
            stream = current_stream()
            return _zero_at_ends(d, 1, num_segments) if stream is None else d * stream.started(d)
        d = frame_difference(g, f, num_segments)
        return d if self.kind == "forward" else (d + backward_difference(g, f, num_segments)) / 2


def shift_frames(x: Tensor, by: int, num_segments: int) -> Tensor:
    """Move folded frames (B*T, ...) one step in time, ``by`` +1 (Y[t] = X[t-1]) or -1 (Y[t] =
    X[t+1]); zeros enter."""
    return _zero_at_ends(_rolled(x, by, num_segments), by, num_segments)


def frame_difference(transformed: Tensor, frames: Tensor, num_segments: int) -> Tensor:
    """D[t] = transformed[t+1] - frames[t]; zero at the last frame of a clip.

    The motion feature of TEA (Li et al., CVPR 2020): the later frame is transformed, the earlier
    one is not. Both (B*T, C, H, W).
    """
    return _zero_at_ends(_rolled(transformed, -1, num_segments) - frames, -1, num_segments)


def backward_difference(transformed: Tensor, frames: Tensor, num_segments: int) -> Tensor:
    """D[t] = transformed[t-1] - frames[t]; zero at the first frame of a clip (TDN, CVPR 2021)."""
    return _zero_at_ends(_rolled(transformed, 1, num_segments) - frames, 1, num_segments)


def _rolled(x: Tensor, by: int, num_segments: int) -> Tensor:
    """The frames of the whole batch one step later or earlier, in a circle: at the end of a clip
    this is a frame of another clip."""
    if num_segments == 1:
        return x  # every frame is overwritten afterwards
    return torch.cat([x[-1:], x[:-1]] if by > 0 else [x[1:], x[:1]])


def _zero_at_ends(x: Tensor, by: int, num_segments: int) -> Tensor:
    """x with zeros where a shift ``by`` one step took a frame of another clip, NaN or not."""
    return x.masked_fill(is_clip_end(x, num_segments, first=by > 0), 0)


def is_clip_end(x: Tensor, num_segments: int, *, first: bool = False) -> Tensor:
    """Whether each folded frame of ``x`` is the last (or the first) of its clip, (B*T, 1, 1, 1)."""
    step = torch.arange(x.shape[0], device=x.device) % num_segments
    return (step == (0 if first else num_segments - 1))[:, None, None, None]


def partial_shift(x: Tensor, num_segments: int, shift_div: int = 8) -> Tensor:
    """TSM's shift (Lin et al., ICCV 2019): C/``shift_div`` channels take the next frame, as many
    take the previous one, the others stay. x (B*T, C, H, W) -> the same shape."""
    fold = x.shape[1] // shift_div
    return torch.cat(
        [
            shift_frames(x[:, :fold], -1, num_segments),
            shift_frames(x[:, fold : 2 * fold], 1, num_segments),
            x[:, 2 * fold :],
        ],
        dim=1,
    )
