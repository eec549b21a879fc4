"""Mutated containers: every mutant gives frames or one error, within time and memory limits.

``SMNET_FUZZ_SECONDS`` sets the duration; ``make fuzz`` runs for long. The seed is fixed unless
``SMNET_FUZZ_SEED`` gives another.
"""

from __future__ import annotations

import itertools
import os
import resource
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.data.open import open_video
from smnet.data.workers.pool import Lost, ProcessPool
from smnet.errors import UserError
from tests.videos import moving_frames, write_video

SECONDS = float(os.environ.get("SMNET_FUZZ_SECONDS", "4"))
SEED = int(os.environ.get("SMNET_FUZZ_SEED", "0"))
LIMIT = 20.0  # seconds for one mutant
MEMORY = 3 << 30  # bytes of address space beyond what the worker starts with
FRAMES = moving_frames(24)
SOURCES: dict[str, dict[str, Any]] = {
    "h264.mp4": {"bframes": 2},
    "h264.mkv": {"bframes": 2},
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "mpeg4.avi": {"codec": "mpeg4", "bframes": 1},
    "mjpeg.avi": {"codec": "mjpeg"},
    "a.gif": {"codec": "gif"},
}
# Containers that state their own size: a lost end is never silent.
SIZED = {"h264.mp4", "h264.mkv", "vp8.webm", "vp9.webm", "av1.mp4", "mpeg4.avi", "mjpeg.avi"} | {
    "a.gif"
}


@dataclass(frozen=True)
class Outcome:
    """``sums``: the CRC-32 of each frame. ``error``: the message if there are no frames."""

    error: str = ""
    sums: tuple[int, ...] = ()
    damage: int = 0


def read_all(path: Path) -> Outcome:
    try:
        with open_video(path, timeout=10) as video:
            sums = [0] * video.num_frames
            for index, frame in video.each(range(video.num_frames)):
                sums[index] = zlib.crc32(np.ascontiguousarray(frame))
            return Outcome(sums=tuple(sums), damage=video.damage)
    except UserError as error:
        return Outcome(error=str(error))


def read_mutant(task: tuple[Path, bytes]) -> Outcome:
    path, data = task
    path.write_bytes(data)
    try:
        return read_all(path)
    finally:
        path.unlink()


def limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def mutate(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A mutant: changed bits, extreme numbers, or a stretch that is zeroed, moved or cut off."""
    out = bytearray(data)
    head = len(out) if rng.random() < 0.5 else min(600, len(out))  # headers matter more
    at = int(rng.integers(head))
    length = int(rng.integers(1, max(len(out) // 4, 2)))
    if kind == "bits":
        for place in rng.integers(head, size=rng.integers(1, 20)):
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == "extreme":
        out[at : at + 4] = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"][rng.integers(3)]
    elif kind == "zero":
        out[at : at + length] = bytes(len(out[at : at + length]))
    elif kind == "move":
        stretch = out[at : at + length]
        del out[at : at + length]
        target = int(rng.integers(len(out) + 1))
        out[target:target] = stretch
    else:
        del out[max(at, 40) :]
    return bytes(out)


def mutants(sources: dict[str, bytes], folder: Path, seconds: float) -> Iterator[Any]:
    rng = np.random.default_rng(SEED)
    deadline = time.monotonic() + seconds
    kinds = ("bits", "extreme", "zero", "move", "cut")
    for number, (name, kind) in enumerate(itertools.cycle(itertools.product(sources, kinds))):
        if time.monotonic() > deadline:
            return
        yield name, kind, (folder / f"{number}-{name}", mutate(sources[name], kind, rng))


@pytest.mark.fuzz
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory as Linux does")
def test_every_mutant_gives_frames_or_one_error(tmp_path: Path) -> None:
    sources, truth = {}, {}
    for name, arguments in SOURCES.items():
        path = write_video(tmp_path / name, FRAMES, **arguments)
        sources[name] = path.read_bytes()
        truth[name] = read_all(path)
        assert len(truth[name].sums) == len(FRAMES)
        assert truth[name].damage == 0
    given: list[tuple[str, str, Any]] = []

    def tasks() -> Iterator[tuple[Path, bytes]]:
        for name, kind, task in mutants(sources, tmp_path, SECONDS):
            given.append((name, kind, task))
            yield task

    silent: Counter[tuple[str, str]] = Counter()
    with ProcessPool(read_mutant, timeout=LIMIT, window=32, prepare=limit_memory) as pool:
        for number, outcome in enumerate(pool.map(tasks())):
            name, kind, (path, data) = given[number]
            given[number] = (name, kind, None)
            if isinstance(outcome, Lost):
                kept = Path(os.environ.get("SMNET_FUZZ_KEEP", tmp_path)) / path.name
                kept.write_bytes(data)
                pytest.fail(f"{kept} ({kind}): {outcome.reason}")
            if outcome.error:
                assert outcome.error.startswith(str(path))
                assert "\n" not in outcome.error
            elif outcome.sums != truth[name].sums and not outcome.damage:
                silent[name, kind] += 1
                lost_end = data == sources[name][: len(data)] and name in SIZED
                assert not lost_end, f"{name}: {len(data)} of {len(sources[name])} bytes, silent"
    assert len(given) > 10
    print(f"{len(given)} mutants; altered and not reported: {dict(silent)}")
