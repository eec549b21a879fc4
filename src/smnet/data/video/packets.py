"""The packets of a video file: listed without decoding, then read again in any order."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Part
from smnet.data.video.completeness import missing_part, seconds_short
from smnet.data.video.container import BROKEN_MEDIA, open_container, video_stream
from smnet.data.video.packet_plan import NO_STAMP, Packet, PacketTable, presentation_order
from smnet.errors import UserError

# Streams whose time stamps list the frames exactly. All others are decoded from the beginning,
# which is slower and as exact. MPEG-4 part 2 (DivX, XviD) is among these: AVI has no time stamps
# for its B-frames, and they may share a packet with another frame.
_PLANNED = {
    "mov,mp4,m4a,3gp,3g2,mj2": {"h264", "hevc", "av1", "vp8", "vp9", "mjpeg"},
    "matroska,webm": {"h264", "hevc", "av1", "vp8", "vp9", "mjpeg"},
    "avi": {"mjpeg"},
    "gif": {"gif"},
}
_PROGRESSIVE = (0, 1)  # libavcodec's field_order: unknown, progressive
_HELD = 16 << 20  # bytes; larger files are read again from the place that is needed
_PACKET = 1 << 10  # bytes that a packet takes besides its data


class Clock:
    """The time limit of reading one file.

    Args:
        path: the file, for the message.
        timeout: seconds from the last :meth:`start`; None is no limit.
    """

    def __init__(self, path: str, timeout: float | None) -> None:
        self._path, self._timeout = path, timeout
        self.start()

    def start(self) -> None:
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout

    def check(self) -> None:
        """Raise ``UserError`` after the limit."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise UserError(
                f"{self._path}: not read within {self._timeout:g} seconds; it is very long,"
                " damaged, or the disk is slow"
            )


class PacketReader:
    """The packets of the first video stream of a file, or of those around a part of it.

    Args:
        path: the file.
        timeout: seconds, see :class:`Clock`.
        part: in seconds; only the packets from the keyframe before it are read, where the time
            stamps of the packets determine the frames and the container can seek.

    Attributes:
        table: the packets in the order of decoding.
        order: positions of the frames in ``table``, in the order of presentation; None if the
            packets do not determine the frames.
        stamps: time stamps of the frames, ascending; empty without ``order``.
        origin: time stamp of the first frame of the file, if only a part was read.
        to_end: whether the packets reach the end of the file.
        bad: positions of packets that cannot be read or decoded; -1 is the rest of the file.
        clock: the time limit.

    Raises:
        UserError: the file cannot be opened, or has no packets.
    """

    def __init__(self, path: str, timeout: float | None, part: Part | None = None) -> None:
        self._path, self._timeout = path, timeout
        self.clock = Clock(path, timeout)
        self.bad: set[int] = set()
        self.origin: int | None = None
        self.to_end = True
        self.order: NDArray[np.int64] | None = None
        self.stamps = np.empty(0, np.int64)
        self._held: list[av.Packet] | None = []
        self._reading: Iterator[tuple[int, av.Packet]] | None = None
        self._next = 0
        self._listed = 0
        self._window: tuple[int, int | None] | None = None
        self._open()
        try:
            if part is None or not self._list_part(part):
                self._list()
        except BaseException:
            self.close()
            raise
        planned = self._plannable and self.codec.field_order in _PROGRESSIVE
        order = presentation_order(self.table) if planned else None
        if order is not None and len(order):
            self.order, self.stamps = order, self.table.stamps[order]

    def frame_of(self, stamp: int | None) -> int:
        """The frame of a time stamp; -1 if there is none, or without ``order``."""
        if stamp is None:
            return -1
        frame = int(np.searchsorted(self.stamps, stamp))
        return frame if frame < len(self.stamps) and self.stamps[frame] == stamp else -1

    def close(self) -> None:
        self._held = self._reading = None
        self.container.close()

    def read(self, start: int, stop: int) -> Iterator[tuple[int, av.Packet]]:
        """The packets [start, stop) with their positions in ``table``."""
        if self._held is not None:
            for position in range(start, stop):
                self.clock.check()
                yield position, self._held[position]
            return
        if self._reading is None or start < self._next:
            self._reading, self._next = self._stored(start), 0
        for position, packet in self._reading:
            self.clock.check()
            self._next = position + 1
            if position >= start:
                yield position, packet
            if position + 1 >= stop:
                return

    def missing(self) -> str:
        """What is missing of the file, by the sizes and counts that its container declares."""
        if not self.to_end:
            return ""
        if missing := missing_part(self._path):
            return missing
        counts = self.container.format.name.startswith(("mov", "avi")) and not self._window
        if counts and self._listed < self.stream.frames:
            return (
                f"it has {self._listed} of the {self.stream.frames} frames that its header declares"
            )
        end = int(self.table.stamps.max())
        if end != NO_STAMP and (short := seconds_short(self.container, self.stream, end)):
            return f"it ends {short:.1f} s before the end that its header declares"
        return ""

    def _open(self) -> None:
        self.container = open_container(self._path, self._timeout)
        try:
            self.stream = video_stream(self._path, self.container)
            self.codec = self.stream.codec_context
            self.codec_name = self.codec.codec.canonical_name  # unset if the codec fails to open
        except BaseException:
            self.container.close()
            raise
        self._plannable = self.codec_name in _PLANNED.get(self.container.format.name, ())

    def _list_part(self, part: Part) -> bool:
        """List the packets around a part; False, and nothing is listed, if this is impossible."""
        base = self.stream.time_base
        if part.unit != "s" or not self._plannable or not base:
            return False
        try:
            self.origin = self._first_stamp()
            low = self.origin + max(math.floor(Fraction(part.start or 0) / base) - 1, 0)
            high = None
            if part.end is not None:
                # A second more, for the frame after the part: with it the last one ends.
                high = self.origin + math.ceil((Fraction(part.end) + 1) / base)
            # Some containers seek by the time of decoding, which is before that of presentation.
            for back in (0, 1, 10):
                self._window = max(low - math.ceil(back / base), self.origin), high
                self._list()
                first = self.table[0]
                if first.is_keyframe and first.pts is not None and first.pts <= low:
                    if presentation_order(self.table) is None:
                        break
                    return True
        except (*BROKEN_MEDIA, IndexError, UserError):
            self.clock.check()
        self.container.close()
        self._window, self.origin, self.to_end, self._listed = None, None, True, 0
        self.bad.clear()
        self._open()
        return False

    def _first_stamp(self) -> int:
        """The time stamp of the first frame in the order of presentation.

        Raises:
            UserError: packets without time stamps.
        """
        first: int | None = None
        for packet in self.container.demux(self.stream):
            if first is not None and (packet.dts is None or packet.dts >= first):
                return first
            if packet.size and not packet.is_discard and packet.pts is not None:
                first = packet.pts if first is None else min(first, packet.pts)
        raise UserError(f"{self._path}: no time stamps")

    def _list(self) -> None:
        """Fill ``table``, and hold the packets unless the file is too large for that."""
        self.table = PacketTable()
        size = Path(self._path).stat().st_size
        self._held = [] if size <= _HELD or self._window else None
        size = 0
        for packet in self._demux(self.container, self.stream):
            self.clock.check()
            shown = not packet.is_discard
            if self.codec_name == "vp8":
                shown = shown and bool(bytes(packet)[0] & 0x10)  # the format's show_frame bit
            if self._window and self.table and packet.pts is not None:
                # Frames before the keyframe in time refer to packets before the window.
                shown = shown and packet.pts >= (self.table[0].pts or 0)
            self.table.append(Packet(packet.pts, packet.is_keyframe, shown))
            size += packet.size + _PACKET
            if size > _HELD:
                self._held = None
            if self._held is not None:
                self._held.append(packet)
        if not self.table:
            raise UserError(
                f"{self._path}: its video stream has no frames;"
                " the recording or the copy broke off at the beginning"
            )

    def _stored(self, start: int) -> Iterator[tuple[int, av.Packet]]:
        """The packets of the file from ``start`` or before it, with their positions."""
        with open_container(self._path, self._timeout) as again:
            stream = video_stream(self._path, again)
            packets = self._demux(again, stream)
            first = next(packets, None)
            stamp = self.table[start].pts
            if stamp is not None and self.frame_of(stamp) >= 0:
                with suppress(*BROKEN_MEDIA):
                    again.seek(stamp, stream=stream)
                    first = next(packets, None)
            # A container without an index may have gone anywhere.
            position = self._place_of(first, start)
            if position is not None and first is not None:
                yield position, first
                yield from enumerate(packets, position + 1)
                return
        with open_container(self._path, self._timeout) as again:
            yield from enumerate(self._demux(again, video_stream(self._path, again)))

    def _place_of(self, packet: av.Packet | None, latest: int) -> int | None:
        """The position of a packet, by its time stamp; None if unknown or after ``latest``."""
        frame = -1 if packet is None else self.frame_of(packet.pts)
        if frame < 0 or self.order is None:
            return None
        position = int(self.order[frame])
        return position if position <= latest else None

    def _demux(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.Packet]:
        low, high = self._window or (None, None)
        if low is not None:
            container.seek(low, stream=stream)
        try:
            for packet in container.demux(stream):
                if high is not None and packet.dts is not None and packet.dts >= high:
                    self.to_end = False  # no later packet is presented earlier
                    return
                self._listed += packet.dts is not None  # AVI repeats a frame by an empty packet
                if packet.size > 0:
                    yield packet
        except (*BROKEN_MEDIA, IndexError):  # IndexError: a packet of a stream found after opening
            self.clock.check()  # the demuxer may have been interrupted
            self.bad.add(-1)  # the rest of the file is unreadable
