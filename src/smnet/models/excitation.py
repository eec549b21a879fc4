"""What excites features: channel statistics, masks, and the gate of motion excitation.

Several families use these. All work on folded frames (B*T, C, H, W).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as of_all

from . import native
from .layers import backward_difference, frame_difference, is_traced, squeezed_channels


def mean_and_max(x: Tensor) -> Tensor:
    """Mean and maximum over the channels: x (N, C, H, W) -> (N, 2, H, W)."""
    if is_traced() or not x.requires_grad:
        return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
    pooled: Tensor = _MeanAndMax.apply(x)
    return pooled


class _MeanAndMax(torch.autograd.Function):
    """The same; its backward writes the gradient of both in one pass, in the layout of x.

    As in ``amax``, channels that share the maximum share its gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        top = x.amax(1, keepdim=True)
        ctx.save_for_backward(x, top)
        return torch.cat([x.mean(1, keepdim=True), top], dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, top = ctx.saved_tensors
        is_top = (x == top).to(x.dtype)  # as numbers: booleans are counted slowly
        everywhere = grad[:, :1] / x.shape[1]
        at_top = grad[:, 1:] / is_top.sum(1, keepdim=True)
        return torch.addcmul(everywhere, is_top, at_top)


def excited_sum(
    z: Tensor, scale: Tensor, x: Tensor, gate: Tensor, out: Tensor | None = None
) -> Tensor:
    """z * scale + x * gate, of maps (N, C, H, W), (N, 1, H, W), the same as z and (N, C, 1, 1).

    Args:
        out: where the sum is written, without a record for the backward pass; may be z, not x.
            Fresh memory for a map of this size costs as much as the arithmetic.
    """
    if out is not None:
        return torch.mul(z, scale, out=out).addcmul_(x, gate)
    if is_traced():  # compilers fuse what they like; old exporters stumble over addcmul
        return z * scale + x * gate
    return torch.addcmul(z * scale, x, gate)


class MotionGate(nn.Module):
    """One gate a channel and frame from the difference of adjacent frames: motion excitation.

    Li et al., "TEA", CVPR 2020, section 3.1; ACTION-Net (Wang et al., CVPR 2021) and SMNet take it
    without the last BN. With * convolution and s the sigmoid:

        M1   F = BN(K_r * X)                    1x1, C -> C/r
        M2   P = K_3x3 * F                      channel-wise
        M3   D[t] = P[t+1] - F[t]               zero at the last frame of a clip
        M4   d = GAP(D)
        M5   gate = s(K_e * d) or s(BN(K_e * d))        1x1, C/r -> C

    Args:
        channels: C.
        reduction: r.
        norm: BN inside the sigmoid of M5.
        both: D is the mean of the forward and the backward difference P[t-1] - F[t] (as TDN).
    """

    def __init__(
        self, channels: int, reduction: int = 16, norm: bool = False, both: bool = False
    ) -> None:
        super().__init__()
        squeezed = squeezed_channels(channels, reduction)
        self.both = both
        self.squeeze = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.norm = nn.BatchNorm2d(squeezed)
        self.transform = nn.Conv2d(squeezed, squeezed, 3, padding=1, groups=squeezed, bias=False)
        self.expand = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels) if norm else nn.Identity()

    def gates(self, x: Tensor, num_segments: int) -> Tensor:
        """Gates (B*T, C, 1, 1) in (0, 1) of features (B*T, C, H, W)."""
        counted = x.is_meta  # multiply-adds, by the equations
        if self.training or counted or self._is_watched() or not _is_affine(self.norm):
            return self.gates_of(self.squeeze(x), num_segments)
        # F is an affine function of each pixel of X, so the means of X are all that is needed.
        f = self.norm(_pointwise(self.squeeze, edge_means(x)))  # M1: (B*T, C/r, 3, 3)
        return self._gates(*self._transformed(f, *x.shape[-2:]), num_segments)

    def gates_of(self, squeezed: Tensor, num_segments: int) -> Tensor:
        """The same from K_r * X, (B*T, C/r, H, W)."""
        if _is_plain(self.norm, squeezed) and not squeezed.is_meta and not self._is_watched():
            f = _normalised(edge_means(squeezed), squeezed, self.norm)
            return self._gates(*self._transformed(f, *squeezed.shape[-2:]), num_segments)
        f = self.norm(squeezed)  # M1
        p = self.transform(f)  # M2
        return self._gates(p.mean((2, 3), keepdim=True), f.mean((2, 3), keepdim=True), num_segments)

    def _is_watched(self) -> bool:
        """Whether somebody's hook waits for a part that :meth:`_transformed` does without: also
        what prunes a kernel or normalises it is one."""
        return hooked(self.norm) or hooked(self.transform)

    def _gates(self, p: Tensor, f: Tensor, num_segments: int) -> Tensor:
        d = frame_difference(p, f, num_segments)  # M3; the mean of a difference is that of means
        if self.both:
            d = (d + backward_difference(p, f, num_segments)) / 2
        return torch.sigmoid(self.expand_norm(_pointwise(self.expand, d)))  # M5

    def _transformed(self, f: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """GAP(P) and GAP(F), (B*T, C/r, 1, 1) each, from the :func:`edge_means` of F.

        P is a sum of shifted F, so its mean follows from those of F over the frame, its edges and
        its corners (what a shift by one pixel pushes out). No map of P is made.
        """
        rows, columns = _met(height, f), _met(width, f)
        k = rows.t() @ self.transform.weight[:, 0].to(f.dtype) @ columns  # M2
        return (f * k).sum((2, 3), keepdim=True), f[:, :, 1:2, 1:2]


def _met(size: int, like: Tensor) -> Tensor:
    """What entry i of a kernel of 3 meets as it slides over a line of ``size`` pixels, in shares of
    the line's last pixel, its mean and its first pixel: (3, 3), a row an entry."""
    edge = -1 / size
    return like.new_tensor([[edge, 1, 0], [0, 1, 0], [0, 1, edge]])


def hooked(module: nn.Module) -> bool:
    """Whether somebody waits for a module, or for any, to be called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or of_all._global_forward_hooks
        or of_all._global_forward_pre_hooks
        or of_all._global_backward_hooks
        or of_all._global_backward_pre_hooks
    )


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)``, 1x1, of a few pixels a frame.

    As one matrix product: a convolution takes the frames one by one.
    """
    if torch.compiler.is_compiling() or x.is_meta or hooked(conv):
        out: Tensor = conv(x)
        return out
    weight = conv.weight.flatten(1)
    return F.linear(x.permute(0, 2, 3, 1), weight, conv.bias).permute(0, 3, 1, 2)


def to_one_channel(conv: nn.Conv2d, x: Tensor, num_segments: int) -> Tensor:
    """``conv(x)``, of few channels to a single one: (B*T, C, H, W) -> (B*T, 1, H, W).

    Processors compute 8 or 16 channels at a time. Here the frames of a clip stand in for channels:
    one depthwise convolution of T * C, and the sum over C.
    """
    if x.is_cuda or hooked(conv):
        out: Tensor = conv(x)
        return out
    frames, channels, height, width = x.shape
    kernels = conv.weight[0, :, None].repeat(num_segments, 1, 1, 1)
    clips = x.reshape(-1, num_segments * channels, height, width)
    y = F.conv2d(clips, kernels, padding=conv.padding, groups=len(kernels))
    y = y.reshape(frames, channels, height, width).sum(1, keepdim=True)
    return y if conv.bias is None else y + conv.bias[:, None, None]


def _is_affine(norm: nn.Module) -> bool:
    """Whether what a normalisation makes of a value does not depend on the features at hand."""
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return not norm.training and norm.running_mean is not None
    return isinstance(norm, nn.Identity)


def _is_plain(norm: nn.Module, x: Tensor) -> bool:
    """Whether a normalisation is by the statistics of the features at hand, and they have some."""
    if type(norm) is not nn.BatchNorm2d or norm.momentum is None or not norm.affine:
        return False
    several = x.numel() > x.shape[1]  # values a channel; of a single one it complains itself
    return norm.training and several


def _normalised(means: Tensor, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Means over pixels of ``norm(x)``, in training, from those of x: a map need not be made.

    Args:
        means: (N, C, ...).
        x: (N, C, H, W), whose statistics ``norm`` learns as it does when it is called.
    """
    over = (0, 2, 3)
    mean = x.mean(over, dtype=norm.weight.dtype)
    # The mean is no variable of this: a variance does not change with what it is taken about.
    centred = x - mean.detach().view(-1, 1, 1)
    variance = centred.square().mean(over)
    learns = norm.track_running_stats  # may be switched off where there are some
    if learns and norm.running_mean is not None and norm.running_var is not None:
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            norm.running_mean.lerp_(mean, norm.momentum or 0)
            norm.running_var.lerp_(variance * (count / max(count - 1, 1)), norm.momentum or 0)
    slope = norm.weight * torch.rsqrt(variance + norm.eps)
    shape = (-1, *[1] * (means.dim() - 2))
    return ((means - mean.view(shape)) * slope.view(shape) + norm.bias.view(shape)).to(x.dtype)


def edge_means(x: Tensor) -> Tensor:
    """Means of x (N, C, H, W) over what a 3x3 kernel can lose at the border: (N, C, 3, 3).

    In the middle the whole frame; above and below it the last and the first row, left and right of
    it the last and the first column, in the corners the pixel that such a row and column share.
    """
    if x.requires_grad and not is_traced():
        means: Tensor = _EdgeMeans.apply(x)
        return means
    return _edge_means(x)


class _EdgeMeans(torch.autograd.Function):
    """The same; its backward writes one map, where autograd would add up one for each mean."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)  # for its shape and layout
        return _edge_means(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        height, width = x.shape[-2:]
        out = torch.empty_like(x).copy_(grad[:, :, 1:2, 1:2] / (height * width))
        for i, row in ((0, -1), (2, 0)):
            out[:, :, row] += grad[:, :, i, 1:2] / width
            for j, column in ((0, -1), (2, 0)):
                out[:, :, row, column] += grad[:, :, i, j]
        for j, column in ((0, -1), (2, 0)):
            out[:, :, :, column] += grad[:, :, 1, j, None] / height
        return out


def _edge_means(x: Tensor) -> Tensor:
    if native.knows(x):
        means = x.new_empty(len(x), 3, 3, x.shape[1])
        native.run("edge_means", x, 1, x, None, means)
        return means.permute(0, 3, 1, 2)
    last, first, right, left = x[:, :, -1:], x[:, :, :1], x[:, :, :, -1:], x[:, :, :, :1]
    whole, *edges = (part.mean((2, 3), keepdim=True) for part in (x, last, first, right, left))
    below, above, after, before = edges
    # Slices and means alone, all of one shape: engines run them on 8-bit features as they lie.
    nine = [last[..., -1:], below, last[..., :1]]
    nine += [after, whole, before]
    nine += [first[..., -1:], above, first[..., :1]]
    return torch.cat(nine, dim=2).unflatten(2, (3, 3)).squeeze(4)
