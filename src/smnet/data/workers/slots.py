"""Memory that worker processes share with their parent."""

from __future__ import annotations

import mmap
import multiprocessing
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Slots:
    """Memory shared with workers, into which they write the views of a clip each.

    Args:
        shape: (slots, V, T*L, 3, h, w).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        size = int(np.prod(shape, dtype=np.int64))
        # Anonymous memory where workers are forked: /dev/shm of a container often has only 64 MB.
        forks = "fork" in multiprocessing.get_all_start_methods()
        self._memory: Any = mmap.mmap(-1, size) if forks else multiprocessing.RawArray("B", size)

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(slots, V, T*L, 3, h, w) uint8."""
        return np.frombuffer(self._memory, np.uint8).reshape(self._shape)
