"""What frames an MPEG-4 part 2 stream gives, told from its packets without decoding them.

Files of this kind (DivX, XviD; UCF101 and HMDB51 are made of them) mostly lie in avi, which has no
place for the time stamps of B-frames. They are also "packed" there: a B-frame rides in the packet
before its own, which then carries the next one or is a stand-in. The coding types of the pictures,
two bits each, tell the order in which a decoder shows them: B-frames at once, all others when the
next of these comes.

The syntax is that of ISO/IEC 14496-2, 6.2.3 and 6.2.5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from smnet.data.video.packet_plan import Packet

_PICTURE = b"\x00\x00\x01\xb6"
_PACKED = re.compile(rb"\x00\x00\x01\xb2DivX\d+(?:Build|b)\d+p")  # what decoders go by
_STAND_IN = 19  # bytes; no decoder takes a larger one for the stand-in after a packed pair
_I, _P, _B = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Layer:
    """What the header of a stream says.

    Attributes:
        time_bits: bits of the field between a picture's type and its flag "coded".
        reorders: whether B-frames may come; None = not said.
    """

    time_bits: int
    reorders: bool | None


class Picture(NamedTuple):
    """The header of one picture.

    Attributes:
        kind: its coding type.
        coded: something follows; otherwise a decoder shows nothing new.
        sound: the bits that must be set are.
    """

    kind: int
    coded: bool
    sound: bool


class Listing:
    """What each packet of a stream gives: :meth:`add` them in decoding order, then ask.

    Args:
        setup: the decoder's setup data (extradata), which holds the header of the stream.
    """

    def __init__(self, setup: bytes) -> None:
        self._setup = setup
        self._layer = read_layer(setup)
        self._clear = self._layer is not None
        self._count = 0
        # What comes out of the decoder is counted as due to the packet that makes it come.
        self._coded: list[tuple[int, int]] = []
        self._keyframes: set[int] = set()
        self._packs = _PACKED.search(setup) is not None
        self._held: Picture | None = None
        self._carriers: set[int] = set()
        self._ends_uncoded = False

    def add(self, data: bytes) -> None:
        """The next packet."""
        if self._layer is None or not self._setup.startswith(_header(data)):
            self._clear = False  # a new header changes how all that follows is read
        elif self._clear:
            self._add(data, _pictures(data, self._layer.time_bits))
        self._count += 1

    def _add(self, data: bytes, pictures: list[Picture]) -> None:
        if not pictures:
            self._clear = len(data) == 1 and not self._held  # DivX's way to say: as before
            return
        held, self._held = self._held, None
        if len(pictures) == 2 and self._packs and not held and pictures[1].kind == _B:
            picture, self._held = pictures
        elif len(pictures) > 1:
            self._clear = False
            return
        elif not held:
            picture = pictures[0]
            if picture.kind == _I:
                self._keyframes.add(self._count)
        elif pictures[0].kind == _P and len(data) <= _STAND_IN:
            picture = held
        elif pictures[0].kind == _B and data.startswith(_PICTURE) and len(data) > _STAND_IN:
            picture, self._held = held, pictures[0]
            self._carriers.add(self._count)
        else:  # decoders differ on what becomes of it
            self._clear = False
            return
        self._ends_uncoded = not picture.coded
        self._clear = picture.sound
        if picture.coded:
            self._coded.append((self._count, picture.kind))

    def packets(self) -> list[Packet] | None:
        """A :class:`Packet` for each, its ``pts`` being the number of the frame that it gives.

        None where the packets do not tell what a decoder gives.
        """
        # After a last picture without content some decoders show the one before once more.
        if not self._clear or self._layer is None or self._ends_uncoded:
            return None
        shown = _in_order(self._coded, self._layer.reorders)
        if shown is None:
            return None
        number = {position: k for k, position in enumerate(shown)}
        return [
            Packet(
                number.get(position),
                position in self._keyframes,
                position in number,
                position in self._carriers,
            )
            for position in range(self._count)
        ]


def _in_order(coded: Sequence[tuple[int, int]], reorders: bool | None) -> list[int] | None:
    """Positions of the packets in the order in which their pictures are shown."""
    shown: list[int] = []
    waiting: int | None = None
    references = 0
    for position, kind in coded:
        if kind not in (_I, _P, _B) or (kind == _B and not reorders):
            return None
        if kind != _B:
            if waiting is not None:
                shown.append(waiting)
            waiting = position
            references += 1
        elif references > 1:  # otherwise what it refers to was cut away
            shown.append(position)
    if waiting is None or coded[0][1] != _I:
        return None
    return [*shown, waiting]


def read_layer(setup: bytes) -> Layer | None:
    """The header of a stream; None if it is not there or unusual."""
    at = setup.find(b"\x00\x00\x01")
    while at >= 0 and len(setup) > at + 3 and not 0x20 <= setup[at + 3] <= 0x2F:
        at = setup.find(b"\x00\x00\x01", at + 3)
    if at < 0:
        return None
    bits = _Bits(setup[at + 4 : at + 64])
    try:
        bits.take(9)  # random access, type
        if bits.take(1):
            bits.take(7)  # version, priority
        if bits.take(4) == 15:
            bits.take(16)  # shape of the pixels
        reorders = None
        if bits.take(1):
            bits.take(2)  # chroma
            reorders = not bits.take(1)
            if bits.take(1):
                bits.take(79)  # buffer sizes
        if bits.take(2) or not bits.take(1):  # not a rectangle, no marker
            return None
        resolution = bits.take(16)
    except EOFError:
        return None
    return Layer(max(1, (resolution - 1).bit_length()), reorders) if resolution else None


def _header(data: bytes) -> bytes:
    """What precedes the first picture or group of pictures in a packet."""
    if data.startswith(_PICTURE):
        return b""
    at = data.find(_PICTURE)
    group = data.find(b"\x00\x00\x01\xb3", 0, max(at, 0))
    return data[: group if group >= 0 else max(at, 0)]


def _pictures(data: bytes, time_bits: int) -> list[Picture]:
    """The pictures of a packet."""
    found = []
    at = data.find(_PICTURE)
    while at >= 0:
        found.append(_picture(data[at + 4 : at + 16], time_bits))
        at = data.find(_PICTURE, at + 4)
    return found


def _picture(data: bytes, time_bits: int) -> Picture:
    """From the 12 bytes that follow a start code; what is beyond the end of the packet is 0."""
    # Written out, for it is done for every packet of a file.
    number = int.from_bytes(data.ljust(12, b"\0"), "big")
    bit = 93
    while number >> bit & 1 and bit > 40:  # one for every second gone by
        bit -= 1
    markers = number >> bit - 1 & number >> bit - 2 - time_bits & 1
    return Picture(number >> 94, bool(number >> bit - 3 - time_bits & 1), bool(markers))


class _Bits:
    """Reads numbers of any width, highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._number >> self._left & (1 << count) - 1
