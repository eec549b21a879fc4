"""Reads a source in a thread: reopens it when it is lost, and bounds what waits."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from smnet.errors import UserError
from smnet.live.clock import JUMP, Ticks
from smnet.live.sources import Converter, Source, picture_stream

Pixels = NDArray[np.uint8]

SILENCE = 10.0
"""Seconds without a frame after which a source counts as lost."""
LATE = 1.0
"""Seconds by which a paced source may be late before its pace begins anew."""
WAITS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before each further attempt to reopen a source; the last one repeats."""


@dataclass(frozen=True)
class Sample:
    """One segment of a stream, at one or more ticks of the rate.

    Attributes:
        seconds: presentation time from the beginning of the stream. It goes on over restarts.
        arrived: when the frame was decoded, by ``time.monotonic``.
        views: crops of L consecutive frames, (L, 3, h, w) uint8; the last frame is at the tick.
        ticks: how many ticks of the rate the sample serves.
        restart: why the samples before do not belong to this one; empty if they do.
    """

    seconds: float
    arrived: float
    views: Pixels
    ticks: int = 1
    restart: str = ""


@dataclass
class Counts:
    """What became of the frames.

    Attributes:
        seen: decoded frames.
        used: frames at a tick of the rate that reached the network.
        dropped: frames at a tick that did not reach it, as it was busy.
        repeated: ticks without a frame of their own, as the source is slower than the rate.
        damaged: packets that did not decode.
        restarts: how often the state or the window began anew.
        reopened: how often the source was lost and opened again.
    """

    seen: int = 0
    used: int = 0
    dropped: int = 0
    repeated: int = 0
    damaged: int = 0
    restarts: int = 0
    reopened: int = 0


class Capture:
    """Samples of a source, taken in a thread.

    Samples of a live source wait in a queue of bounded length. When it is full, the newest frame
    wins and the dropped ones are counted. ``sliding`` drops the oldest sample, for windows that
    need the last ones only. Otherwise all that waits is dropped and a new stream begins, so that
    the speed of motion never changes; the samples that the first answer of a stream needs are kept,
    so that a network that is far too slow answers too. A file that is not live waits for the
    reader.

    Args:
        source: the source.
        rate: ticks per second.
        prepare: cuts the crop (3, h, w) uint8 out of a frame (H, W, 3).
        length: L, consecutive frames per sample.
        capacity: samples that may wait, besides those that the first answer still needs. Without
            ``sliding`` none of them waits longer than as many ticks last.
        first: samples that the first answer of a stream needs; 0 if ``sliding``.
        sliding: see above.
        silence: see :data:`SILENCE`.
        tell: receives lines for people.
        watch: receives every decoded frame with its time in seconds, in the thread.
        waits: see :data:`WAITS`.

    Attributes:
        live: whether frames are lost if nobody takes them.
        counts: what became of the frames.
    """

    def __init__(
        self,
        source: Source,
        rate: float,
        prepare: Callable[[Pixels], Pixels],
        *,
        length: int = 1,
        capacity: int = 64,
        first: int = 0,
        sliding: bool = False,
        silence: float = SILENCE,
        tell: Callable[[str], None] = lambda line: None,
        watch: Callable[[av.VideoFrame, float], None] = lambda frame, seconds: None,
        waits: tuple[float, ...] = WAITS,
    ) -> None:
        self.source, self.counts = source, Counts()
        self._ticks, self._length = Ticks(rate), length
        self._prepare, self._capacity, self._sliding = prepare, capacity, sliding
        self._first = self._needed = first
        self._silence, self._tell, self._watch, self._waits = silence, tell, watch, waits
        self._queue: deque[Sample] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._offset: float | None = None  # from time stamps to seconds of the stream
        self._seconds = 0.0
        self._restart = ""
        self._container = source.open(silence)
        self.live = source.is_live(self._container)
        self._thread = threading.Thread(target=self._run, name="smnet-capture", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self, seconds: float = 0.5) -> list[Sample] | None:
        """The oldest sample that waits, or all of them if ``sliding``. None after the last one.

        Waits for a sample for at most ``seconds``.

        Raises:
            UserError: the source cannot be read any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended, seconds)
            if self.live and not self._sliding and self._late():
                self._queue = deque([self._make_room(self._queue.pop())])
            count = len(self._queue) if self._sliding else min(1, len(self._queue))
            samples = [self._queue.popleft() for _ in range(count)]
            for sample in samples:
                self._needed = (self._first if sample.restart else self._needed) - sample.ticks
            self._changed.notify_all()
            if samples:
                return samples
            if self._error is not None:
                raise self._error
            return None if self._ended else []

    def close(self) -> None:
        """Stop reading. A thread that waits for a silent source ends by itself later."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(1.0)
        else:
            self._container.close()

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read(self) -> None:
        container: InputContainer | None = self._container
        while container is not None and not self._stop.is_set():
            try:
                reason = self._read_all(container)
            finally:
                container.close()
            if reason is None or self._stop.is_set():
                return
            container = self._reopened(reason)

    def _read_all(self, container: InputContainer) -> str | None:
        """Read to the end; the reason why a source is lost, None if it ended."""
        source = self.source
        convert = Converter(source.name)
        recent: deque[av.VideoFrame] = deque(maxlen=self._length)
        base = time.monotonic()
        due = -math.inf  # the moment at which time stamp 0 is due
        timed, paced = source.has_times(container), source.is_paced(container)
        failed = False
        try:
            for frame in self._decoded(container):
                if self._stop.is_set():
                    return None
                now = time.monotonic()
                stamp = now - base if frame.time is None or not timed else frame.time
                if paced:
                    early = due + stamp - now
                    if not -LATE <= early <= JUMP:  # the source was late, or time jumped
                        due, early = now - stamp, 0.0
                    if self._stop.wait(early):
                        return None
                recent.append(frame)
                self._add(stamp, recent, convert)
            reason = "the stream ended"
        except av.error.EOFError:
            reason = "the stream ended"
        except av.error.ExitError:
            reason, failed = f"no frame within {self._silence:g} seconds", True
        except (FFmpegError, OSError, ValueError, UserError) as error:
            reason, failed = getattr(error, "strerror", None) or str(error), True
        if self.live and source.reopens and self.counts.seen:
            return reason
        if failed:
            reason = reason.removeprefix(f"{source.name}: ")
            raise UserError(f"{source.name}: cannot be read further ({reason})")
        return None

    def _decoded(self, container: InputContainer) -> Iterator[av.VideoFrame]:
        """Frames; packets that do not decode are counted, until there is silence."""
        last = time.monotonic()
        for packet in container.demux(picture_stream(self.source, container)):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self.counts.damaged += 1
                if self.live and time.monotonic() - last > self._silence:
                    raise
                continue
            yield from frames
            last = time.monotonic() if frames else last

    def _add(self, stamp: float, recent: deque[av.VideoFrame], convert: Converter) -> None:
        self.counts.seen += 1
        served = self._ticks.serve(stamp)
        if served is None:
            self._begin_anew("the time stamps jumped")
            served = 1
        if self._offset is None:
            self._offset = self._seconds - stamp
        self._seconds = stamp + self._offset
        self._watch(recent[-1], self._seconds)
        if served:
            arrived = time.monotonic()
            views = [self._prepare(convert(frame)) for frame in recent]
            views = views[:1] * (self._length - len(views)) + views
            self.counts.repeated += served - 1
            self._put(Sample(self._seconds, arrived, np.stack(views), served, self._restart))

    def _begin_anew(self, reason: str) -> None:
        """The next sample has nothing to do with those before."""
        self._restart, self._offset = reason, None

    def _put(self, sample: Sample) -> None:
        with self._changed:
            while not self.live and len(self._queue) >= self._capacity:
                if self._stop.is_set():
                    return
                self._changed.wait(0.5)
            if len(self._queue) >= self._capacity + max(0, self._needed):
                sample = self._make_room(sample)
            self._queue.append(sample)
            self._restart = ""
            self._changed.notify_all()

    def _late(self) -> bool:
        """Whether the oldest sample has waited too long, and no first answer needs it."""
        waited = time.monotonic() - self._queue[0].arrived if self._queue else 0.0
        return self._needed <= 0 and waited > self._capacity / self._ticks.rate

    def _make_room(self, sample: Sample) -> Sample:
        """Drop what waits. Returns the new sample, which may now begin a new stream."""
        if not self.counts.dropped:
            self._tell(
                f"{self.source.name}: the network is slower than {self._ticks.rate:.3g} frames/s;"
                " frames are dropped"
            )
        if self._sliding:
            lost = self._queue.popleft()
            self.counts.dropped += 1
            if lost.restart:
                self._queue[0] = replace(self._queue[0], restart=lost.restart)
            return sample
        kept = list(islice(self._queue, max(0, self._needed)))
        self.counts.dropped += len(self._queue) - len(kept)
        self._queue = deque(kept)
        return replace(sample, ticks=1, restart=sample.restart or "frames were dropped")

    def _reopened(self, reason: str) -> InputContainer | None:
        """The source, opened again; None if the capture is closed or a broadcast has ended."""
        self._tell(f"{self.source.name}: lost ({reason}); trying to open it again")
        began, attempt = time.monotonic(), 0
        while not self._stop.wait(self._waits[min(attempt, len(self._waits) - 1)]):
            attempt += 1
            with suppress(UserError):
                container = self.source.open(self._silence)
                if not self.source.is_live(container):  # a playlist that is complete now
                    container.close()
                    self._tell(f"{self.source.name}: the broadcast has ended")
                    return None
                lost = time.monotonic() - began
                self._tell(f"{self.source.name}: open again after {lost:.1f} s")
                self.counts.reopened += 1
                self._begin_anew("the source was lost")
                self._ticks.restart()
                self._seconds += lost
                return container
        return None
