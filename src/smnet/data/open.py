"""From a path to frames: the door to video files, frame folders and packed clips.

    with open_video("clip.mp4") as video:
        frames = video.read([0, 10, 20])  # (3, H, W, 3) uint8 RGB

Every complaint is one :class:`smnet.errors.UserError` line that starts with the path.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnet.data.packed.read import PackedVideo, is_packed
from smnet.data.video import torchcodec as torchcodec_file
from smnet.data.video.base import Video, VideoInfo
from smnet.data.video.frame_folder import FrameFolder
from smnet.data.video.memory import FrameArray
from smnet.data.video.pyav import VideoFile
from smnet.errors import UserError

__all__ = ["Video", "VideoInfo", "check_decoder", "open_video", "probe"]


def open_video(
    path: str | os.PathLike[str] | NDArray[np.uint8],
    template: str | None = None,
    start: int | None = None,
    *,
    timeout: float | None = 60.0,
    decoder: str = "pyav",
) -> Video:
    """Open a video file, a folder of frames or a clip of a packed set.

    Video files: whatever FFmpeg reads, gif included; the first video stream. Frames are exact,
    those that decoding from the beginning would give, at variable frame rates too. Damaged files
    give what can be had: :attr:`Video.damage` counts what could not.

    Frame folders: .jpg, .jpeg or .png files with a number in their names.

    Packed clips: ``<folder>/index.arrow#<row>``, see :mod:`smnet.data.packed.read`.

    Args:
        path: a file, a folder, or a row of a packed set; or frames (T, H, W, 3) uint8.
        template: name of the frame files, such as "img_%05d.jpg"; None = find out by looking,
            which takes a folder with one kind of frames. For folders only.
        start: the number of the first frame; None = the smallest there is. For folders only.
        timeout: seconds that opening, and then each ``read``, may take; None = no limit.
        decoder: what reads video files, ``"pyav"`` or ``"torchcodec"``; ``"torchcodec:cuda"`` does
            so on a GPU, see :class:`smnet.data.video.torchcodec.TorchCodecFile`.

    Returns:
        A context manager; see :class:`smnet.data.video.base.Video`.

    Raises:
        UserError: nothing there, not a video, no frames, an absurd frame size, a frame missing
            in a folder, out of time, or no such decoder.
    """
    if isinstance(path, np.ndarray):
        return FrameArray(path)
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
        what = "is neither a file nor a folder" if where.exists() else "no such file or folder"
        raise UserError(f"{name}: {what}")
    if template is not None or start is not None:
        raise UserError(
            f"{name}: a file, but a frame template or start number is given, which is for folders"
        )
    check_decoder(decoder)
    kind, _, device = decoder.partition(":")
    if kind == "torchcodec":
        return torchcodec_file.TorchCodecFile(name, timeout, device or "cpu")
    return VideoFile(name, timeout)


def refuse_address(name: str) -> None:
    """Refuse an address such as ``https://...``, which is not the name of a missing file.

    Raises:
        UserError: it is one.
    """
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", name)
    if scheme is None:
        return
    live = scheme[1].lower() in ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
    raise UserError(
        f"{name}: an address; videos are read from files and folders only, and"
        f" {'live streams are not supported' if live else 'are to be downloaded first'}"
    )


def check_decoder(decoder: str) -> None:
    """Refuse a decoder that is not there, before one clip after the other fails for want of it.

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
    """Facts about a video file or frame folder; takes and raises what :func:`open_video` does."""
    with open_video(path, template, start) as video:
        return video.info
