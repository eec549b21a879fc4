"""Write the built-in data set ``motion``: drawn clips (``scenes.py``) in class folders.

    root/motion.json                                 how it was drawn, and whether it is complete
    root/train/Moving something down/00011.mp4       the number counts over all classes
    root/val/Turning something clockwise/00008.mp4

A clip depends only on the seed, its split and its number, so neither the number of workers nor
interruptions change the files.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from smnet.data.synthetic.scenes import (
    MOTION_CLASSES,
    MOTION_PAIRS,
    check_size,
    check_whole,
    draw_clip,
)
from smnet.errors import UserError
from smnet.files import atomic_path, write_text
from smnet.system import available_cores

__all__ = ["MOTION_CLASSES", "MOTION_PAIRS", "draw_clip", "write_motion"]

FPS = 12
_SPLITS = ("train", "val")
_CARD = "motion.json"
# Increase it whenever a seed draws other pixels, so that old and new clips never mix.
_VERSION = 1
# The artefacts of predicted frames depend on the frames before them, so a single frame would reveal
# the direction of time. Keyframes at a fixed quantiser are coded independently: the file of the
# reversed frames decodes bit for bit to the reversed frames.
_ENCODER: Final = "libx264"
_MILLISECOND = Fraction(1, 1000)
_OPTIONS = {"preset": "veryfast", "g": "1", "qp": "28"}


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    label: int
    seed: tuple[int, int, int]
    size: int


def write_motion(
    root: str | os.PathLike[str],
    *,
    train: int = 480,
    val: int = 160,
    size: int = 96,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Path:
    """Draw the data set ``motion`` into the folder ``root``, or resume an interrupted run.

    The files are H.264 in mp4, yuv420p, 12 frames per second, 24 to 36 frames, no sound. Existing
    clips are kept; a complete data set is not changed.

    Args:
        root: a new or empty folder, or one that holds part or all of the same data set.
        train, val: number of clips of a split over all classes; classes differ by at most one.
        size: side of the square frames in pixels, even, 32 to 256.
        seed: 0 or more.
        progress: called in this thread with (existing clips, all clips), first before any is drawn.
        workers: number of drawing threads; None is one per usable core.

    Returns:
        ``root`` as an absolute path.

    Raises:
        UserError: a parameter is out of range, ``root`` holds something else or the data set with
            other parameters, it cannot be written, or the disk is full.
    """
    for split, clips in zip(_SPLITS, (train, val), strict=True):
        check_whole(split, clips, len(MOTION_CLASSES), 100_000)
    check_size(size)
    check_whole("seed", seed, 0, 2**63 - 1)
    if workers is None:
        workers = min(32, available_cores())
    check_whole("workers", workers, 1, 64)

    folder = Path(root).absolute()
    card = {
        "data": "smnet motion",
        "version": _VERSION,
        "train": train,
        "val": val,
        "size": size,
        "seed": seed,
        "classes": list(MOTION_CLASSES),
    }
    jobs = {
        job.path: job
        for part, (split, clips) in enumerate(zip(_SPLITS, (train, val), strict=True))
        for job in _jobs(folder / split, clips, size, (seed, part))
    }
    try:
        complete = _claim(folder, card)
        there = _clips_there(folder, jobs)
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror or error}") from error

    missing = [job for path, job in jobs.items() if path not in there]
    if complete and missing:
        # Clips were removed; until they are drawn again a reader must not trust the card.
        _write_card(folder, card, complete=False)
    done = len(jobs) - len(missing)
    if progress:
        progress(done, len(jobs))
    for job, video in _encoded(missing, workers):
        with atomic_path(job.path) as temporary:
            temporary.write_bytes(video)
        done += 1
        if progress:
            progress(done, len(jobs))
    if missing or not complete:
        _write_card(folder, card, complete=True)
    return folder


def _jobs(folder: Path, clips: int, size: int, seed: tuple[int, int]) -> Iterator[_Job]:
    for index in range(clips):
        label = index % len(MOTION_CLASSES)
        path = folder / MOTION_CLASSES[label] / f"{index:05d}.mp4"
        yield _Job(path, label, (*seed, index), size)


def _claim(folder: Path, card: dict[str, Any]) -> bool:
    """Check that ``folder`` may be filled; returns whether its card says that it is complete."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; motion needs a folder, give another path")
    if not (folder / _CARD).exists():
        if folder.exists() and any(not _is_leftover(entry) for entry in folder.iterdir()):
            raise UserError(
                f"{folder} holds files but no {_CARD}, so it is not a motion data set; give a new"
                " or an empty folder"
            )
        _write_card(folder, card, complete=False)
        return False
    card_there = _read_card(folder / _CARD)
    other = [key for key in card if card_there.get(key) != card[key]]
    if other:
        raise UserError(
            f"{folder} holds a motion data set with other parameters"
            f" ({', '.join(f'{key}={_short(card_there.get(key))}' for key in other)}); use these"
            " parameters, or give another folder"
        )
    return card_there.get("complete") is True


def _read_card(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            card = json.loads(file.read(65536))
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict) or card.get("data") != "smnet motion":
        raise UserError(f"{path} is not the card of a motion data set; give another folder")
    return card


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _write_card(folder: Path, card: dict[str, Any], *, complete: bool) -> None:
    write_text(folder / _CARD, json.dumps({**card, "complete": complete}, indent=2) + "\n")


def _clips_there(folder: Path, jobs: dict[Path, _Job]) -> set[Path]:
    """The existing clips. Foreign files are refused, as they would be trained on."""
    there = set()
    for split in _SPLITS:
        for path in (folder / split).rglob("*"):
            if path in jobs:
                there.add(path)
            elif path.name.startswith("."):
                # A clip takes far less than a minute, so no other run is writing this one.
                with contextlib.suppress(FileNotFoundError):
                    if _is_leftover(path) and time.time() - path.stat().st_mtime > 60:
                        path.unlink()
            elif not path.is_dir():
                raise UserError(f"{path} is not part of this motion data set; move it away")
    return there


def _is_leftover(path: Path) -> bool:
    """Whether this is a temporary file of a killed run."""
    return re.fullmatch(r"\.(motion\.\w+\.json|\d{5}\.\w+\.mp4)", path.name) is not None


def _encoded(jobs: list[_Job], workers: int) -> Iterator[tuple[_Job, bytes]]:
    """Draw and encode in threads (NumPy and libx264 release the GIL); yields in order."""
    with ThreadPoolExecutor(workers, thread_name_prefix="motion") as pool:
        waiting: deque[tuple[_Job, Future[bytes]]] = deque()
        try:
            for job in jobs:
                waiting.append((job, pool.submit(_video, job)))
                if len(waiting) > 2 * workers:
                    first, video = waiting.popleft()
                    yield first, video.result()
            for first, video in waiting:
                yield first, video.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _video(job: _Job) -> bytes:
    rng = np.random.default_rng(job.seed)
    return encode(draw_clip(job.label, rng, size=job.size))


def encode(clip: NDArray[np.uint8], stamps: Sequence[int] | None = None) -> bytes:
    """Encode the frames (T, H, W, 3) as an mp4 file.

    Args:
        clip: the frames.
        stamps: when each is shown, milliseconds; None is 12 frames per second.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        try:
            stream = container.add_stream(_ENCODER, rate=FPS, options=_OPTIONS)
        except ValueError as error:
            raise UserError(
                f"motion: this build of PyAV has no encoder {_ENCODER}; install its wheel:"
                " pip install --force-reinstall --only-binary av av"
            ) from error
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # One thread per clip: clips run in parallel, and the bytes do not depend on the machine.
        stream.codec_context.thread_count = 1
        if stamps is not None:
            stream.codec_context.time_base = _MILLISECOND
        for number, picture in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], _MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
