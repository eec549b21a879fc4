"""Sources of live video through PyAV: cameras, network addresses, files, standard input.

Every kind of source may use only its own protocols and demuxers. So an address cannot lead FFmpeg
to a local file, nor a file to an address.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from smnet.data.video.base import check_size
from smnet.data.video.container import LENIENT, open_container, video_stream
from smnet.errors import UserError
from smnet.live.relay import Relay, can_relay

OPEN_SECONDS = 15.0
"""Time limit for opening a source."""
PIPE = "pipe:0"

LOW_DELAY = {"flags": "low_delay", "fpsprobesize": "0"}
"""Options of live sources. Frames are not collected to estimate a rate, which is not used."""
_NEWEST = {"fflags": "nobuffer"}  # what was read to recognise the stream is not kept
UNTIMED = ("mpjpeg", "mjpeg", "h264", "hevc")
"""Formats without time stamps. FFmpeg counts their frames at 25 per second instead."""
_STREAMED = ("mpegts", "flv", "mov", "matroska", "avi", "ogg", "mpeg", "h264", "hevc", "mjpeg")
_CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@dataclass(frozen=True)
class Source:
    """A source of video.

    Attributes:
        name: for people, without a password.
        address: for FFmpeg.
        live: its frames come at their own pace.
        format: the demuxer; None finds it.
        protocols, demuxers: what FFmpeg may use.
        options: further options of FFmpeg.
    """

    name: str
    address: str
    live: bool
    format: str | None = None
    protocols: str = ""
    demuxers: tuple[str, ...] = _STREAMED
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        return not self.protocols and self.format is None

    @property
    def reopens(self) -> bool:
        """Whether it can be opened again when it is lost."""
        return self.live and not self.is_file and self.address != PIPE

    def open(self, silence: float) -> InputContainer:
        """Open the source.

        Args:
            silence: seconds without a packet after which reading fails.

        Raises:
            UserError: it cannot be opened, or has no video.
        """
        if self.is_file:
            return open_container(self.address, silence)
        options = {
            "protocol_whitelist": self.protocols,
            "format_whitelist": ",".join(self.demuxers),
            **(LOW_DELAY if self.live else {}),
            **self.options,
        }
        settings = {"container_options": options, "timeout": (OPEN_SECONDS, silence), **LENIENT}
        try:
            try:
                return av.open(self.address, format=self.format, **settings)
            except av.error.ProtocolNotFoundError:
                if not can_relay():
                    raise
                relay = Relay(self.address, self.protocols, min(silence, OPEN_SECONDS))
                options["analyzeduration"] = "1000000"
                return av.open(relay, format="mpegts", **settings)
        except av.error.ProtocolNotFoundError:
            reason = f"PyAV is built without {self.protocols}; install the program ffmpeg"
        except av.error.ExitError:
            reason = f"no answer within {OPEN_SECONDS:g} seconds"
        except (FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{self.name}: cannot be opened ({reason}){self._hint()}")

    def is_live(self, container: InputContainer) -> bool:
        """Whether frames are lost if nobody takes them. A file at an address of HTTP waits."""
        whole = container.duration is not None and self.address.startswith("http")
        return self.live and not whole

    def has_times(self, container: InputContainer) -> bool:
        """Whether the time stamps of the frames are those of their capture.

        Motion JPEG of a camera has none, so the arrival of a frame is its time.
        """
        return not self.live or self.is_file or container.format.name not in UNTIMED

    def is_paced(self, container: InputContainer) -> bool:
        """Whether frames that arrive at once, as in HLS, are passed on at their own pace."""
        return self.is_live(container) and (self.is_file or container.format.name == "hls")

    def _hint(self) -> str:
        if self.format in _CAMERAS.values():
            return "; is the camera plugged in, and not used by another program?"
        return "; check the address, and that this machine reaches it" if self.live else ""


def source_of(word: str, realtime: bool = False) -> Source:
    """The source that a word of the command line stands for.

    Args:
        word: ``0`` or ``/dev/video0``, an address, a file, or ``-`` for standard input.
        realtime: play a file at its own pace, as if it were live; standard input is live.

    Raises:
        UserError: no such file, or an address of an unknown kind.
    """
    if word.isdecimal() or re.fullmatch(r"/dev/video\d+", word):
        return _camera(word)
    if word == "-":
        return Source("standard input", PIPE, realtime, protocols="pipe")
    scheme, colon, _ = word.partition("://")
    if not colon:
        if not Path(word).is_file():
            raise UserError(f"{word}: no such file")
        return Source(word, word, realtime)
    name = re.sub(r"://[^/@]*@", "://", word)
    name = re.sub(r"(passphrase)=[^&]*", r"\1=...", name)
    tls = "tcp,tls,crypto"
    match scheme.lower():
        case "rtsp" | "rtsps":
            options = {"rtsp_flags": "prefer_tcp", **_NEWEST}
            protocols = f"rtsp,rtsps,rtp,srtp,udp,{tls}"
            return Source(name, word, True, None, protocols, ("rtsp", "rtp", "sdp"), options)
        case "http" | "https":
            kinds = (*_STREAMED, "mpjpeg", "hls")
            return Source(name, word, True, None, f"http,https,httpproxy,{tls}", kinds)
        case "srt" | "udp":
            return Source(name, word, True, None, scheme.lower(), options=_NEWEST)
    raise UserError(
        f"{name}: {scheme}:// is not read; use a camera (0), rtsp://, http(s)://, srt://, udp://,"
        " a file, or -"
    )


def _camera(word: str) -> Source:
    kind = _CAMERAS.get(sys.platform)
    if kind is None:
        raise UserError(f"{word}: cameras are read on Linux, macOS and Windows only")
    address = f"/dev/video{word}" if kind == "v4l2" and word.isdecimal() else word
    if kind == "dshow" and word.isdecimal():
        raise UserError("on Windows give the camera by name, for instance video=Integrated Camera")
    return Source(f"camera {word}", address, True, kind, "file", (kind,), _NEWEST)


def picture_stream(source: Source, container: InputContainer) -> av.VideoStream:
    """The first video stream, decoded in this thread alone.

    Raises:
        UserError: there is none.
    """
    stream = video_stream(source.name, container)
    stream.thread_type = "NONE"
    return stream


class Converter:
    """Frames as the decoder of files gives them: RGB, upright."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) uint8."""
        check_size(self._name, frame.width, frame.height)
        stored = self._reformatter.reformat(
            frame,
            width=frame.width,
            height=frame.height,
            format="rgb24",
            interpolation="BILINEAR",
            threads=1,
        )
        return np.rot90(stored.to_ndarray(), round(frame.rotation / 90))
