"""Gradient checkpointing: the activations inside of a block are computed again when needed.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. A block keeps its input only.
Its second forward pass leaves the running statistics of normalisations as they are, so that the
weights are those of training without checkpointing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from smnet.models import VideoModel

_BLOCK = re.compile(r"(difference\.)?(layer\d|features)\.\d+")


def checkpoint_gradients(model: VideoModel) -> int:
    """Apply checkpointing to every block of the trunk. Returns the number of blocks."""
    blocks = [module for name, module in model.named_modules() if _BLOCK.fullmatch(name)]
    for block in blocks:
        # A plain attribute of the instance: names in the state dict stay.
        block.forward = partial(_forward, block, block.forward)
    return len(blocks)


def _forward(block: nn.Module, forward: Any, *args: Any) -> Any:
    if not block.training:
        return forward(*args)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Let normalisations compute as in training, without a change of their running statistics."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
