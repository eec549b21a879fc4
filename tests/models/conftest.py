"""One thread: on tensors this small, and beside other work, more cost more than they give."""

from __future__ import annotations

import torch


def pytest_configure() -> None:
    torch.set_num_threads(1)
