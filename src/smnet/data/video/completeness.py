"""Whether a video file is whole, by the sizes that its container declares.

FFmpeg reads a truncated file to its end without an error. Most containers state their own size:
Matroska and WebM (EBML elements, RFC 8794), MP4 and MOV (boxes, ISO/IEC 14496-12), AVI (RIFF
chunks) and GIF (a trailer). MPEG-TS, FLV and raw streams do not.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import av

_CLUSTER = b"\x1f\x43\xb6\x75"
# The other children of a Matroska segment: SeekHead, Info, Tracks, Cues, Tags, Chapters,
# Attachments, Void, CRC-32.
_SEGMENT_CHILDREN = {
    _CLUSTER,
    *(b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1c\x53\xbb\x6b"),
    *(b"\x12\x54\xc3\x67", b"\x10\x43\xa7\x70", b"\x19\x41\xa4\x69", b"\xec", b"\xbf"),
}
# The children of a cluster: Timestamp, SimpleBlock, BlockGroup, PrevSize, Position, Void, CRC-32,
# SilentTracks, EncryptedBlock.
_CLUSTER_CHILDREN = {
    *(b"\xe7", b"\xa3", b"\xa0", b"\xab", b"\xa7", b"\xec", b"\xbf", b"\x58\x54", b"\xaf")
}
_SLACK = 16  # bytes by which writers of AVI get their own size wrong


def missing_part(path: str, thorough: bool = False) -> str:
    """What is missing of a file, by its container's own sizes; "" if nothing is known to be.

    Args:
        path: the file.
        thorough: visit every block of Matroska and WebM, which takes some milliseconds, and not
            only the clusters.
    """
    try:
        size = os.path.getsize(path)  # noqa: PTH202
        with Path(path).open("rb") as file:
            head = file.read(12)
            file.seek(0)
            if head.startswith(b"\x1a\x45\xdf\xa3"):
                return _matroska(file, size, thorough)
            if head.startswith(b"RIFF"):
                return _ends(_riff(file, size) - _SLACK, size)
            if head.startswith((b"GIF87a", b"GIF89a")):
                return "" if _gif_is_whole(file) else "its end is missing: it has no trailer"
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return _boxes(file, size)
    except (OSError, struct.error):
        pass
    return ""


def _ends(end: int, size: int) -> str:
    return f"its end is missing, {end - size} bytes by its header" if end > size else ""


def _matroska(file: BinaryIO, size: int, thorough: bool) -> str:
    """Walk the header, the children of the segment, and those of its clusters if ``thorough``."""
    stop = size
    while (at := file.tell()) < min(size, stop):
        identifier, length = _element(file)
        if identifier == b"\x18\x53\x80\x67":
            if length is not None:
                stop = file.tell() + length
                if missing := _ends(stop, size):
                    return missing
            continue
        if identifier != b"\x1a\x45\xdf\xa3" and identifier not in _SEGMENT_CHILDREN:
            return f"damaged at byte {at}: no element of a Matroska file" if identifier else ""
        if length is None:  # as live recordings write a cluster
            return ""
        end = file.tell() + length
        if missing := _ends(end, size):
            return missing
        if thorough and identifier == _CLUSTER:
            while (at := file.tell()) < end:
                identifier, length = _element(file)
                if identifier not in _CLUSTER_CHILDREN or length is None:
                    return f"damaged at byte {at}: no element of a Matroska cluster"
                file.seek(length, os.SEEK_CUR)
            if file.tell() != end:
                return f"damaged at byte {at}: a block longer than its cluster"
        file.seek(end)
    return ""


def _element(file: BinaryIO) -> tuple[bytes, int | None]:
    """The identifier and the length of an EBML element; None is an unknown length."""
    first = file.read(1)
    width = 9 - first[0].bit_length() if first and first[0] else 0
    identifier = first + file.read(max(width - 1, 0))
    head = file.read(1)
    if not head or not head[0]:
        return identifier, None
    width = 9 - head[0].bit_length()
    value = int.from_bytes(head + file.read(width - 1)) & ((1 << 7 * width) - 1)
    return identifier, None if value == (1 << 7 * width) - 1 else value


def _riff(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF chunk; large files have several (OpenDML)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or not length:
            break
        at += 8 + length + length % 2
    return at


def _boxes(file: BinaryIO, size: int) -> str:
    """Walk the boxes of the outermost level."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if length == 0:  # up to the end of the file
            return ""
        if length < 8 or not kind.isalnum():
            return f"damaged at byte {at}: no box of an mp4 file" if any(kind) else ""
        at += length
    return _ends(at, size)


def _gif_is_whole(file: BinaryIO) -> bool:
    """Walk the blocks up to the trailer (GIF89a specification)."""
    data = file.read()
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:
            return True
        if kind == 0x21:
            at += 2
        elif kind == 0x2C and at + 9 < len(data):
            table = data[at + 9]
            at += 11 + (3 << (table & 7) + 1 if table & 0x80 else 0)
        else:
            return False
        while at < len(data) and data[at]:  # sub-blocks
            at += 1 + data[at]
        at += 1
    return False


def seconds_short(
    container: av.container.InputContainer, stream: av.VideoStream, end: int
) -> float:
    """By how much a Matroska or WebM stream ends before its declared duration; 0.0 if it does not.

    At damage in the middle the demuxer stops without an error. The last frame may last long, so
    less than half a second or a tenth of the duration does not count.

    Args:
        container: the open file, read to its end.
        stream: its video stream.
        end: time stamp of the end of the last packet.
    """
    if container.format.name != "matroska,webm" or not stream.time_base:
        return 0.0
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        declared = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        alone = len(container.streams) == 1
        declared = container.duration / av.time_base if alone and container.duration else 0.0
    short = declared - float(end * stream.time_base)
    return short if short > max(0.5, declared / 10) else 0.0
