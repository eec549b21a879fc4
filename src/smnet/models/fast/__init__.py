"""Everything that makes a plain model faster, and nothing else.

================  =====================================================================
acceleration      which module has which twin for which purpose; swapping; the report
modules           the twins in PyTorch
engines           the twins for inference engines
volumes           a ResNet on clips as volumes, for engines with channels innermost
recompute         SMNet's training step, which keeps one feature map
operators         the kernels as operators of PyTorch
kernels           the compiled kernels, ``kernels.c``
gpu               the same as Triton kernels, for NVIDIA GPUs
folding           batch normalisation folded into convolutions
switch            ``set_fast`` and ``SMNET_FAST``
================  =====================================================================
"""

from .acceleration import Purpose, Swap, accelerate, report
from .switch import enabled, set_fast

__all__ = ["Purpose", "Swap", "accelerate", "enabled", "report", "set_fast"]
