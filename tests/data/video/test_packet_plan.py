from __future__ import annotations

from itertools import pairwise

import pytest

from smnet.data.video.packet_plan import (
    Packet,
    PacketTable,
    keyframe_before,
    presentation_order,
    runs,
)


def stream(text: str) -> PacketTable:
    """ "K0 2 1 x3 K4": pts in decoding order, K = keyframe, x = not shown, ? = no time stamp."""
    packets = []
    for word in text.split():
        digits = word.strip("Kx")
        pts = None if digits == "?" else int(digits)
        packets.append(Packet(pts, "K" in word, "x" not in word))
    return PacketTable(packets)


OPEN_GOP = stream("K0 3 1 2 K6 4 5 9 7 8 K12 10 11")


def spans(packets: PacketTable, wanted: list[int]) -> list[tuple[int, int, list[int]]]:
    return [(run.start, run.stop, sorted(run.wanted)) for run in runs(packets, wanted)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K0 1 2", [0, 1, 2]),
        ("K0 3 1 2", [0, 2, 3, 1]),
        ("Kx0 x1 2 3", [2, 3]),
        ("K-5 x-3 0", [0, 2]),
        ("", None),
        ("0 1 K2", None),
        ("K0 1 1", None),
        ("K0 ? 2", None),
        ("K? 1 2", None),
        ("K2 0 1 3", None),
    ],
)
def test_presentation_order(text: str, expected: list[int] | None) -> None:
    order = presentation_order(stream(text))
    assert (None if order is None else order.tolist()) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([0], [(0, 1, [0])]),
        ([3], [(0, 4, [3])]),
        ([4], [(4, 5, [4])]),
        ([7], [(4, 8, [7])]),
        # 4 and 5 come before their keyframe 6 in time: they need the group before as well
        ([5], [(0, 6, [5])]),
        ([6, 8], [(0, 9, [6, 8])]),
        ([0, 12], [(0, 1, [0]), (4, 13, [12])]),
        ([9, 1], [(0, 2, [1]), (4, 10, [9])]),
        ([8, 7, 8], [(4, 9, [7, 8])]),
        ([], []),
    ],
)
def test_runs(wanted: list[int], expected: list[tuple[int, int, list[int]]]) -> None:
    assert spans(OPEN_GOP, wanted) == expected


def test_every_run_begins_at_a_keyframe_and_none_overlap() -> None:
    for first in range(len(OPEN_GOP)):
        for second in range(len(OPEN_GOP)):
            found = runs(OPEN_GOP, [first, second])
            assert all(OPEN_GOP[run.start].is_keyframe for run in found)
            assert all(a.stop <= b.start for a, b in pairwise(found))
            assert set().union(*(run.wanted for run in found)) == {first, second}


def test_keyframe_before() -> None:
    assert [keyframe_before(OPEN_GOP, i) for i in (0, 3, 4, 9, 12)] == [0, 0, 4, 4, 10]
    assert keyframe_before(stream("0 1 2"), 2) == 0
