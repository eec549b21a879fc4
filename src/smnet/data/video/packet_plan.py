"""Which packets to decode to get some frames of a compressed video: pure functions, no decoder.

A packet holds one compressed frame. Packets lie in decoding order; their time stamps (pts) give
the order of presentation. A frame can be decoded from the keyframe before it onwards. Reading the
packets without decoding them is cheap and gives the exact list of frames, also for variable frame
rates, edit lists and containers that declare no count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Packet(NamedTuple):
    """Facts about one packet.

    Attributes:
        pts: presentation time stamp in the stream's unit, None if the container gives none.
        is_keyframe: decoding can begin here.
        is_shown: it gives a frame to show (not cut away by an edit list, not a hidden reference).
    """

    pts: int | None
    is_keyframe: bool
    is_shown: bool


@dataclass(slots=True)
class Run:
    """Decode the packets [start, stop) in one go; ``wanted`` are those whose frame is needed."""

    start: int
    stop: int
    wanted: set[int]


def presentation_order(packets: Sequence[Packet]) -> list[int] | None:
    """Positions of the shown packets in order of presentation.

    Returns None where the time stamps do not tell exactly which frames a decoder gives: missing or
    repeated stamps, a stream cut off from its first keyframe, or frames before that keyframe whose
    references were cut away.
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
    """The shortest stretches of packets whose decoding gives the frames of ``wanted``.

    Args:
        packets: the whole stream, with time stamps as :func:`presentation_order` demands.
        wanted: positions of packets.

    Returns:
        Runs in decoding order that do not overlap; between two of them the decoder is emptied.
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
    """The last keyframe at or before ``position``; 0 where there is none."""
    while position > 0 and not packets[position].is_keyframe:
        position -= 1
    return max(0, position)


def _start(packets: Sequence[Packet], keyframes: list[int], position: int) -> int:
    """Where to begin for one frame.

    In an open GOP, frames that follow a keyframe in the stream but precede it in time also refer
    to the GOP before.
    """
    k = bisect_right(keyframes, position) - 1
    pts = packets[position].pts
    while k > 0 and pts < packets[keyframes[k]].pts:  # type: ignore[operator]
        k -= 1
    return keyframes[k] if k >= 0 else 0
