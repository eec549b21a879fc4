"""Batch normalisation folded into the convolutions before it, for networks that only answer.

In evaluation BN(W * x) with running mean m, variance v, weight g and bias b is the convolution
(g / sqrt(v + eps)) W with bias b - g m / sqrt(v + eps): one pass over the features less.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .base import VideoModel, on_meta

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def fold_norms(model: VideoModel) -> VideoModel:
    """A copy of a model for inference, with every BN folded that has a convolution of its own.

    Args:
        model: any model; it is left as it is, and its weights are not shared.

    Returns:
        The copy, in evaluation mode, with ``nn.Identity`` where a BN was folded.
    """
    folded = copy.deepcopy(model).eval()
    modules = dict(folded.named_modules())
    for conv_name, norm_name in _pairs(folded):
        conv: Any = modules[conv_name]
        norm: Any = modules[norm_name]
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        parent, _, child = norm_name.rpartition(".")
        setattr(modules[parent], child, nn.Identity().eval())
    return folded


class _Uses(TorchDispatchMode):
    """Counts how often each tensor is an operand."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count.update(id(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        return func(*args, **(kwargs or {}))


def _pairs(model: VideoModel) -> list[tuple[str, str]]:
    """Names of the convolutions, and of the BNs that alone see what these compute.

    Found by a run of the model on shapes alone; modules that are called more than once, or whose
    tensors are read from outside, are left as they are.
    """
    shadow = on_meta(model)
    made: dict[int, tuple[str, Tensor]] = {}  # holds the tensors, so that no id comes twice
    seen: list[tuple[str, Tensor]] = []
    calls: Counter[str] = Counter()
    uses = _Uses()

    def listen(name: str, module: nn.Module) -> None:
        def after(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            calls[name] += 1
            if isinstance(module, _BatchNorm):
                seen.append((name, args[0]))
            else:
                made[id(out)] = (name, out)
                uses.count[id(out)] = 0  # another tensor, gone by now, may have had the same id

        module.register_forward_hook(after)

    for name, module in shadow.named_modules():
        tracked = isinstance(module, _BatchNorm) and module.track_running_stats and module.affine
        if tracked or isinstance(module, CONVOLUTIONS):
            listen(name, module)
    spec = model.spec
    size = (1, spec.frames_per_clip, 3, spec.input_size, spec.input_size)
    with uses:
        shadow(torch.empty(size, device="meta"))
    pairs = [(made[id(x)][0], norm) for norm, x in seen if id(x) in made and uses.count[id(x)] == 1]
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]
