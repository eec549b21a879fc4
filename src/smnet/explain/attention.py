"""What the modules of a network attend to: the masks of SE and the gates of ME, stage by stage."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smnet.inference.backends import Backend

if TYPE_CHECKING:
    from smnet.inference.torch_backend import TorchBackend

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Attention:
    """The modules of one stage.

    Attributes:
        stage: such as ``res3``.
        mask: (T, h, w) in (0, 1), the spatial masks M_s of SE, averaged over the blocks; None
            without such a mask.
        gates: (T, C) in (0, 1), the channel gates M_m of ME, averaged over the blocks; None without
            them.
    """

    stage: str
    mask: Array | None
    gates: Array | None

    @property
    def response(self) -> NDArray[np.float64]:
        """How far the gates of each frame are from their mean over time (T,), over all channels."""
        assert self.gates is not None
        away = self.gates - self.gates.mean(0, keepdims=True)
        return np.abs(away).mean(1, dtype=np.float64)


def attention_of(backend: Backend, view: NDArray[np.uint8]) -> tuple[Attention, ...]:
    """The masks and gates for one view; empty for exported files and networks without them.

    They are read by hooks on a copy of the network, whose hooked modules run as in the article.

    Args:
        backend: a checkpoint.
        view: (T*L, 3, h, w) uint8.
    """
    if not hasattr(backend, "model"):
        return ()
    return _read(backend, view)  # type: ignore[arg-type]


def _read(backend: TorchBackend, view: NDArray[np.uint8]) -> tuple[Attention, ...]:
    import torch

    from smnet.data.loading.transforms import normalise
    from smnet.models.smnet import MotionExcitation, SpatialAttention

    network = copy.deepcopy(backend.model)
    masks: dict[str, list[Array]] = defaultdict(list)
    gates: dict[str, list[Array]] = defaultdict(list)

    def watch(name: str, module: Any) -> None:
        stage = network.stage_of(name)
        if isinstance(module, SpatialAttention):
            module.register_forward_hook(
                lambda _, __, mask: masks[stage].append(mask[:, 0].float().cpu().numpy())
            )
        elif isinstance(module, MotionExcitation):
            module.register_forward_pre_hook(
                lambda own, given: gates[stage].append(
                    own.gates(*given)[:, :, 0, 0].float().cpu().numpy()
                )
            )

    for name, module in network.named_modules():
        watch(name, module)
    clips = torch.from_numpy(view)[None].to(backend.device)
    with torch.no_grad():
        network(normalise(clips, network.spec.mean, network.spec.std))
    stages = sorted({*masks, *gates})
    return tuple(Attention(stage, _mean(masks[stage]), _mean(gates[stage])) for stage in stages)


def _mean(blocks: list[Array]) -> Array | None:
    """The mean over the blocks of the last block's shape: the stage's own resolution."""
    alike = [block for block in blocks if block.shape == blocks[-1].shape]
    return np.mean(alike, axis=0, dtype=np.float32) if alike else None
