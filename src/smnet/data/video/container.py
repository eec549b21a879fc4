"""Opening video files with FFmpeg, and saying in plain words why one does not open."""

from __future__ import annotations

import os
from typing import Any

import av
from av.error import FFmpegError

from smnet.errors import UserError

BROKEN_MEDIA = (FFmpegError, ValueError)

# Comments in a file that are no UTF-8 are no fault of its frames. PyAV 19 always thinks so.
LENIENT: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)

# Formats that only point to other files.
_PLAYLISTS = {"hls", "concat", "dash", "imf", "sdp", "rtsp"}


def open_container(path: str, timeout: float | None = None) -> av.container.InputContainer:
    """Open a file; ``timeout`` bounds, in seconds, opening it and each reading of a packet.

    A demuxer in search of the next packet may read gigabytes without a return to Python; only this
    limit reaches it there.
    """
    try:
        container = av.open(
            # An absolute path cannot be taken for a URL; nor may the file lead to one.
            os.path.abspath(path),  # noqa: PTH100
            **LENIENT,
            container_options={"protocol_whitelist": "file"},
            timeout=timeout,
        )
    except av.error.ExitError as error:
        raise UserError(
            f"{path}: not read within {timeout:g} seconds; it is damaged, or the disk is slow"
        ) from error
    except (*BROKEN_MEDIA, OSError) as error:
        raise UserError(f"{path}: {_why_not_open(path, error)}") from error
    return container


def video_stream(path: str, container: av.container.InputContainer) -> av.VideoStream:
    kind = container.format.name
    if kind in _PLAYLISTS:
        raise UserError(f"{path}: a playlist ({kind}), not a video; give the video itself")
    if kind == "image2" or kind.endswith("_pipe"):
        raise UserError(f"{path}: a single image, not a video; give the folder of its frames")
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        if container.streams.audio:
            raise UserError(f"{path}: has sound only; was it made without the picture?")
        raise UserError(f"{path}: has no video stream; it is broken off, or not a video")
    if streams[0].codec_context is None:
        raise UserError(f"{path}: no decoder for its video; convert it, for instance to H.264")
    return streams[0]


def _why_not_open(path: str, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "may not be read; check its permissions"
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(12)
    except OSError as cause:
        return f"cannot be read ({cause.strerror})"
    if not head:
        return "is empty (0 bytes); the download or copy broke off, fetch it again"
    if head[4:8] == b"ftyp":
        return "an mp4 whose index (moov) is lost; the download or copy broke off, fetch it again"
    return "is not a video that FFmpeg can read, or damaged at its beginning"
