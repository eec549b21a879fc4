"""One thread: on tensors this small, and beside other work, more cost more than they give.

On a GPU convolutions keep the digits of float32, as on a CPU.
"""

from __future__ import annotations

import torch


def pytest_configure() -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
