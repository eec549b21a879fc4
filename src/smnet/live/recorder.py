"""Clips around events: the last seconds are kept, and written with what follows."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any

import av

from smnet.errors import UserError
from smnet.files import WRITTEN_BY, atomic_path
from smnet.live.events import Event

BEFORE, AFTER = 3.0, 2.0
"""Seconds of a clip before the start and after the end of its event."""
LONGEST = 300.0
"""Seconds of the longest clip; an event that lasts longer is cut off there."""
MOST_PER_SECOND = 15.0
LARGEST = 640
"""Long side of the recorded frames, pixels."""

_TICK = Fraction(1, 90000)
Kept = tuple[float, av.VideoFrame]


class Recorder:
    """Writes ``FOLDER/LABEL-ID.mp4`` for each event, in a thread.

    Args:
        folder: where the clips go; it is made.
        tell: receives a line where a clip cannot be written.

    Attributes:
        written: number of clips.
        dropped: clips that could not be written, or for which the thread had no time.
    """

    def __init__(self, folder: str | Path, tell: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.written, self.dropped = Path(folder), 0, 0
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--record {folder}: is a file; name a folder")
        self._tell = tell
        self._recent: deque[Kept] = deque()
        self._open: dict[str, tuple[Event, list[Kept]]] = {}
        self._closing: dict[str, float] = {}  # id -> seconds of the last frame
        self._lock = threading.Lock()
        self._jobs: Queue[tuple[Path, list[Kept]] | None] = Queue(4)
        self._thread = threading.Thread(target=self._run, name="smnet-recorder", daemon=True)
        self._thread.start()

    def frame(self, frame: av.VideoFrame, seconds: float) -> None:
        """Keep a frame; called in the thread that decodes."""
        if self._recent and 0 <= seconds - self._recent[-1][0] < 1 / MOST_PER_SECOND:
            return
        kept = (seconds, _small(frame))
        with self._lock:
            self._recent.append(kept)
            while self._recent and not 0 <= seconds - self._recent[0][0] <= BEFORE + 10:
                self._recent.popleft()
            for name, (event, frames) in list(self._open.items()):
                frames.append(kept)
                over = seconds - event.start > LONGEST
                if over or seconds >= self._closing.get(name, float("inf")):
                    self._finish(name)

    def event(self, event: Event) -> None:
        """Begin a clip at the start of an event, and end it some time after the event."""
        with self._lock:
            if event.type == "start":
                first = event.start - BEFORE
                self._open[event.id] = (event, [k for k in self._recent if k[0] >= first])
            elif event.type == "end" and event.end is not None and event.id in self._open:
                self._closing[event.id] = event.end + AFTER

    def close(self) -> None:
        """Write what is open, and wait for it."""
        with self._lock:
            for name in list(self._open):
                self._finish(name, wait=True)
        self._jobs.put(None)
        self._thread.join(60)

    def _finish(self, name: str, wait: bool = False) -> None:
        event, frames = self._open.pop(name)
        self._closing.pop(name, None)
        label = re.sub(r"[^\w-]+", "-", event.label).strip("-")[:60] or "event"
        job = (self.folder / f"{label}-{name}.mp4", frames)
        try:
            self._jobs.put(job, block=wait, timeout=30)
        except Full:
            self.dropped += 1

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=1)
            except Empty:
                continue
            if job is None:
                return
            try:
                _write(*job)
                self.written += 1
            except (UserError, av.FFmpegError, OSError, ValueError) as error:
                self.dropped += 1
                self._tell(f"{job[0]}: not written ({error})")


def _small(frame: av.VideoFrame) -> av.VideoFrame:
    scale = min(1.0, LARGEST / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale) // 2 * 2) for side in (frame.width, frame.height))
    return frame.reformat(width=width, height=height, format="yuv420p")


def _write(path: Path, frames: list[Kept]) -> None:
    size = (frames[0][1].width, frames[0][1].height) if frames else (0, 0)
    frames = [kept for kept in frames if (kept[1].width, kept[1].height) == size]
    if not frames:
        raise UserError("no frames were kept")
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as output:
        output.metadata["comment"] = WRITTEN_BY
        options = {"preset": "veryfast", "crf": "23", "threads": "1"}
        stream: Any = output.add_stream("libx264", rate=15, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TICK
        last = -1
        for seconds, frame in frames:
            last = max(round((seconds - frames[0][0]) / _TICK), last + 1)
            frame.pts, frame.time_base = last, _TICK
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
