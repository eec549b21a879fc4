"""Exact frames from video files through PyAV, which decodes only the packets that are needed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import cached_property

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from smnet.data.clips import Part
from smnet.data.video import packet_plan
from smnet.data.video.base import (
    MAX_PIXELS,
    Frames,
    Video,
    VideoInfo,
    check_size,
    mean_rate,
    scaled_size,
)
from smnet.data.video.completeness import missing_part, seconds_short
from smnet.data.video.container import BROKEN_MEDIA, open_container, video_stream
from smnet.data.video.packet_plan import Packet
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
# Decoders that can skip frames to which no other refers.
_CAN_SKIP = {"h264", "hevc"}

_HELD_PACKETS = 16 << 20  # bytes; larger files are read again from the place that is needed
_PACKET = 1 << 10  # bytes that a packet takes besides its data
_HELD_FRAMES = 64 << 20
_REPAIR_REACH = 250  # packets; the usual maximum distance of keyframes


class VideoFile(Video):
    """A video file; see :func:`smnet.data.open.open_video`.

    Opening reads the packets of the first video stream without decoding them. Streams whose packets
    do not determine the frames (MPEG-4, MPEG-TS, interlaced, ...) are decoded once to count the
    frames, which are kept if they are small.

    Decoding is single-threaded: parallel workers gain more, and threaded decoders can deadlock
    with a Python log callback. For the same reason FFmpeg's log level is never changed here.

    Of a ``part`` in seconds only the packets from the keyframe before it are read, where the time
    stamps of the packets determine the frames and the container can seek. The frames and their
    ``times`` are then those of the part and of some frames around it.
    """

    def __init__(self, path: str, timeout: float | None, part: Part | None = None) -> None:
        self.path = path
        self._timeout = timeout
        self._reformatter = VideoReformatter()
        self._bad_packets: set[int] = set()
        self._replaced: set[int] = set()
        self._held: list[av.Packet] | None = []
        self._kept: list[av.VideoFrame] | None = None
        self._reading: Iterator[tuple[int, av.Packet]] | None = None
        self._next = 0
        self._closed = False
        self._listed = 0
        self._missing = ""
        self._window: tuple[int, int | None] | None = None
        self._origin: int | None = None
        self._to_end = True
        self._start_clock()
        self._open()
        try:
            if part is None or not self._list_window(part):
                self._list_packets()
            check_size(path, self._width, self._height)
            self._list_frames()
            self._missing = self._missing_part() if self._to_end else ""
        except BaseException:
            self.close()
            raise

    @property
    def num_frames(self) -> int:
        return self._num_frames

    @property
    def damage(self) -> int:
        return len(self._bad_packets) + len(self._replaced) + bool(self._missing)

    @property
    def missing(self) -> str:
        return self._missing

    @cached_property
    def info(self) -> VideoInfo:
        self._start_clock()
        _, frame = next(self._pick([0]))
        turned = _quarter_turns(frame) % 2 == 1
        declared = self._stream.average_rate or self._stream.guessed_rate
        span = self._duration if len(self._times) > 1 else None
        fps = mean_rate(self._num_frames, span, float(declared) if declared else None)
        return VideoInfo(
            num_frames=self._num_frames,
            width=self._height if turned else self._width,
            height=self._width if turned else self._height,
            fps=fps,
            duration=self._duration,
            codec=self._codec_name,
            rotation=90 * _quarter_turns(frame) % 360,
            container=self._container.format.name,
        )

    @property
    def times(self) -> list[float] | None:
        stamps = sorted(set(self._times))
        if len(stamps) != self._num_frames or not self._stream.time_base:
            return None
        origin = stamps[0] if self._origin is None else self._origin
        return [float((stamp - origin) * self._stream.time_base) for stamp in stamps]

    def close(self) -> None:
        self._closed = True
        self._held = self._kept = self._reading = None
        self._container.close()

    def _open(self) -> None:
        self._container = open_container(self.path, self._timeout)
        try:
            self._stream = video_stream(self.path, self._container)
            self._codec = self._stream.codec_context
            self._codec_name = self._codec.codec.canonical_name  # unset if the codec fails to open
        except BaseException:
            self._container.close()
            raise
        self._width, self._height = self._codec.width, self._codec.height
        self._codec.thread_type = "NONE"
        self._codec.thread_count = 1

    # --- listing ------------------------------------------------------------------------------

    def _list_window(self, part: Part) -> bool:
        """List the packets around a part; False, and nothing is listed, if this is impossible."""
        base = self._stream.time_base
        planned = self._codec_name in _PLANNED.get(self._container.format.name, ())
        if part.unit != "s" or not planned or not base:
            return False
        try:
            self._origin = self._first_stamp()
            low = self._origin + max(math.floor(Fraction(part.start or 0) / base) - 1, 0)
            high = None
            if part.end is not None:
                # A second more, for the frame after the part: with it the last one ends.
                high = self._origin + math.ceil((Fraction(part.end) + 1) / base)
            # Some containers seek by the time of decoding, which is before that of presentation.
            for back in (0, 1, 10):
                self._window = max(low - math.ceil(back / base), self._origin), high
                self._list_packets()
                first = self._packets[0]
                if first.is_keyframe and first.pts is not None and first.pts <= low:
                    if packet_plan.presentation_order(self._packets) is None:
                        break
                    return True
        except (*BROKEN_MEDIA, IndexError, UserError):
            self._check_clock()
        self._container.close()
        self._window, self._origin, self._to_end, self._listed = None, None, True, 0
        self._bad_packets.clear()
        self._open()
        return False

    def _first_stamp(self) -> int:
        """The time stamp of the first frame in the order of presentation.

        Raises:
            UserError: packets without time stamps.
        """
        first: int | None = None
        for packet in self._container.demux(self._stream):
            if first is not None and (packet.dts is None or packet.dts >= first):
                return first
            if packet.size and not packet.is_discard and packet.pts is not None:
                first = packet.pts if first is None else min(first, packet.pts)
        raise UserError(f"{self.path}: no time stamps")

    def _list_packets(self) -> None:
        """Fill ``_packets``, ``_times``, and ``_held`` unless the file is too large for that."""
        name = self._codec_name
        self._plannable = (
            name in _PLANNED.get(self._container.format.name, ())
            # Each field may be a packet. 0 is unknown, 1 is progressive.
            and self._codec.field_order in (0, 1)
        )
        self._packets: list[Packet] = []
        self._held = []
        size = 0
        for packet in self._demux(self._container, self._stream):
            self._check_clock()
            shown = not packet.is_discard
            if name == "vp8":
                shown = shown and bool(bytes(packet)[0] & 0x10)  # the format's show_frame bit
            if self._window and self._packets and packet.pts is not None:
                # Frames before the keyframe in time refer to packets before the window.
                shown = shown and packet.pts >= (self._packets[0].pts or 0)
            self._packets.append(Packet(packet.pts, packet.is_keyframe, shown))
            size += packet.size + _PACKET
            if size > _HELD_PACKETS:
                self._held = None
            if self._held is not None:
                self._held.append(packet)
        if not self._packets:
            raise UserError(
                f"{self.path}: its video stream has no frames;"
                " the recording or the copy broke off at the beginning"
            )
        self._times = [p.pts for p in self._packets if p.is_shown and p.pts is not None]

    def _list_frames(self) -> None:
        """Fill ``_order`` (None if frames have to be decoded in sequence), ``_num_frames`` and
        ``_duration``."""
        self._order = packet_plan.presentation_order(self._packets) if self._plannable else None
        if self._order:
            self._index = {self._packets[i].pts: index for index, i in enumerate(self._order)}
            self._num_frames = len(self._order)
        else:
            self._order = None
            stamps = self._count_by_decoding()
            self._times = [pts for pts in stamps if pts is not None]
            self._num_frames = len(stamps)
        self._duration: float | None = None
        rate = self._stream.average_rate
        if rate and 1 < len(set(self._times)) < self._num_frames:  # B-frames in AVI
            self._duration = float(self._num_frames / rate)
        elif len(self._times) > 1 and self._stream.time_base:
            span = float((max(self._times) - min(self._times)) * self._stream.time_base)
            self._duration = span * len(self._times) / (len(self._times) - 1)
        elif self._stream.duration and self._stream.time_base:
            self._duration = float(self._stream.duration * self._stream.time_base)

    def _count_by_decoding(self) -> list[int | None]:
        stamps: list[int | None] = []
        self._kept = []
        size = 0
        for frame in self._decode(0, len(self._packets), None):
            stamps.append(frame.pts)
            size += sum(plane.buffer_size for plane in frame.planes)
            if size > _HELD_FRAMES:
                self._kept = None
            if self._kept is not None:
                self._kept.append(frame)
        if not stamps:
            raise self._undecodable()
        return stamps

    # --- reading ------------------------------------------------------------------------------

    def _frames(
        self, wanted: Sequence[int], short_side: int | None
    ) -> Iterator[tuple[int, Frames]]:
        self._start_clock()
        if len(wanted) == self._num_frames and not self._missing and self._to_end:
            self._missing = missing_part(self.path, thorough=True)
        for index, frame in self._pick(wanted):
            try:
                yield index, self._to_rgb(frame, short_side)
            except BROKEN_MEDIA as error:
                raise UserError(
                    f"{self.path}: frame {index} is not convertible ({error})"
                ) from error

    def _pick(self, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        if self._order is None:
            yield from self._pick_in_sequence(wanted)
            return
        missing = set(wanted)
        for run in packet_plan.runs(self._packets, (self._order[i] for i in wanted)):
            awaited = len(run.wanted)
            for frame in self._decode(run.start, run.stop, run.wanted):
                index = self._index.get(frame.pts, -1)
                if index in missing and not frame.is_corrupt:
                    missing.remove(index)
                    awaited -= 1
                    yield index, frame
                if not awaited:
                    break  # flushing the decoder takes as long as decoding some frames
        if missing:
            yield from self._repair(sorted(missing))

    def _pick_in_sequence(self, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        decoded = self._kept or self._decode(0, len(self._packets), None)
        missing = set(wanted)
        for index, frame in enumerate(decoded):
            if index in missing:
                missing.remove(index)
                if frame.is_corrupt:
                    self._replaced.add(index)
                yield index, frame
            if not missing:
                return
        raise self._undecodable()

    def _repair(self, missing: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Get frames that the plan did not give: decode from farther back, else take the nearest.

        A stream with gradual refresh has no true keyframes, so decoding has to begin earlier. In a
        damaged stream the frames may not come out at all.
        """
        assert self._order is not None
        stamps = {index: self._packets[self._order[index]].pts for index in missing}
        positions = [self._order[index] for index in missing]
        back = packet_plan.keyframe_before(self._packets, max(0, min(positions) - _REPAIR_REACH))
        nearest: dict[int, tuple[int, av.VideoFrame]] = {}
        for start, stop in ((back, max(positions) + 1), (0, len(self._packets))):
            for frame in self._decode(start, stop, None):
                for index, pts in stamps.items():
                    if frame.pts is None or pts is None:
                        continue
                    distance = abs(frame.pts - pts)
                    if index not in nearest or distance < nearest[index][0]:
                        nearest[index] = distance, frame
            if nearest:
                break
        else:
            raise self._undecodable()
        for index, (distance, frame) in nearest.items():
            if distance > 0 or frame.is_corrupt:
                self._replaced.add(index)
            yield index, frame

    def _decode(self, start: int, stop: int, wanted: set[int] | None) -> Iterator[av.VideoFrame]:
        """Decode the packets [start, stop); frames that are not ``wanted`` may be skipped."""
        if self._codec.is_open:
            self._codec.flush_buffers()
        else:
            self._codec.options = {"max_pixels": str(MAX_PIXELS)}
        skips = self._codec_name in _CAN_SKIP
        for position, packet in self._from(start, stop):
            facts = self._packets[position]
            if skips:
                needed = wanted is None or position in wanted
                self._codec.skip_frame = "DEFAULT" if needed else "NONREF"
            packet.pts = facts.pts
            try:
                yield from self._codec.decode(packet)
            except BROKEN_MEDIA:
                self._bad_packets.add(position)
        try:
            yield from self._codec.decode(None)
        except BROKEN_MEDIA:
            self._bad_packets.add(stop - 1)

    def _from(self, start: int, stop: int) -> Iterator[tuple[int, av.Packet]]:
        if self._held is not None:
            for position in range(start, stop):
                self._check_clock()
                yield position, self._held[position]
            return
        if self._reading is None or start < self._next:
            self._reading, self._next = self._stored(start), 0
        for position, packet in self._reading:
            self._check_clock()
            self._next = position + 1
            if position >= start:
                yield position, packet
            if position + 1 >= stop:
                return

    def _stored(self, start: int) -> Iterator[tuple[int, av.Packet]]:
        """The packets of the file from ``start`` or before it, with their positions."""
        with open_container(self.path, self._timeout) as again:
            stream = video_stream(self.path, again)
            packets = self._demux(again, stream)
            first = next(packets, None)
            stamp = self._packets[start].pts
            if self._order is not None and stamp is not None and stamp in self._index:
                with suppress(*BROKEN_MEDIA):
                    again.seek(stamp, stream=stream)
                    first = next(packets, None)
            # A container without an index may have gone anywhere.
            position = self._place_of(first, start)
            if position is not None and first is not None:
                yield position, first
                yield from enumerate(packets, position + 1)
                return
        with open_container(self.path, self._timeout) as again:
            yield from enumerate(self._demux(again, video_stream(self.path, again)))

    def _place_of(self, packet: av.Packet | None, latest: int) -> int | None:
        """The position of a packet, by its time stamp; None if unknown or after ``latest``."""
        if packet is None or self._order is None or packet.pts not in self._index:
            return None
        position = self._order[self._index[packet.pts]]
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
                    self._to_end = False  # no later packet is presented earlier
                    return
                self._listed += packet.dts is not None  # AVI repeats a frame by an empty packet
                if packet.size > 0:
                    yield packet
        except (*BROKEN_MEDIA, IndexError):  # IndexError: a packet of a stream found after opening
            self._check_clock()  # the demuxer may have been interrupted
            self._bad_packets.add(-1)  # the rest of the file is unreadable

    def _to_rgb(self, frame: av.VideoFrame, short_side: int | None) -> Frames:
        width, height = scaled_size(self._width, self._height, short_side)
        stored = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation="BILINEAR",
            threads=1,  # starting threads takes longer than converting a frame
        )
        return np.rot90(stored.to_ndarray(), _quarter_turns(frame))

    # --- limits and errors --------------------------------------------------------------------

    def _missing_part(self) -> str:
        """What is missing of the file, by the sizes and counts that its container declares."""
        if missing := missing_part(self.path):
            return missing
        counts = self._container.format.name.startswith(("mov", "avi")) and not self._window
        if counts and self._listed < self._stream.frames:
            return (
                f"it has {self._listed} of the {self._stream.frames} frames that its header"
                " declares"
            )
        end = max((p.pts for p in self._packets if p.pts is not None), default=None)
        if end is not None and (short := seconds_short(self._container, self._stream, end)):
            return f"it ends {short:.1f} s before the end that its header declares"
        return ""

    def _start_clock(self) -> None:
        if self._closed:  # FFmpeg's structures are gone
            raise UserError(f"{self.path}: is closed; read it inside the with block")
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout

    def _check_clock(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise UserError(
                f"{self.path}: not read within {self._timeout:g} seconds; it is very long, damaged,"
                " or the disk is slow"
            )

    def _undecodable(self) -> UserError:
        return UserError(
            f"{self.path}: none of its {len(self._packets)} packets decodes"
            f" ({self._codec_name}); the file is damaged, fetch it again"
        )


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns anticlockwise, as numpy.rot90 counts."""
    return round(frame.rotation / 90)
