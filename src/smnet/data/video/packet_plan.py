"""Plan which packets to decode for some frames of a compressed video: pure functions.

A packet holds one compressed frame. Packets are stored in decoding order; their time stamps (pts)
give the order of presentation. Decoding a frame begins at the keyframe before it. Reading packets
without decoding them is cheap and gives the exact list of frames, also for variable frame rates,
edit lists and containers that declare no count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


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


@dataclass(slots=True)
class Run:
    """Packets [start, stop) to decode in sequence; ``wanted`` are those whose frames are needed."""

    start: int
    stop: int
    wanted: set[int]


def presentation_order(packets: Sequence[Packet]) -> list[int] | None:
    """Positions of the presented packets, in the order of presentation.

    None if the time stamps do not determine the frames: missing or repeated stamps, no keyframe
    at the beginning, or frames before that keyframe whose references are missing.
    """
    if not packets or not packets[0].is_keyframe:
        return None
    shown = [(packet.pts, i) for i, packet in enumerate(packets) if packet.is_shown]
    stamps = [pts for pts, _ in shown if pts is not None]
    first = packets[0].pts
    if len(set(stamps)) < len(shown) or first is None or any(pts < first for pts in stamps):
        return None
    return [i for _, i in sorted(shown)]


def runs(packets: Sequence[Packet], wanted: Iterable[int]) -> list[Run]:
    """The shortest runs of packets that give the frames of ``wanted``.

    Args:
        packets: the whole stream, for which :func:`presentation_order` is not None.
        wanted: positions of packets.

    Returns:
        Runs in decoding order that do not overlap; the decoder is flushed between them.
    """
    keyframes = [i for i, packet in enumerate(packets) if packet.is_keyframe]
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


def keyframe_before(packets: Sequence[Packet], position: int) -> int:
    """The last keyframe at or before ``position``; 0 if there is none."""
    while position > 0 and not packets[position].is_keyframe:
        position -= 1
    return max(0, position)


def _start(packets: Sequence[Packet], keyframes: list[int], position: int) -> int:
    """The packet at which decoding of one frame begins.

    In an open GOP, frames that follow a keyframe in the stream but precede it in time refer to the
    previous GOP, too.
    """
    k = bisect_right(keyframes, position) - 1
    pts = packets[position].pts
    while k > 0 and pts < packets[keyframes[k]].pts:  # type: ignore[operator]
        k -= 1
    return keyframes[k] if k >= 0 else 0
