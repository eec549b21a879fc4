"""Exact frames from video files through PyAV, which decodes only the packets that are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from smnet.data.clips import Part
from smnet.data.video.base import (
    MAX_PIXELS,
    Frames,
    Video,
    VideoInfo,
    check_size,
    mean_rate,
    scaled_size,
)
from smnet.data.video.completeness import missing_part
from smnet.data.video.container import BROKEN_MEDIA
from smnet.data.video.packet_plan import keyframe_before, runs
from smnet.data.video.packets import PacketReader
from smnet.errors import UserError

# Decoders that can skip frames to which no other refers.
_CAN_SKIP = {"h264", "hevc"}

_HELD_FRAMES = 64 << 20
_REPAIR_REACH = 250  # packets; the usual maximum distance of keyframes


class VideoFile(Video):
    """A video file; see :func:`smnet.data.open.open_video`.

    Opening reads the packets of the first video stream without decoding them. Streams whose packets
    do not determine the frames (MPEG-4, MPEG-TS, interlaced, ...) are decoded once to count the
    frames, which are kept if they are small.

    Decoding is single-threaded: parallel workers gain more, and threaded decoders can deadlock
    with a Python log callback. For the same reason FFmpeg's log level is never changed here.

    Of a ``part`` only the packets around it are read where :class:`PacketReader` can. The frames
    and their ``times`` are then those of the part and of some frames around it.
    """

    def __init__(self, path: str, timeout: float | None, part: Part | None = None) -> None:
        self.path = path
        self._reformatter = VideoReformatter()
        self._replaced: set[int] = set()
        self._kept: list[av.VideoFrame] | None = None
        self._closed = False
        self._packets = packets = PacketReader(path, timeout, part)
        self._stream, self._codec = packets.stream, packets.codec
        try:
            self._codec.thread_type = "NONE"
            self._codec.thread_count = 1
            self._width, self._height = self._codec.width, self._codec.height
            check_size(path, self._width, self._height)
            self._list_frames()
            self._missing = packets.missing()
        except BaseException:
            self.close()
            raise

    @property
    def num_frames(self) -> int:
        return self._num_frames

    @property
    def damage(self) -> int:
        return len(self._packets.bad) + len(self._replaced) + bool(self._missing)

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
            codec=self._packets.codec_name,
            rotation=90 * _quarter_turns(frame) % 360,
            container=self._packets.container.format.name,
        )

    @property
    def times(self) -> list[float] | None:
        base = self._stream.time_base
        stamps = np.unique(self._times)
        if len(stamps) != self._num_frames or not base:
            return None
        origin = stamps[0] if self._packets.origin is None else self._packets.origin
        times: list[float] = ((stamps - origin) * base.numerator / base.denominator).tolist()
        return times

    def close(self) -> None:
        self._closed = True
        self._kept = None
        self._packets.close()

    def _start_clock(self) -> None:
        if self._closed:  # FFmpeg's structures are gone
            raise UserError(f"{self.path}: is closed; read it inside the with block")
        self._packets.clock.start()

    # --- listing ------------------------------------------------------------------------------

    def _list_frames(self) -> None:
        """Fill ``_times``, ``_num_frames`` and ``_duration``."""
        if self._packets.order is not None:
            self._times = self._packets.stamps
            self._num_frames = len(self._packets.order)
        else:
            stamps = self._count_by_decoding()
            self._times = np.array([pts for pts in stamps if pts is not None], np.int64)
            self._num_frames = len(stamps)
        self._duration: float | None = None
        rate = self._stream.average_rate
        if rate and 1 < len(np.unique(self._times)) < self._num_frames:  # B-frames in AVI
            self._duration = float(self._num_frames / rate)
        elif len(self._times) > 1 and self._stream.time_base:
            span = float(int(np.ptp(self._times)) * self._stream.time_base)
            self._duration = span * len(self._times) / (len(self._times) - 1)
        elif self._stream.duration and self._stream.time_base:
            self._duration = float(self._stream.duration * self._stream.time_base)

    def _count_by_decoding(self) -> list[int | None]:
        stamps: list[int | None] = []
        self._kept = []
        size = 0
        for frame in self._decode_all():
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
        if len(wanted) == self._num_frames and not self._missing and self._packets.to_end:
            self._missing = missing_part(self.path, thorough=True)
        for index, frame in self._pick(wanted):
            try:
                yield index, self._to_rgb(frame, short_side)
            except BROKEN_MEDIA as error:
                raise UserError(
                    f"{self.path}: frame {index} is not convertible ({error})"
                ) from error

    def _pick(self, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        order = self._packets.order
        if order is None:
            yield from self._pick_in_sequence(wanted)
            return
        missing = set(wanted)
        for run in runs(self._packets.table, order[wanted].tolist()):
            awaited = len(run.wanted)
            for frame in self._decode(run.start, run.stop, run.wanted):
                index = self._packets.frame_of(frame.pts)
                if index in missing and not frame.is_corrupt:
                    missing.remove(index)
                    awaited -= 1
                    yield index, frame
                if not awaited:
                    break  # flushing the decoder takes as long as decoding some frames
        if missing:
            yield from self._repair(sorted(missing), order)

    def _pick_in_sequence(self, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        missing = set(wanted)
        for index, frame in enumerate(self._kept or self._decode_all()):
            if index in missing:
                missing.remove(index)
                if frame.is_corrupt:
                    self._replaced.add(index)
                yield index, frame
            if not missing:
                return
        raise self._undecodable()

    def _repair(
        self, missing: Sequence[int], order: NDArray[np.int64]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Get frames that the plan did not give: decode from farther back, else take the nearest.

        A stream with gradual refresh has no true keyframes, so decoding has to begin earlier. In a
        damaged stream the frames may not come out at all.
        """
        table = self._packets.table
        positions = order[missing].tolist()
        stamps = {index: table[i].pts for index, i in zip(missing, positions, strict=True)}
        back = keyframe_before(table, max(0, min(positions) - _REPAIR_REACH))
        nearest: dict[int, tuple[int, av.VideoFrame]] = {}
        for start, stop in ((back, max(positions) + 1), (0, len(table))):
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

    def _decode_all(self) -> Iterator[av.VideoFrame]:
        return self._decode(0, len(self._packets.table), None)

    def _decode(self, start: int, stop: int, wanted: set[int] | None) -> Iterator[av.VideoFrame]:
        """Decode the packets [start, stop); frames that are not ``wanted`` may be skipped."""
        if self._codec.is_open:
            self._codec.flush_buffers()
        else:
            self._codec.options = {"max_pixels": str(MAX_PIXELS)}
        skips = self._packets.codec_name in _CAN_SKIP
        for position, packet in self._packets.read(start, stop):
            if skips:
                needed = wanted is None or position in wanted
                self._codec.skip_frame = "DEFAULT" if needed else "NONREF"
            packet.pts = self._packets.table[position].pts
            try:
                yield from self._codec.decode(packet)
            except BROKEN_MEDIA:
                self._packets.bad.add(position)
        try:
            yield from self._codec.decode(None)
        except BROKEN_MEDIA:
            self._packets.bad.add(stop - 1)

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

    def _undecodable(self) -> UserError:
        return UserError(
            f"{self.path}: none of its {len(self._packets.table)} packets decodes"
            f" ({self._packets.codec_name}); the file is damaged, fetch it again"
        )


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns anticlockwise, as numpy.rot90 counts."""
    return round(frame.rotation / 90)
