"""Twins of the plain modules: the same parameters, names and results, at less cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as global_hooks

from ..layers import CausalSum, TemporalSum
from ..smnet import MotionExcitation, SMNetModule, SpatialAttention
from ..streaming import current_stream
from ..tsm import TemporalShift
from . import kernels, switch
from .engines import masked_sum
from .operators import (
    convolve_time,
    edge_means,
    edge_means_by_kernel,
    edge_means_by_product,
    edge_means_in_pytorch,
    excite,
    on_gpu,
    pool,
)
from .recompute import excite_and_convolve, observe
from .steps import excite_frame


class FastTemporalSum(TemporalSum):
    """One convolution where channels are innermost, else sums in place."""

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        if torch.compiler.is_compiling():  # compilers cannot fuse either of the others
            return masked_sum(x, taps, num_segments)
        if not applies(self, x):
            return super().forward(x, taps, num_segments)
        if taps.dim() == 2 and x.is_contiguous(memory_format=torch.channels_last):
            return convolve_time(x, taps, num_segments)
        past, present, future = taps.to(x.dtype)[..., None, None].unbind(-3)
        y = x * present
        clips, out = x.unflatten(0, (-1, num_segments)), y.unflatten(0, (-1, num_segments))
        if taps.dim() == 3:  # the weights of the input frames
            past, future = (k.unflatten(0, (-1, num_segments)) for k in (past, future))
            past, future = past[:, :-1], future[:, 1:]
        out[:, 1:].addcmul_(clips[:, :-1], past)
        out[:, :-1].addcmul_(clips[:, 1:], future)
        return y


class FastCausalSum(CausalSum):
    """Sums in place, in clips and in steps."""

    def forward(self, x: Tensor, taps: Tensor, num_segments: int) -> Tensor:
        if torch.compiler.is_compiling() or not applies(self, x):
            return super().forward(x, taps, num_segments)
        earlier, before, present = taps.to(x.dtype).movedim(-1, 0).contiguous()[..., None, None]
        y = x * present
        if current_stream() is not None:
            past, last, _ = self.frames(x, num_segments)
            return y.addcmul_(last, before).addcmul_(past, earlier)
        clips, out = x.unflatten(0, (-1, num_segments)), y.unflatten(0, (-1, num_segments))
        for lag, weight in ((1, before), (2, earlier)):
            if taps.dim() == 3:  # the weights of the output frames
                weight = weight.unflatten(0, (-1, num_segments))[:, lag:]
            if num_segments > lag:
                out[:, lag:].addcmul_(clips[:, :-lag], weight)
        return y


class FastTemporalShift(TemporalShift):
    """The frames that enter a clip are set to zero in place."""

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        if torch.compiler.is_compiling() or not applies(self, x):
            return super().forward(x, num_segments)
        fold = x.shape[1] // self.shift_div
        after = torch.cat([x[1:, :fold], x[:1, :fold]])
        before = torch.cat([x[-1:, fold : 2 * fold], x[:-1, fold : 2 * fold]])
        after[num_segments - 1 :: num_segments] = 0
        before[::num_segments] = 0
        return torch.cat([after, before, x[:, 2 * fold :]], dim=1)


class FastSpatialAttention(SpatialAttention):
    """The convolution to one channel, with the frames of a clip in the place of channels.

    Processors compute 8 or 16 channels at a time. So this is one depthwise convolution of T * C
    channels, and the sum over C.
    """

    def mask(self, pooled: Tensor, num_segments: int) -> Tensor:
        if self.pool == "3d" or pooled.is_cuda or not applies(self, pooled):
            return super().mask(pooled, num_segments)
        return self.fast_mask(pooled, num_segments)

    def fast_mask(self, pooled: Tensor, num_segments: int) -> Tensor:
        """:meth:`mask` without a question."""
        conv: Any = self.conv
        frames, planes, height, width = pooled.shape
        kernel = conv.weight[0, :, None]
        if num_segments > 1:
            kernel = kernel.repeat(num_segments, 1, 1, 1)
        clips = pooled.reshape(-1, num_segments * planes, height, width)
        scores = F.conv2d(clips, kernel, padding=conv.padding, groups=len(kernel))
        scores = scores.reshape(frames, planes, height, width).sum(1, keepdim=True)
        scores = scores if conv.bias is None else scores + conv.bias
        return torch.sigmoid(self.norm(scores))


class FastMotionExcitation(MotionExcitation):
    """The means d from those of F, without a map of D or G.

    G is a sum of shifted F, so its mean follows from the mean of F over the frame and from its
    edges and corners, which a shift by one pixel loses. In evaluation F is an affine function of
    every pixel of X, so the means of X are enough.
    """

    def gates(self, x: Tensor, num_segments: int) -> Tensor:
        if not applies(self, x):
            return super().gates(x, num_segments)
        if not _is_affine(self.norm):
            return self.gates_of_squeezed(self.squeeze(x), num_segments)
        f = self.norm(_pointwise(self.squeeze, self.edge_means(x)))  # M1
        return self._gates(f, x, num_segments)

    def gates_of_squeezed(self, squeezed: Tensor, num_segments: int) -> Tensor:
        """M_m of K_r * X, (B*T, C/r, H, W)."""
        return self._gates(self.edge_means(self.norm(squeezed)), squeezed, num_segments)

    def edge_means(self, x: Tensor) -> Tensor:
        """See :func:`smnet.models.fast.operators.edge_means`."""
        if torch.compiler.is_compiling():
            step = current_stream() is not None
            return edge_means_by_product(x) if step else edge_means_in_pytorch(x)
        return edge_means_by_kernel(x) if _is_plain(x) else edge_means(x)

    def _gates(self, f: Tensor, like: Tensor, num_segments: int) -> Tensor:
        """M_m of the edge means of F, maps of the size of ``like``."""
        g = (f * self.kernel_of_means(like.shape[-2:], f)).sum((2, 3), keepdim=True)  # M2 and M4
        f = f[:, :, 1:2, 1:2]
        d = self.difference(g, f, num_segments)  # M3: the mean of a difference is that of means
        return torch.sigmoid(self.expand_norm(_pointwise(self.expand, d)))  # M5

    def kernel_of_means(self, size: tuple[int, ...], like: Tensor) -> Tensor:
        """What the mean of K_3x3 * F takes of each edge mean of F, (C/r, 3, 3), for maps of
        ``size``; of the type of ``like``."""
        rows, columns = (_seen_by_kernel(side, like) for side in size)
        return rows.t() @ self.transform.weight[:, 0].to(like.dtype) @ columns


class PooledMotionExcitation(FastMotionExcitation):
    """The edge means by poolings. For engines that run these on blocks of channels, where slices
    leave the blocks."""

    def edge_means(self, x: Tensor) -> Tensor:
        """The nine means in another order, (B*T, C, 9, 1), or those of the base for a map of one
        row or column."""
        height, width = x.shape[-2:]
        if min(height, width) < 2:
            return super().edge_means(x)
        down, across = height - 1, width - 1
        parts = [
            F.max_pool2d(x, 1, (down, across)),  # the corners, first row first
            F.avg_pool2d(F.max_pool2d(x, 1, (down, 1)), (1, width)),  # the first and last row
            F.avg_pool2d(F.max_pool2d(x, 1, (1, across)), (height, 1)),
            x.mean((2, 3), keepdim=True),
        ]
        return torch.cat([part.flatten(2) for part in parts], dim=2)[..., None]

    def _gates(self, f: Tensor, like: Tensor, num_segments: int) -> Tensor:
        if f.shape[2] == 9:
            f = f[:, :, [3, 5, 2, 7, 8, 6, 1, 4, 0], 0].unflatten(2, (3, 3))
        return super()._gates(f, like, num_segments)


class FastSMNetModule(SMNetModule):
    """The operators of :mod:`.operators` in inference, those of :mod:`.recompute` in training."""

    def forward(self, x: Tensor, num_segments: int) -> Tensor:
        if not self._applies(x):
            return self._causal(x, num_segments)
        if torch.is_grad_enabled():
            return self._recomputed(None, x, num_segments)
        se: Any = self.se
        me: Any = self.me
        taps = se.temporal.weight[:, 0]
        a = se.scale(se.attention.mask(pool(x, taps, num_segments), num_segments))
        return excite(x, taps, a, me.scale(x, num_segments), num_segments)

    def _causal(self, x: Tensor, num_segments: int) -> Tensor:
        """In place in a clip, in few operators in a step; plain where neither applies."""
        se: Any = self.se
        me: Any = self.me
        alone = self.options.causal and not torch.is_grad_enabled()
        if torch.compiler.is_compiling() or not alone or not applies(self, x):
            return super().forward(x, num_segments)
        stream = current_stream()
        versioned = not se.temporal.weight.is_inference()
        if stream is not None and versioned and _is_affine(me.norm) and _is_plain(x):
            return excite_frame(self, x, stream)
        z: Tensor = se.temporal(x, num_segments)
        a = se.scale(se.attention(z, num_segments)).to(x.dtype)
        return z.mul_(a).addcmul_(x, me.scale(x, num_segments).to(x.dtype))

    def around(self, conv: nn.Module, x: Tensor, num_segments: int) -> Tensor:
        """``conv(self(x))``; in training without keeping the output of the module."""
        hooked = _is_hooked(conv) or _is_hooked(self)
        zero_padded = type(conv) is nn.Conv2d and conv.padding_mode == "zeros"
        if torch.is_grad_enabled() and zero_padded and not hooked and self._applies(x):
            return self._recomputed(conv, x, num_segments)  # type: ignore[arg-type]
        return conv(self(x, num_segments))

    def _applies(self, x: Tensor) -> bool:
        if self.options.causal or not applies(self, x):
            return False
        if not torch.is_grad_enabled():
            return kernels.support(x) or on_gpu(x)
        if not self.training or torch.compiler.is_compiling():  # compilers keep what they like
            return False
        kind = x.device.type
        if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) != x.dtype:
            return False
        return x.is_contiguous(memory_format=torch.channels_last)

    def _recomputed(self, conv: nn.Conv2d | None, x: Tensor, num_segments: int) -> Tensor:
        se: Any = self.se
        me: Any = self.me
        taps = se.temporal.weight[:, 0]
        pooled, squeezed, *relays = observe(x, taps, me.squeeze.weight, num_segments)
        a = se.scale(se.attention.mask(pooled, num_segments))
        b = me.gates_of_squeezed(squeezed, num_segments) + me.residual
        if conv is None:
            last: tuple[Any, ...] = (None, None, [1, 1], [0, 0], [1, 1], 1)
        else:
            last = (conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        return excite_and_convolve(*relays, x, taps, pooled, a, b, num_segments, *last)


def applies(module: nn.Module, x: Tensor) -> bool:
    """Whether a twin may run its own code on ``x`` now.

    Not where it would skip a hook on one of its parts, nor where tensors have no values (shapes
    alone, no clip) or are transformed by ``torch.func`` or forward-mode differentiation.
    """
    if not switch.enabled() or x.is_meta or x.numel() == 0:
        return False
    if torch.compiler.is_compiling():  # the compiler cannot trace the other questions
        return not is_hooked(module)
    return not is_transformed() and not is_hooked(module)


def is_transformed() -> bool:
    """Whether ``torch.func`` or forward-mode differentiation transforms tensors now."""
    functions = torch._C._functorch.peek_interpreter_stack()
    return functions is not None or forward_ad._current_level >= 0


def is_hooked(module: nn.Module) -> bool:
    """Whether there is a hook on a part of a module, or on all modules."""
    return _has_global_hooks() or any(map(_is_hooked, _parts(module)))


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """All modules inside, as ``modules()`` gives them in several times the time."""
    for part in module._modules.values():
        if part is not None:
            yield part
            yield from _parts(part)


def _is_hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _has_global_hooks() -> bool:
    return bool(
        global_hooks._global_forward_hooks
        or global_hooks._global_forward_pre_hooks
        or global_hooks._global_backward_hooks
        or global_hooks._global_backward_pre_hooks
    )


def _is_affine(norm: nn.Module) -> bool:
    """Whether a normalisation is the same affine function for every batch."""
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return not norm.training and norm.running_mean is not None
    return isinstance(norm, nn.Identity)


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)``, 1x1, of few pixels per frame, as one matrix product: a convolution takes the
    frames one by one."""
    if torch.compiler.is_compiling():
        return conv(x)
    return F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def _is_plain(x: Tensor) -> bool:
    """Whether a kernel may be called without the dispatcher: nothing else listens to operators."""
    listening = not torch.is_inference_mode_enabled() or torch._C._len_torch_dispatch_stack()
    return not listening and type(x) is Tensor and not x.is_neg() and kernels.support(x)


def _seen_by_kernel(size: int, like: Tensor) -> Tensor:
    """What each entry of a kernel of 3 sees of a zero-padded line of ``size`` pixels: shares of the
    last pixel, of the mean and of the first pixel, (3, 3), one row per entry."""
    edge = -1 / size
    return like.new_tensor([[edge, 1, 0], [0, 1, 0], [0, 1, edge]])
