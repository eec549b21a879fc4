"""MPEG-4: the frames told from packets against those that decoding gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnet.data.open import open_video
from smnet.data.video.mpeg4 import Layer, Listing, read_layer
from tests.videos import decode_all, moving_frames, write_video

FRAMES = moving_frames(31, 160, 128)
PACKS = b"\0\0\1\xb2DivX503b1393p"


def bits(text: str) -> bytes:
    return int(text, 2).to_bytes(len(text) // 8, "big")


def layer(reorders: bool | None, resolution: int = 25) -> bytes:
    control = "0" if reorders is None else "1" + "01" + ("0" if reorders else "1") + "0"
    text = "0" + "00000001" + "0" + "0001" + control + "00" + "1" + f"{resolution:016b}" + "1"
    return b"\0\0\1\x20" + bits(text + "0" * (-len(text) % 8))


def picture(kind: str, coded: bool = True, seconds: int = 0, time_bits: int = 5) -> bytes:
    text = f"{'IPBS'.index(kind):02b}" + "1" * seconds + "0" + "1" + "0" * time_bits + "1"
    text += "1" if coded else "0"
    head = b"\0\0\1\xb6" + bits(text + "0" * (-len(text) % 8))
    return head + (b"\x55" * 40 if coded else b"")


def shown(packets: Sequence[bytes], setup: bytes | None = None) -> list[int] | None:
    """Positions of the packets in the order their frames are shown."""
    listing = Listing(layer(True) + PACKS if setup is None else setup)
    for data in packets:
        listing.add(data)
    found = listing.packets()
    if found is None:
        return None
    numbered = [(p.pts, k) for k, p in enumerate(found) if p.is_shown and p.pts is not None]
    return [k for _, k in sorted(numbered)]


@pytest.mark.parametrize("reorders", [True, False, None])
@pytest.mark.parametrize("resolution", [1, 2, 25, 30000, 65535])
def test_headers(reorders: bool | None, resolution: int) -> None:
    expected = Layer(max(1, (resolution - 1).bit_length()), reorders)
    assert read_layer(layer(reorders, resolution)) == expected
    assert read_layer(b"\0\0\1\xb0\x03\0\0\1\0" + layer(reorders, resolution)) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_a_header_or_none(data: bytes) -> None:
    read_layer(data)
    read_layer(b"\0\0\1\x20" + data)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_are_packets(packets: list[bytes]) -> None:
    shown([picture("I"), *packets])
    shown([picture("I"), *(b"\0\0\1\xb6" + data for data in packets)])


INTRA, P, B = (picture(kind) for kind in "IPB")
STAND_IN = picture("P", coded=False)


@pytest.mark.parametrize(
    ("packets", "order"),
    [
        ([INTRA, P, P], [0, 1, 2]),
        ([INTRA, P, B, B, P, B], [0, 2, 3, 1, 5, 4]),
        ([INTRA, P + B, STAND_IN, P], [0, 2, 1, 3]),  # packed
        ([INTRA, P + B, B, STAND_IN, P + B], [0, 2, 3, 1, 4]),  # the last B-frame is lost
        ([INTRA, b"\x7f", P, P], [0, 2, 3]),
        ([INTRA, P, STAND_IN, P], [0, 1, 3]),  # nothing new is shown
        ([INTRA, B, P], [0, 2]),  # the B-frame refers to what was cut away
        ([INTRA, picture("P", seconds=3), P], [0, 1, 2]),
    ],
)
def test_order(packets: list[bytes], order: list[int]) -> None:
    assert shown(packets) == order


@pytest.mark.parametrize(
    "packets",
    [
        [],
        [P, P],  # begins in the middle
        [INTRA, picture("S")],
        [INTRA, P + B + B, STAND_IN],
        [INTRA, P + B, P + B, STAND_IN],  # a stand-in is missing
        [INTRA, P + B, P],
        [INTRA, P + B, INTRA],
        [INTRA, P + B, b"\x7f"],
        [INTRA, P + P, STAND_IN],
        [INTRA, P, b"\0\0\1\xb6"],  # cut
        [INTRA, P, b"what is this"],
        [INTRA, P, layer(True, 30) + INTRA],  # another header
        [INTRA, P, STAND_IN],  # at the end, decoders differ
    ],
)
def test_what_the_packets_do_not_tell(packets: list[bytes]) -> None:
    assert shown(packets) is None


def test_b_frames_where_the_header_excludes_or_omits_them() -> None:
    for reorders in (False, None):
        assert shown([INTRA, P, P], layer(reorders)) == [0, 1, 2]
        assert shown([INTRA, P, B], layer(reorders)) is None
    assert shown([INTRA, P], b"") is None


def test_packed_pictures_where_nothing_says_so() -> None:
    assert shown([INTRA, P + B, STAND_IN], layer(True)) is None


def test_what_must_not_be_skipped() -> None:
    listing = Listing(layer(True) + PACKS)
    for data in (INTRA, P + B, B, STAND_IN, P + B, STAND_IN, layer(True) + INTRA):
        listing.add(data)
    found = listing.packets()
    assert found is not None
    assert [p.carries for p in found] == [False, False, True, False, False, False, False]
    assert [p.is_keyframe for p in found] == [True, *[False] * 5, True]


def pack(source: Path, target: Path) -> Path:
    """Rewrite an avi the way DivX does: a B-frame rides with the picture before it."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        setup = bytes(stream.codec_context.extradata)
        header = setup[: setup.index(b"\0\0\1\xb2")] + PACKS
        copy.codec_context.extradata = header
        data = [bytes(packet) for packet in old.demux(stream) if packet.size]
        theirs = re.compile(rb"^\x00\x00\x01\xb0.*?(?=\x00\x00\x01\xb3)", re.DOTALL)
        data = [theirs.sub(lambda _: header, d) for d in data]
        parsed = read_layer(setup)
        assert parsed is not None
        packed: list[bytes] = []
        while data:
            following = 0
            while following + 1 < len(data) and data[following + 1][4] >> 6 == 2:
                following += 1
            group, data = data[: following + 1], data[following + 1 :]
            if following:
                stand_in = picture("P", coded=False, time_bits=parsed.time_bits)
                group = [group[0] + group[1], *group[2:], stand_in]
            packed += group
        for number, content in enumerate(packed):
            packet = av.Packet(content)
            packet.stream, packet.time_base = copy, 1 / stream.average_rate
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            new.mux(packet)
    return target


@pytest.mark.parametrize(("bframes", "gop"), [(1, 250), (2, 250), (2, 12)])
def test_packed_files(bframes: int, gop: int, tmp_path: Path) -> None:
    options = {"codec": "mpeg4", "bframes": bframes, "gop": gop}
    plain = write_video(tmp_path / "plain.avi", FRAMES, **options)
    packed = pack(plain, tmp_path / "packed.avi")
    truth = decode_all(packed)
    assert len(truth) == len(FRAMES)
    assert all(map(np.array_equal, truth, decode_all(plain)))
    with open_video(packed) as video:
        assert video._order is not None
        assert video.num_frames == len(truth)
        for wanted in (*([k] for k in range(31)), [4, 5], [3, 11, 29], list(range(31))):
            frames = video.read(wanted)
            assert all(np.array_equal(f, truth[i]) for f, i in zip(frames, wanted, strict=True))
        assert video.damage == 0
        assert video.duration == pytest.approx(31 / 25)


def test_frames_to_which_no_other_refers_are_left_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", FRAMES, codec="mpeg4", bframes=2, gop=250)
    with open_video(path) as video:
        given = [frame.pts for frame in video._decode(0, len(FRAMES), {0, 30})]
    assert len(given) < 15
