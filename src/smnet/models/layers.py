"""Temporal layers that several families use. All work on folded frames (B*T, C, H, W) and never
unfold to (B*H*W, C, T): that permutation is what makes depthwise temporal convolutions slow."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TemporalInit = Literal["shift", "difference", "motion", "identity"]


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
            previous one, the rest keep their own (TSM's partial shift, Lin et al., ICCV 2019, as a
            trainable start; ACTION-Net and TDN start so). ``"difference"``: every channel its own,
            plus (X[t+1] - X[t-1]) / 2 in even channels and minus that in odd ones. ``"motion"``:
            X[t+1] - X[t] alone. ``"identity"``: every channel its own.
        shift_div: see ``init``.
        beside: how much of X the caller adds to the result. The sum starts at 1 + beside times
            what ``init`` says (``"motion"``: once). The shifted channels, for one, start at
            (1 + beside) X[t+1] - beside X[t].

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
        beside: float = 0.0,
    ) -> None:
        super().__init__()
        groups = channels if groups is None else groups
        if groups < 1 or channels % groups:
            raise ValueError(f"groups must divide the {channels} channels, {groups} does not")
        if space not in (1, 3):
            raise ValueError(f"the spatial side of a temporal kernel is 1 or 3, not {space}")
        self.channels = channels
        self.groups = groups
        self.space = space
        side = (space, space) if space > 1 else ()
        self.weight = nn.Parameter(torch.zeros(channels, channels // groups, 3, *side))
        self._initialise(init, shift_div, beside)

    @torch.no_grad()
    def _initialise(self, init: TemporalInit, shift_div: int, beside: float) -> None:
        if init not in get_args(TemporalInit):
            allowed = ", ".join(get_args(TemporalInit))
            raise ValueError(f"temporal init must be one of {allowed}, not {init!r}")
        check_shift_div(shift_div)
        fold = self.channels // shift_div if init == "shift" else 0
        taps = self.weight if self.space == 1 else self.weight[..., 1, 1]
        channel = torch.arange(self.channels)
        tap = torch.ones_like(channel)
        tap[:fold], tap[fold : 2 * fold] = 2, 0
        moved = tap != 1
        own = channel % taps.shape[1]
        # By slices, for an index by a mask cannot be made on the meta device.
        taps[channel[: 2 * fold], own[: 2 * fold], 1] = -beside
        taps[channel, own, tap] = 1.0 + beside * moved
        if init == "difference":
            half = (1 + beside) * (0.5 - channel % 2)
            taps[channel, own, 0], taps[channel, own, 2] = -half, half
        elif init == "motion":
            taps[channel, own, 1], taps[channel, own, 2] = -1.0 - beside, 1.0

    def extra_repr(self) -> str:
        return f"{self.channels}, groups={self.groups}, space={self.space}"

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        if self.groups == self.channels and self.space == 1:
            return depthwise_temporal_conv(x, self.weight[:, 0], num_segments)
        past, present, future = (self._tap(x, k) for k in range(3))
        return (
            present + shift_frames(past, 1, num_segments) + shift_frames(future, -1, num_segments)
        )

    def _tap(self, x: Tensor, k: int) -> Tensor:
        weight = self.weight[:, :, k]
        weight = weight[..., None, None] if self.space == 1 else weight
        return F.conv2d(x, weight, padding=self.space // 2, groups=self.groups)

    def uncounted_multiply_adds(self, x: Tensor, num_segments: int) -> int:
        """Multiply-adds of a call on ``x`` that no convolution operator shows."""
        if self.groups == self.channels and self.space == 1:
            return 3 * x.numel()
        return 0


def check_shift_div(shift_div: int) -> None:
    """``ValueError`` for a share of the channels that cannot be shifted both ways."""
    if shift_div < 2:
        raise ValueError(f"shift_div must be at least 2, not {shift_div}")


def squeezed_channels(channels: int, reduction: int) -> int:
    """C/r, at least one. ``ValueError`` for an r below one."""
    if reduction < 1:
        raise ValueError(f"reduction must be at least 1, not {reduction}")
    return max(channels // reduction, 1)


def is_traced() -> bool:
    """Whether somebody follows the operators one by one, and takes neither gradients of our own nor
    writing in place: a compiler, an exporter, or torch.func."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def shift_frames(x: Tensor, by: int, num_segments: int) -> Tensor:
    """Every clip moved ``by`` frames later (or earlier, if negative); what enters is zero.

    Args:
        x: (B*T, ...) folded frames.
        by: +1 or -1.
        num_segments: T.
    """
    return _without(_moved(x, by, num_segments), num_segments, first=by > 0, last=by < 0)


def _moved(x: Tensor, by: int, num_segments: int) -> Tensor:
    """The batch's frames one later or earlier, in a circle: what enters a clip is of another."""
    if num_segments == 1 and is_traced():
        return x  # all is of another clip; of slices, exporters take the number of clips for fixed
    return torch.cat([x[-1:], x[:-1]] if by > 0 else [x[1:], x[:1]])


def _without(x: Tensor, num_segments: int, *, first: bool = False, last: bool = False) -> Tensor:
    """x, which may be changed, with zeros at the first or last frame of each clip."""
    if is_traced():
        return x * frame_mask(x, num_segments, first=first, last=last)
    x[0 if first else num_segments - 1 :: num_segments] = 0  # also where another clip brought NaN
    return x


def frame_mask(x: Tensor, num_segments: int, *, first: bool = False, last: bool = False) -> Tensor:
    """Ones (B*T, 1, 1, 1), with zeros at the first and/or last frame of each clip.

    Multiplying by it keeps shifted frames from crossing into the neighbouring clip without a 5-D
    view, which inference engines pay for dearly.
    """
    step = torch.arange(x.shape[0], device=x.device) % num_segments
    keep = torch.ones_like(step, dtype=torch.bool)
    if first:
        keep &= step != 0
    if last:
        keep &= step != num_segments - 1
    return keep.to(x.dtype)[:, None, None, None]


def depthwise_temporal_conv(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    """Channel-wise temporal convolution, kernel 3.

    Three forms of the same sums, by what each is fast at: plain shifts for compilers and exporters;
    one depthwise convolution where channels are innermost; shifted sums in place elsewhere.

    Args:
        x: (B*T, C, H, W).
        taps: (C, 3), the weights of the previous, the same and the next frame; or (B*T, C, 3),
            every frame with weights of its own: what it gives to the next, itself, the previous.
        num_segments: T.
    """
    if is_traced():
        if num_segments == 1:
            return x * taps[..., 1, None, None].to(x.dtype)
        # Written without in-place slices, which tracers cannot fuse. The weights are masked at the
        # clips' ends, not the features: engines run what they are given, and features are large.
        past, present, future = (taps[..., k, None, None].to(x.dtype) for k in range(3))
        past = past * frame_mask(x, num_segments, last=True)
        future = future * frame_mask(x, num_segments, first=True)
        none = torch.zeros_like(x[:1])
        y = x * present + torch.cat([none, (x * past)[:-1]])
        return y + torch.cat([(x * future)[1:], none])
    if taps.dim() == 3:
        return _sums_by_frame(x, taps, num_segments)
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_meta:
        return _conv_over_time(x, taps.to(x.dtype), num_segments)
    out: Tensor = _ShiftedSums.apply(x, taps, num_segments)
    return out


def _conv_over_time(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    films = as_films(x, num_segments)
    y = F.conv2d(films, taps[:, None, :, None], padding=(1, 0), groups=x.shape[1])
    return as_frames(y, x)


def as_films(x: Tensor, num_segments: int) -> Tensor:
    """Frames (B*T, C, H, W), channels last -> one image a clip, (B, C, T, H*W), channels last.

    It is the same memory: channels innermost, the frames of a clip lie there as T rows of H*W
    pixels, so a depthwise 3x1 convolution of this image goes over time and reads it once.
    """
    _, channels, height, width = x.shape
    films = x.permute(0, 2, 3, 1).reshape(-1, num_segments, height * width, channels)
    return films.permute(0, 3, 1, 2)


def as_frames(films: Tensor, like: Tensor) -> Tensor:
    """Back from :func:`as_films` to the shape of ``like``."""
    _, channels, height, width = like.shape
    return films.permute(0, 2, 3, 1).reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class _ShiftedSums(torch.autograd.Function):
    """The same sums written in place; saves x alone, where autograd would save a copy a term."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.num_segments = num_segments
        return _sums(x, taps, num_segments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        grad_x = grad_taps = None
        if ctx.needs_input_grad[0]:  # correlation turned round: past and future change places
            grad_x = _sums(grad, taps.flip(1), ctx.num_segments)
        if ctx.needs_input_grad[1]:
            g, v = (a.unflatten(0, (-1, ctx.num_segments)) for a in (grad, x))
            over = (0, 1, 3, 4)
            grad_taps = torch.stack(
                [
                    (g[:, 1:] * v[:, :-1]).sum(over),
                    (g * v).sum(over),
                    (g[:, :-1] * v[:, 1:]).sum(over),
                ],
                dim=1,
            ).to(taps.dtype)
        return grad_x, grad_taps, None


def _sums(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    past, present, future = (taps[:, k, None, None].to(x.dtype) for k in range(3))
    y = x * present
    clips, out = x.unflatten(0, (-1, num_segments)), y.unflatten(0, (-1, num_segments))
    out[:, 1:].addcmul_(clips[:, :-1], past)
    out[:, :-1].addcmul_(clips[:, 1:], future)
    return y


def _sums_by_frame(x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
    past, present, future = taps.to(x.dtype)[..., None, None].unbind(2)  # (B*T, C, 1, 1) each
    y = x * present
    clips, out, past, future = (a.unflatten(0, (-1, num_segments)) for a in (x, y, past, future))
    out[:, 1:].addcmul_(clips[:, :-1], past[:, :-1])
    out[:, :-1].addcmul_(clips[:, 1:], future[:, 1:])
    return y


def partial_shift(x: Tensor, num_segments: int, shift_div: int = 8) -> Tensor:
    """TSM's shift (Lin et al., ICCV 2019): C/``shift_div`` channels take the next frame, as many
    the previous one, the rest stay. x (B*T, C, H, W) -> the same shape."""
    fold = x.shape[1] // shift_div
    return torch.cat(
        [
            shift_frames(x[:, :fold], -1, num_segments),
            shift_frames(x[:, fold : 2 * fold], 1, num_segments),
            x[:, 2 * fold :],
        ],
        dim=1,
    )


def frame_difference(transformed: Tensor, frames: Tensor, num_segments: int) -> Tensor:
    """D[t] = transformed[t+1] - frames[t]; zero at the last frame of a clip.

    The motion feature of TEA (Li et al., CVPR 2020): the later frame is transformed, the earlier
    one is not. Both (B*T, C, H, W).
    """
    ahead = _moved(transformed, -1, num_segments)
    return _without(ahead - frames, num_segments, last=True)


def backward_difference(transformed: Tensor, frames: Tensor, num_segments: int) -> Tensor:
    """D[t] = transformed[t-1] - frames[t]; zero at the first frame of a clip (TDN, CVPR 2021)."""
    before = _moved(transformed, 1, num_segments)
    return _without(before - frames, num_segments, first=True)
