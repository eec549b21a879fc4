"""Batch normalisation folded into the convolutions before it, for inference.

In evaluation BN(W * x) with running mean m, variance v, weight g and bias b is the convolution
(g / sqrt(v + eps)) W with bias b - g m / sqrt(v + eps). This saves one pass over the features.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..base import VideoModel

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_SIDE = 64  # pixels of the clip on which the uses are counted


@torch.no_grad()
def fold_norms(model: VideoModel) -> None:
    """Fold every BN that alone sees the result of a convolution, in a model in evaluation mode.

    The model is changed; ``nn.Identity`` takes the place of the folded BN.
    """
    modules = dict(model.named_modules())
    for conv_name, norm_name in _pairs(model):
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


class _Uses(TorchFunctionMode):
    """Counts how many functions read each tensor to compute another."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) for t in tree_leaves(out)):
            self.count.update(id(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        return out


def _pairs(model: VideoModel) -> list[tuple[str, str]]:
    """Names of the convolutions and of the BN that alone reads the result of each.

    Found by running the model on a small clip. Running it on shapes alone imports the compiler of
    PyTorch, which takes two seconds, as a mode of the dispatcher does. Modules that are called more
    than once, or whose results are read elsewhere, are left out.
    """
    results: dict[int, tuple[str, Tensor]] = {}  # keeps the tensors alive, so ids are unique
    inputs: list[tuple[str, Tensor]] = []
    calls: Counter[str] = Counter()
    uses = _Uses()
    hooks: list[Any] = []

    def listen(name: str, module: nn.Module) -> None:
        def after(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            calls[name] += 1
            if isinstance(module, _BatchNorm):
                inputs.append((name, args[0]))
            else:
                results[id(out)] = (name, out)
                uses.count[id(out)] = 0  # a tensor that no longer exists may have had this id

        hooks.append(module.register_forward_hook(after))

    for name, module in model.named_modules():
        tracked = isinstance(module, _BatchNorm) and module.track_running_stats and module.affine
        if tracked or isinstance(module, CONVOLUTIONS):
            listen(name, module)
    spec = model.spec
    side = min(spec.input_size, _SIDE)
    first = next(model.parameters())
    try:
        with uses:
            model(first.new_zeros((1, spec.frames_per_clip, 3, side, side)))
    finally:
        for hook in hooks:
            hook.remove()
    alone = [(norm, x) for norm, x in inputs if id(x) in results and uses.count[id(x)] == 1]
    pairs = [(results[id(x)][0], norm) for norm, x in alone]
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == 1]
