"""Many deaths of a source, and long streams: nothing grows. ``make fuzz`` runs the long forms."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.live.watch import watch
from tests.videos import moving_frames, write_video

from .rtsp import Rtsp
from .servers import Mjpeg
from .test_sources import capture_of, samples

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]

DEATHS = int(os.environ.get("SMNET_KILLS", 10))
FRAMES = 14_400 if "SMNET_FUZZ_SECONDS" in os.environ else 240
"""Frames of a long stream; 14,400 at four per second are an hour."""


def sizes() -> tuple[int, int, int]:
    """Memory in MiB, threads and open files of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    handles = len(list(Path("/proc/self/fd").iterdir()))
    return pages * 4096 >> 20, threading.active_count(), handles


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [Mjpeg, Rtsp])
def test_a_source_that_dies_many_times_leaves_nothing_behind(kind: Any) -> None:
    frames = moving_frames(8, 48, 32)

    def script(server: Any) -> Any:
        for frame in np.tile(frames, (2, 1, 1, 1)):
            yield frame
            yield 0.02

    early: tuple[int, int, int] | None = None
    with kind(script) as server:
        capture = capture_of(server.address, silence=5.0, waits=(0.0,))
        for _ in samples(capture, patience=30.0 * (DEATHS + 2)):
            if early is None and capture.counts.reopened >= DEATHS // 4:
                early = sizes()
            if capture.counts.reopened >= DEATHS:
                late = sizes()
                break
    assert early is not None
    assert late[0] - early[0] <= 8
    assert late[1] <= early[1] + 4  # connections of the server that are about to close
    assert late[2] <= early[2] + 8


@pytest.mark.timeout(3600)
def test_a_long_stream_does_not_grow(causal: Path, tmp_path: Path) -> None:
    frames = np.tile(moving_frames(40, 48, 32), (FRAMES // 40, 1, 1, 1))
    stamps = [250 * k for k in range(FRAMES)]
    film = write_video(tmp_path / "long.mkv", frames, timestamps=stamps)
    found = []
    for number, answer in enumerate(watch(causal, str(film), rate=4.0, device="cpu")):
        if number in (FRAMES // 3, FRAMES - 20):
            found.append(sizes())
        assert answer.restart == ""
    early, late = found
    assert late[0] - early[0] <= 8
    assert late[1:] == early[1:]
