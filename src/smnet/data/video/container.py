"""Open video files with FFmpeg, and explain in plain words why a file does not open."""

from __future__ import annotations

import os
from typing import Any

import av
from av.error import FFmpegError

from smnet.errors import UserError

BROKEN_MEDIA = (FFmpegError, ValueError)

# Comments in a file that are not UTF-8 do no harm to its frames. PyAV 19 ignores them by default.
LENIENT: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)

# FFmpeg also opens text (as ANSI art), pictures, subtitles and playlists that name other files.
_DEMUXERS = (
    *("mov", "matroska", "avi", "gif", "apng", "flv", "asf", "ogg", "rm", "nut", "mxf", "wtv"),
    *("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "mjpeg", "vc1", "dv"),
    *("ivf", "obu", "av1", "yuv4mpegpipe"),
)

# The beginnings of files that are often taken for videos.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"%PDF", "a PDF document"),
    (b"ID3", "sound only (mp3)"),
    (b"fLaC", "sound only (flac)"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file with: git lfs pull"),
)


def open_container(path: str, timeout: float | None = None) -> av.container.InputContainer:
    """Open a video file.

    Args:
        path: a local file.
        timeout: seconds for opening, and then for reading each packet. A demuxer in search of the
            next packet may read gigabytes before it returns to Python.

    Raises:
        UserError: not a video, damaged, or too slow.
    """
    try:
        return av.open(
            # An absolute path cannot be taken for a URL; nor may the file lead to one.
            os.path.abspath(path),  # noqa: PTH100
            **LENIENT,
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": ",".join(_DEMUXERS),
            },
            timeout=timeout,
        )
    except av.error.ExitError as error:
        raise UserError(
            f"{path}: not read within {timeout:g} seconds; it is damaged, or the disk is slow"
        ) from error
    except (*BROKEN_MEDIA, OSError) as error:
        raise UserError(f"{path}: {_why_not_open(path, error)}") from error


def video_stream(path: str, container: av.container.InputContainer) -> av.VideoStream:
    """The first video stream that is not a cover picture.

    Raises:
        UserError: there is none, or no decoder for it.
    """
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        if container.streams.audio:
            raise UserError(f"{path}: has sound only, no video stream")
        raise UserError(f"{path}: has no video stream; it is cut off, or not a video")
    if streams[0].codec_context is None:
        raise UserError(f"{path}: no decoder for its video; convert it, for instance to H.264")
    return streams[0]


def _why_not_open(path: str, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "may not be read; check its permissions"
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(512)
    except OSError as cause:
        return f"cannot be read ({cause.strerror})"
    if not head:
        return "is empty (0 bytes); the download or copy broke off, fetch it again"
    if head[4:8] == b"ftyp":
        return "an mp4 whose index (moov) is lost; the download or copy broke off, fetch it again"
    content = _content(head)
    if "picture" in content:
        return f"is not a video but {content}; give the folder of its frames"
    if content:
        return f"is not a video but {content}"
    return "is not a video that FFmpeg can read, or its beginning is damaged"


def _content(head: bytes) -> str:
    """What a file contains that is no video, by its first bytes; "" if unknown."""
    for magic, content in _MAGIC:
        if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(magic):
            return content
    if head[:4] == b"RIFF":
        return {b"WEBP": "a WebP picture", b"WAVE": "sound only (wav)"}.get(head[8:12], "")
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return ""
        text = head[: error.start].decode("utf-8")
    return "text" if all(c.isprintable() or c in "\r\n\t\x1b\f" for c in text) else ""
