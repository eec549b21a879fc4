"""Plan which packets to decode for some frames of a compressed video: pure functions.

A packet holds one compressed frame. Packets are stored in decoding order; their time stamps (pts)
give the order of presentation. Decoding a frame begins at the keyframe before it. Reading packets
without decoding them is cheap and gives the exact list of frames, also for variable frame rates,
edit lists and containers that declare no count.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_STAMP = -(2**63)
"""Stands for a missing time stamp."""
_KEYFRAME, _SHOWN = 1, 2


class Packet(NamedTuple):
    """Facts about one packet.

    Attributes:
        pts: presentation time stamp in the unit of the stream; None if there is none.
        is_keyframe: decoding can begin here.
        is_shown: its frame is presented (not cut away by an edit list, not a hidden reference).
    """

    pts: int | None
    is_keyframe: bool
    is_shown: bool


class PacketTable:
    """The packets of a stream in the order of decoding, in nine bytes each."""

    def __init__(self, packets: Iterable[Packet] = ()) -> None:
        self._stamps = array("q")
        self._flags = bytearray()
        for packet in packets:
            self.append(packet)

    def append(self, packet: Packet) -> None:
        """Add the next packet."""
        self._stamps.append(NO_STAMP if packet.pts is None else packet.pts)
        self._flags.append(packet.is_keyframe * _KEYFRAME + packet.is_shown * _SHOWN)

    def __len__(self) -> int:
        return len(self._flags)

    def __getitem__(self, position: int) -> Packet:
        stamp, flags = self._stamps[position], self._flags[position]
        pts = None if stamp == NO_STAMP else stamp
        return Packet(pts, bool(flags & _KEYFRAME), bool(flags & _SHOWN))

    @property
    def keyframes(self) -> list[int]:
        """Positions of the keyframes."""
        return self._where(_KEYFRAME).tolist()

    @property
    def shown(self) -> NDArray[np.int64]:
        """Positions of the presented packets."""
        return self._where(_SHOWN)

    @property
    def stamps(self) -> NDArray[np.int64]:
        """Time stamps; :data:`NO_STAMP` where there is none."""
        return np.array(self._stamps, np.int64)

    def _where(self, flag: int) -> NDArray[np.int64]:
        return np.flatnonzero(np.frombuffer(bytes(self._flags), np.uint8) & flag)


@dataclass(slots=True)
class Run:
    """Packets [start, stop) to decode in sequence; ``wanted`` are those whose frames are needed."""

    start: int
    stop: int
    wanted: set[int]


def presentation_order(packets: PacketTable) -> NDArray[np.int64] | None:
    """Positions of the presented packets, in the order of presentation.

    None if the time stamps do not determine the frames: missing or repeated stamps, no keyframe
    at the beginning, or frames before that keyframe whose references are missing.
    """
    if not len(packets) or not packets[0].is_keyframe:
        return None
    shown, first = packets.shown, packets[0].pts
    order = shown[np.argsort(packets.stamps[shown], kind="stable")]
    stamps = packets.stamps[order]
    if first is None or np.any(stamps < first) or np.any(stamps[1:] == stamps[:-1]):
        return None
    return order


def runs(packets: PacketTable, wanted: Iterable[int]) -> list[Run]:
    """The shortest runs of packets that give the frames of ``wanted``.

    Args:
        packets: the whole stream, for which :func:`presentation_order` is not None.
        wanted: positions of packets.

    Returns:
        Runs in decoding order that do not overlap; the decoder is flushed between them.
    """
    keyframes = packets.keyframes
    found: list[Run] = []
    for run in sorted(
        (Run(_start(packets, keyframes, i), i + 1, {i}) for i in wanted),
        key=lambda run: (run.start, run.stop),
    ):
        if found and run.start < found[-1].stop:
            found[-1].stop = max(found[-1].stop, run.stop)
            found[-1].wanted |= run.wanted
        else:
            found.append(run)
    return found


def keyframe_before(packets: PacketTable, position: int) -> int:
    """The last keyframe at or before ``position``; 0 if there is none."""
    while position > 0 and not packets[position].is_keyframe:
        position -= 1
    return max(0, position)


def _start(packets: PacketTable, keyframes: list[int], position: int) -> int:
    """The packet at which decoding of one frame begins.

    In an open GOP, frames that follow a keyframe in the stream but precede it in time refer to the
    previous GOP, too.
    """
    k = bisect_right(keyframes, position) - 1
    pts = packets[position].pts
    while k > 0 and pts < packets[keyframes[k]].pts:  # type: ignore[operator]
        k -= 1
    return keyframes[k] if k >= 0 else 0
