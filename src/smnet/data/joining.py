"""Clips joined into one film with marks, on which streams and timelines can be measured."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import Source
from smnet.data.clips import Clip
from smnet.data.open import open_video
from smnet.data.video.base import Video
from smnet.errors import UserError
from smnet.files import WRITTEN_BY, atomic_path, check_suffix, in_utf8, write_text

GAP = (1.0, 3.0)
"""Seconds of a still picture before each clip and after the last one, from and to."""
TICK = Fraction(1, 90000)
"""Time base of a film, seconds."""
_RATE = 25.0  # frames per second of folders of frames, which state none


def join_clips(
    source: Source,
    film: str | os.PathLike[str],
    *,
    split: str = "val",
    gap: tuple[float, float] = GAP,
    seed: int = 0,
    progress: Callable[[int, int, int], None] = lambda done, total, failures: None,
) -> Path:
    """Join the clips of a split into one film, in a random order.

    Before each clip its first picture stands still, and so does the last one at the end. All
    pictures are scaled into the size of the first clip. Clips keep the times of their frames.

    Args:
        source: the data set.
        film: the file to write, .mp4, .mkv or .mov.
        split: train, val or test.
        gap: shortest and longest still, seconds; drawn evenly.
        seed: of the order and the gaps.
        progress: is called with the clips done, their number, and 0.

    Returns:
        The csv of the marks beside the film: path, label, start, end, split. It is a data set.

    Raises:
        UserError: no labelled clips in the split, or a clip cannot be read.
    """
    marks = marks_of(film)
    if not 0 < gap[0] <= gap[1]:
        raise UserError(f"a gap of {gap[0]:g} to {gap[1]:g} seconds: use two numbers above 0")
    clip_set = read_clips(source)
    clips = [clip for clip in clip_set.splits.get(split, ()) if clip.labels]
    if not clips:
        there = ", ".join(f"{name} ({len(rows)})" for name, rows in clip_set.splits.items())
        raise UserError(f"{clip_set.root}: no labelled clips in split {split!r}; clips: {there}")
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, ...]] = []
    with atomic_path(film) as temporary, av.open(str(temporary), "w") as output:
        reel = _Reel(output)
        for number, place in enumerate(rng.permutation(len(clips)), 1):
            clip = clips[place]
            start, end = _append(reel, clip, float(rng.uniform(*gap)))
            label = "|".join(clip_set.classes[label] for label in clip.labels)
            rows.append((Path(film).name, label, f"{start:.3f}", f"{end:.3f}", split))
            progress(number, len(clips), 0)
        reel.hold(float(rng.uniform(*gap)))
        reel.finish()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "start", "end", "split"))
    writer.writerows(tuple(map(in_utf8, row)) for row in rows)
    write_text(marks, text.getvalue())
    return marks


def marks_of(film: str | os.PathLike[str]) -> Path:
    """The csv beside a film.

    Raises:
        UserError: the film has another suffix than .mp4, .mkv or .mov.
    """
    check_suffix(film, (".mp4", ".mkv", ".mov"), "a film")
    return Path(film).with_suffix(".csv")


class _Reel:
    """The film that is being written.

    Attributes:
        seconds: when the next frame is shown.
        step: seconds of a frame of a still.
    """

    def __init__(self, output: av.container.OutputContainer) -> None:
        output.metadata["comment"] = WRITTEN_BY
        self._output = output
        self._stream: Any = None
        self._picture = Image.new("RGB", (2, 2))
        self.seconds, self.step = 0.0, 1 / _RATE

    def show(self, frame: NDArray[np.uint8], seconds: float) -> None:
        """Write a frame (H, W, 3)."""
        if self._stream is None:
            height, width = (max(2, side // 2 * 2) for side in frame.shape[:2])
            self._stream = self._output.add_stream("libx264", rate=25, options={"crf": "18"})
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = TICK
        size = (self._stream.width, self._stream.height)
        self._picture = ImageOps.pad(Image.fromarray(frame), size, Image.Resampling.BILINEAR)
        self._write(seconds)

    def hold(self, seconds: float) -> None:
        """Show the last frame for some time."""
        for _ in range(max(1, round(seconds / self.step))):
            self._write(self.seconds)
            self.seconds += self.step

    def finish(self) -> None:
        self._output.mux(self._stream.encode())

    def _write(self, seconds: float) -> None:
        frame = av.VideoFrame.from_ndarray(np.asarray(self._picture), "rgb24")
        frame.pts, frame.time_base = round(seconds / TICK), TICK
        self._output.mux(self._stream.encode(frame))


def _append(reel: _Reel, clip: Clip, gap: float) -> tuple[float, float]:
    """Write a still and a clip. Returns when the clip begins and ends, seconds."""
    with open_video(clip.path, clip.template, part=clip.part) as video:
        times = _times(video)
        reel.step = times[-1] / (len(times) - 1) if times[-1] > 0 else 1 / (video.fps or _RATE)
        start = reel.seconds
        for number, frame in video.each(range(video.num_frames)):
            if number == 0:
                reel.show(frame, start)
                reel.seconds += reel.step
                reel.hold(gap - reel.step)
                start = reel.seconds
            reel.show(frame, start + times[number])
        reel.seconds = start + times[-1] + reel.step
    return start, reel.seconds


def _times(video: Video) -> list[float]:
    """When each frame is shown, seconds from the first."""
    times = video.times or [number / (video.fps or _RATE) for number in range(video.num_frames)]
    return [time - times[0] for time in times]
