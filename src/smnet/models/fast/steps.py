"""SMNet's module on one frame of a stream, in few operators.

Many small operators make up the cost of a step: a clip starts each of them once for all its frames.
What depends on the weights and the size alone is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..smnet import SMNetModule
from ..streaming import Stream

FEW_PIXELS = 256
"""Up to here a matrix product of patches is faster than a convolution to one channel."""


@dataclass(frozen=True)
class _Constants:
    """What a step needs of the weights.

    Attributes:
        taps: K_t of the frames t-2, t-1 and t, (C, 1, 1) each.
        squeeze: K_r, (C/r, C).
        kernel: what M2 and M4 take of the nine edge means, (9, C/r).
        expand: K_e, (C, C/r).
    """

    taps: tuple[Tensor, ...]
    squeeze: Tensor
    kernel: Tensor
    expand: Tensor


_found: WeakKeyDictionary[SMNetModule, tuple[object, _Constants]] = WeakKeyDictionary()


def excite_frame(module: Any, x: Tensor, stream: Stream) -> Tensor:
    """Y of the features X (B, C, H, W) of the next frame, channels-last, without gradients.

    ``module`` is a causal FastSMNetModule in evaluation mode.
    """
    se, me = module.se, module.me
    known = _constants(module, x)
    before = stream.exchange(se.temporal.sum.delays[0], x)
    earlier = stream.exchange(se.temporal.sum.delays[1], before)
    z = (x * known.taps[2]).addcmul_(before, known.taps[1]).addcmul_(earlier, known.taps[0])
    pooled = torch.cat([z.mean(1, keepdim=True), z.amax(1, keepdim=True)], dim=1)  # S4
    a = _mask(se.attention, pooled).add_(1)  # S5
    edges = me.edge_means(x).permute(0, 2, 3, 1).reshape(len(x), 9, -1)
    f = F.linear(edges, known.squeeze, me.squeeze.bias)  # M1
    if not isinstance(me.norm, nn.Identity):  # not folded
        f = me.norm(f.transpose(1, 2)[..., None]).squeeze(-1).transpose(1, 2)
    g, f = (f * known.kernel).sum(1)[..., None, None], f[:, 4, :, None, None]  # M2 and M4
    d = (g - stream.exchange(me.difference.delay, f)) * stream.started(f)  # M3
    e = F.linear(d[..., 0, 0], known.expand, me.expand.bias)[..., None, None]
    b = torch.sigmoid(me.expand_norm(e)).add_(me.residual)  # M5
    return z.mul_(a).addcmul_(x, b)  # S6 and M6


def _mask(attention: Any, pooled: Tensor) -> Tensor:
    """S5 of P (B, 2, H, W)."""
    conv, (height, width) = attention.conv, pooled.shape[2:]
    if height * width > FEW_PIXELS:
        return attention.fast_mask(pooled, 1)
    patches = F.unfold(pooled, conv.kernel_size, padding=conv.padding)
    scores = torch.matmul(conv.weight.flatten(1), patches).view(-1, 1, height, width)
    if conv.bias is not None:
        scores += conv.bias
    return torch.sigmoid(attention.norm(scores))


def _constants(module: Any, x: Tensor) -> _Constants:
    """Those of a module for the size of ``x``; computed again when a weight changes."""
    me, taps = module.me, module.se.temporal.weight
    weights = (taps, me.squeeze.weight, me.transform.weight, me.expand.weight)
    key = (x.shape[2:], [(w.data_ptr(), w._version) for w in weights])
    found = _found.get(module)
    if found is not None and found[0] == key:
        return found[1]
    made = _Constants(
        tuple(taps[:, 0].t().contiguous()[..., None, None]),
        me.squeeze.weight.flatten(1),
        me.kernel_of_means(x.shape[2:], x).flatten(1).t().contiguous(),
        me.expand.weight.flatten(1),
    )
    _found[module] = key, made
    return made
