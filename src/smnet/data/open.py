"""Open any source of frames: video files, frame folders and packed clips.

    with open_video("clip.mp4") as video:
        frames = video.read([0, 10, 20])  # (3, H, W, 3) uint8 RGB

Every error is a :class:`smnet.errors.UserError` of one line that starts with the path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Clip, Part
from smnet.data.packed.read import PackedVideo, is_packed
from smnet.data.video import torchcodec as torchcodec_file
from smnet.data.video.base import Video, VideoInfo
from smnet.data.video.frame_folder import FrameFolder
from smnet.data.video.memory import FrameArray
from smnet.data.video.part import VideoPart
from smnet.data.video.pyav import VideoFile
from smnet.data.video.webp import AnimatedWebp, is_webp
from smnet.errors import UserError

__all__ = ["Video", "VideoInfo", "check_decoder", "open_video", "probe"]


def open_video(
    path: str | os.PathLike[str] | NDArray[np.uint8] | FrameArray,
    template: str | None = None,
    start: int | None = None,
    *,
    part: Part | None = None,
    timeout: float | None = 60.0,
    decoder: str = "pyav",
) -> Video:
    """Open a video file, a folder of frames or a clip of a packed set, or a part of it.

    Video files: every video container that FFmpeg reads, GIF and animated WebP; the first video
    stream. Frames are exact: those that decoding from the beginning gives, also at variable frame
    rates. Damaged files give the frames that decode; :attr:`Video.damage` counts the others.

    Frame folders: .jpg, .jpeg or .png files with a number in their names.

    Packed clips: ``<folder>/index.arrow#<row>``, see :mod:`smnet.data.packed.read`.

    Args:
        path: a file, a folder, a row of a packed set, or frames (T, H, W, 3) uint8, perhaps with
            their times.
        template: name of the frame files, such as "img_%05d.jpg"; None finds it by looking. For
            folders only.
        start: the number of the first frame; None is the smallest. For folders only.
        part: only these frames, counted from 0, see :class:`smnet.data.video.part.VideoPart`.
        timeout: seconds for opening, and for each ``read``; None is no limit.
        decoder: reader of video files: ``"pyav"``, ``"torchcodec"``, or ``"torchcodec:cuda"`` on a
            GPU, see :class:`smnet.data.video.torchcodec.TorchCodecFile`.

    Returns:
        A context manager; see :class:`smnet.data.video.base.Video`.

    Raises:
        UserError: the path does not exist, is not a video, has no frames or an impossible frame
            size, lacks a frame (folders), is not read in time, or there is no such decoder; or no
            frame lies in the part.
    """
    video = _open(path, template, start, timeout, decoder, part)
    return video if part is None else VideoPart(video, part)


def _open(
    path: str | os.PathLike[str] | NDArray[np.uint8] | FrameArray,
    template: str | None,
    start: int | None,
    timeout: float | None,
    decoder: str,
    part: Part | None,
) -> Video:
    if isinstance(path, np.ndarray):
        return FrameArray(path)
    if isinstance(path, FrameArray):
        return path
    name = os.fspath(path)
    if is_packed(name):
        return PackedVideo(name)
    refuse_address(name)
    where = Path(name)
    try:
        is_folder, is_file = where.is_dir(), where.is_file()
    except (OSError, ValueError) as error:
        raise UserError(f"{name!r}: not a usable path ({error})") from error
    if is_folder:
        return FrameFolder(name, template, start)
    if not is_file:
        kind = "is neither a file nor a folder" if where.exists() else "no such file or folder"
        raise UserError(f"{name}: {kind}")
    if template is not None or start is not None:
        raise UserError(f"{name}: is a file; a frame template or start number is for folders only")
    check_decoder(decoder)
    if is_webp(name):
        return AnimatedWebp(name)
    kind, _, device = decoder.partition(":")
    if kind == "torchcodec":
        return torchcodec_file.TorchCodecFile(name, timeout, device or "cpu")
    return VideoFile(name, timeout, part)


def refuse_address(name: str) -> None:
    """Raise a UserError for an address such as ``https://...``, which is no missing file."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", name)
    if scheme is None:
        return
    live = scheme[1].lower() in ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
    raise UserError(
        f"{name}: is an address; videos are read from files and folders only:"
        f" {'live streams are not supported' if live else 'download it first'}"
    )


def check_decoder(decoder: str) -> None:
    """Check that a decoder exists, before it fails on every clip.

    Raises:
        UserError: no such decoder, or its library is not installed.
    """
    if decoder.partition(":")[0] == "torchcodec":
        torchcodec_file.library()
    elif decoder != "pyav":
        raise UserError(f"no decoder {decoder!r}; there are: pyav, torchcodec, torchcodec:cuda")


def probe(
    path: str | os.PathLike[str], template: str | None = None, start: int | None = None
) -> VideoInfo:
    """Facts about a source of frames; arguments and errors as for :func:`open_video`."""
    with open_video(path, template, start) as video:
        return video.info


def median_seconds(clips: Sequence[Clip], most: int = 48) -> float | None:
    """Median length of clips in seconds; None if no length is known, as for folders of frames.

    Args:
        clips: of a data set.
        most: number of clips to look at, evenly spread over the list.
    """
    lengths = []
    for index in sorted({i * len(clips) // most for i in range(most) if clips}):
        clip = clips[index]
        part = clip.part
        if part is not None and part.unit == "s" and part.end is not None:
            lengths.append(part.end - (part.start or 0.0))
            continue
        with suppress(UserError), open_video(clip.path, clip.template, part=part) as video:
            lengths.append(video.duration or 0.0)
    known = [length for length in lengths if length > 0]
    return float(np.median(known)) if known else None
