"""Workers that send results in pieces."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from smnet.data.workers.pool import Lost, Piece
from smnet.data.workers.streams import StreamPool

LARGE = 300_000
"""Bytes of a piece; a pipe holds 64 kB."""


def count(item: str) -> Iterator[Any]:
    """Pieces 0, 1, ... of an item such as "4", which may be followed by a fault."""
    number, _, fault = item.partition(" ")
    for piece in range(int(number)):
        yield piece, np.full(LARGE, piece, np.uint8)
    if fault == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hangs":
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        time.sleep(1000)
    if fault == "raises":
        raise KeyError("what")


@pytest.mark.parametrize("workers", [1, 3])
def test_pieces_come_in_order_and_a_fault_costs_its_item(workers: int) -> None:
    items = ["3", "2 dies", "0", "2 raises", "4", "1 hangs", "5"]
    pieces: dict[str, list[int]] = defaultdict(list)
    ends: dict[str, Lost | None] = {}
    for item, message in StreamPool(count, workers, 3.0).map(items):
        assert item not in ends
        if isinstance(message, Piece):
            number, data = message.value
            assert (data == number).all()
            pieces[item].append(number)
        else:
            ends[item] = message
    assert list(ends) == items or workers > 1
    assert ends.keys() == set(items)
    for item in items:
        assert pieces[item] == list(range(int(item[0])))
    kinds = {item: lost.kind for item, lost in ends.items() if lost is not None}
    assert kinds == {"2 dies": "crash", "2 raises": "error", "1 hangs": "timeout"}
    assert "SIGKILL" in str(ends["2 dies"])


def test_a_slow_reader_is_no_fault_of_the_worker() -> None:
    found = []
    for _, message in StreamPool(count, 1, 2.0).map(["2"]):
        time.sleep(2.1)  # longer than the limit, which is that of a worker on a busy machine
        found.append(message)
    assert [isinstance(message, Piece) for message in found] == [True, True, False]
    assert found[-1] is None


def test_workers_end_with_the_iteration() -> None:
    pool = StreamPool(count, 2, 10.0)
    pieces = pool.map(["9", "9"])
    next(pieces)
    processes = [worker.process for worker in pool._workers]
    pieces.close()
    assert processes
    assert not any(process.is_alive() for process in processes)
