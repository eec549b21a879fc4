"""Inspects one clip: its properties and what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av

from smnet.data.annotations.places import is_image
from smnet.data.clips import Clip
from smnet.data.open import open_video
from smnet.data.packed.read import PackedVideo, is_packed
from smnet.data.video.base import MAX_PIXELS, check_size, mean_rate
from smnet.data.video.completeness import missing_part, seconds_short
from smnet.data.video.container import BROKEN_MEDIA, open_container, video_stream
from smnet.data.video.webp import AnimatedWebp, is_webp
from smnet.errors import UserError

_PROGRESSIVE = (0, 1)  # libavcodec's field_order: unknown, progressive
_SMALLEST_PICTURE = 16  # bytes, in MPEG-4; placeholders of packed B-frames are smaller


@dataclass(frozen=True, slots=True)
class Facts:
    """Properties of a clip.

    Attributes:
        frames: number of decoded frames; without decoding, of packets with a frame.
        width, height: pixels, as stored (before rotation).
        fps: mean frames per second; None for frame folders and files without it.
        seconds: duration from the time stamps; None without time stamps.
        codec: "h264", "vp9", ...; "jpeg" or "png" for frame folders.
        bytes: size on the disk.
    """

    frames: int
    width: int
    height: int
    fps: float | None
    seconds: float | None
    codec: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """The inspection of one clip.

    Attributes:
        facts: None if the clip cannot be opened.
        problems: (kind, message) each; empty for a sound clip.
        digest: hash of the content; b"" if it cannot be read or was not requested.
    """

    facts: Facts | None
    problems: tuple[tuple[str, str], ...] = ()
    digest: bytes = b""


def inspect_clip(clip: Clip, *, decode: bool = True, digest: bool = True) -> Inspection:
    """Inspect one clip. Problems are returned, not raised.

    Args:
        clip: a video file, a folder of frames or a clip of a packed set.
        decode: decode every frame. Otherwise packets are read but not decoded, and only the first
            image of a folder is opened.
        digest: hash the bytes of the file, or of all images in the folder.
    """
    if is_packed(clip.path):
        return _packed(clip.path, decode, digest)
    try:
        if Path(clip.path).is_dir():
            facts, problems = _folder(clip, decode)
        elif is_webp(clip.path):
            facts, problems = _webp(clip.path, decode)
        else:
            facts, problems = _video(clip.path, decode)
        content = _digest(clip.path) if digest else b""
        return Inspection(facts, tuple(problems), content)
    except (UserError, MemoryError, OSError) as error:
        text = str(error) or type(error).__name__
        return Inspection(None, ((_kind(clip.path), _without_path(text, clip.path)),))


def _folder(clip: Clip, decode: bool) -> tuple[Facts, list[tuple[str, str]]]:
    problems: list[tuple[str, str]] = []
    with open_video(clip.path, clip.template) as video:
        info = video.info
        listed, found = clip.num_frames, info.num_frames
        if listed is not None and found < listed:
            problems.append(
                ("wrong frame count", f"the list says {listed} frames, the folder has {found}")
            )
        elif listed is not None and found > listed:
            text = f"the list says {listed} frames, the folder has {found}; the rest is not used"
            problems.append(("more frames", text))
        used = found if listed is None else min(found, listed)
        for index in range(used) if decode else ():
            try:
                video.read([index])
            except UserError as error:
                problems.append(("damaged", _without_path(str(error), clip.path)))
                break
    size = sum(file.stat().st_size for file in _images(clip.path))
    return Facts(found, info.width, info.height, None, None, info.codec, size), problems


def _webp(path: str, decode: bool) -> tuple[Facts, list[tuple[str, str]]]:
    with AnimatedWebp(path) as video:
        info = video.info
        for _ in video.each(range(info.num_frames)) if decode else ():
            pass
        problems = [("truncated", video.missing)] if video.missing else []
    facts = Facts(
        info.num_frames, info.width, info.height, info.fps, info.duration, info.codec, _bytes(path)
    )
    return facts, problems


def _packed(path: str, decode: bool, digest: bool) -> Inspection:
    hasher = hashlib.blake2b(digest_size=16)
    try:
        with PackedVideo(path) as video:
            info, lost, size = video.info, video.damage, video.stored_bytes
            for index in range(info.num_frames) if digest else ():
                hasher.update(video.jpeg(index))
            for _ in video.each(range(info.num_frames)) if decode else ():
                pass
    except UserError as error:
        return Inspection(None, (("unreadable", _without_path(str(error), path)),))
    facts = Facts(
        info.num_frames, info.width, info.height, info.fps, info.duration, info.codec, size
    )
    text = f"its source had lost or damaged frames when it was packed: {lost}"
    problems = (("damaged", text),) if lost else ()
    return Inspection(facts, problems, hasher.digest() if digest else b"")


def _video(path: str, decode: bool) -> tuple[Facts, list[tuple[str, str]]]:
    missing = missing_part(path, thorough=True)
    with open_container(path) as container:
        stream = video_stream(path, container)
        # The other workers use the other cores.
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        codec = stream.codec_context.codec.canonical_name
        seen = _Seen(codec)
        for packet in _packets(container, stream, seen):
            seen.note(packet)
            if decode:
                seen.decode(packet)
        width, height = stream.codec_context.width, stream.codec_context.height
        frames = seen.frames if decode else seen.shown or seen.packets
        declared, rate = stream.frames, stream.average_rate
        span, end = seen.seconds(stream), (seen.last or 0) + seen.stated
        short = seconds_short(container, stream, end) if seen.packets else 0.0
        progressive = getattr(stream.codec_context, "field_order", 0) in _PROGRESSIVE
        # MPEG-4 with packed B-frames holds one packet more than frames, or a few.
        spare = max(1, seen.shown // 20) if codec == "mpeg4" else 0
    if not seen.packets:
        return (
            Facts(0, width, height, None, None, codec, _bytes(path)),
            [("zero duration", "a video stream without a single frame")],
        )
    check_size(path, width, height)
    fps = mean_rate(frames, span, float(rate) if rate else None)
    facts = Facts(frames, width, height, fps, span, codec, _bytes(path))
    problems: list[tuple[str, str]] = []
    if not frames:
        text = f"none of its {seen.packets} packets decodes ({codec})"
        problems.append(("unreadable", text))
    elif missing:
        problems.append(("truncated", missing))
    elif seen.packets < declared:
        text = f"{seen.packets} of the {declared} frames that its header declares"
        problems.append(("truncated", text))
    elif short:
        text = f"breaks off {short:.1f} s before the end that its header declares"
        problems.append(("truncated", text))
    elif decode and progressive and frames < seen.shown - spare and not seen.bad:
        problems.append(("truncated", f"{frames} frames come out of {seen.shown}"))
    if frames and (seen.bad or seen.damaged or seen.broken):
        counts = [("undecodable packets", seen.bad), ("damaged frames", seen.damaged)]
        damage = [f"{kind}: {count}" for kind, count in counts if count]
        damage += ["the file cannot be read to its end"] if seen.broken else []
        problems.append(("damaged", ", ".join(damage)))
    if seen.packets > 1 and span == 0:
        problems.append(("zero duration", f"{seen.packets} frames, all at one time"))
    elif seen.packets == 1 and not span:
        problems.append(("zero duration", "a single frame without a duration"))
    return facts, problems


class _Seen:
    """Counts over the packets of a stream."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.packets = self.shown = self.frames = self.bad = self.damaged = 0
        self.broken = False
        self.began = False
        self.key: int | None = None
        self.first: int | None = None
        self.last: int | None = None
        self.stated = 0

    def note(self, packet: av.Packet) -> None:
        if not packet.size:
            return
        pts = packet.pts
        self.packets += 1
        if not self.began and packet.is_keyframe:
            self.began, self.key = True, pts
        if packet.is_discard:
            return
        # Frames before the first keyframe in time refer to frames that a cut removed.
        early = pts is not None and self.key is not None and pts < self.key
        self.shown += self.began and not early and self._gives_a_frame(packet)
        if pts is not None:
            self.first = pts if self.first is None else min(self.first, pts)
            if self.last is None or pts > self.last:
                self.last, self.stated = pts, packet.duration or 0

    def _gives_a_frame(self, packet: av.Packet) -> bool:
        """False for VP8's hidden references and MPEG-4's placeholders."""
        if self.codec == "vp8":
            return bool(bytes(packet)[0] & 0x10)
        return self.codec != "mpeg4" or packet.size >= _SMALLEST_PICTURE

    def decode(self, packet: av.Packet) -> None:
        """Decode a packet. The empty last one flushes the decoder."""
        try:
            for frame in packet.decode():
                self.frames += 1
                self.damaged += bool(frame.is_corrupt)
        except BROKEN_MEDIA:
            self.bad += 1

    def seconds(self, stream: av.VideoStream) -> float | None:
        """From the first frame to the end of the last."""
        if self.first is None or self.last is None or not stream.time_base:
            return None
        span = self.last - self.first
        rest = self.stated or (span / (self.shown - 1) if self.shown > 1 else stream.duration or 0)
        return float((span + rest) * stream.time_base) if span or self.shown < 2 else 0.0


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, seen: _Seen
) -> Iterator[av.Packet]:
    try:
        yield from container.demux(stream)
    except (*BROKEN_MEDIA, IndexError):  # the last: packets of a stream unknown at opening
        seen.broken = True


def _digest(path: str) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    where = Path(path)
    for file in _images(path) if where.is_dir() else [where]:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                hasher.update(block)
    return hasher.digest()


def _images(folder: str) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if is_image(e.name) and not e.name.startswith("."))
    return [Path(folder, name) for name in names]


def _bytes(path: str) -> int:
    return Path(path).stat().st_size


def _kind(path: str) -> str:
    """The kind of problem of a clip that cannot be opened."""
    where = Path(path)
    try:
        if not where.exists():
            return "missing"
        if where.is_dir():
            return "unreadable" if _images(path) else "empty"
        if not where.stat().st_size:
            return "empty"
        with open_container(path) as container:
            cover = av.stream.Disposition.attached_pic
            pictures = [s for s in container.streams.video if not s.disposition & cover]
            return "audio only" if container.streams.audio and not pictures else "unreadable"
    except (UserError, OSError):
        return "unreadable"


def _without_path(text: str, path: str) -> str:
    """Findings store the path in a separate field."""
    return text.removeprefix(f"{path}: ").removeprefix(f"{path}{os.sep}")
