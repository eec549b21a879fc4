"""Small real video files for tests, encoded on the fly, and a plain decoder to compare with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from smnet.data.video.container import LENIENT

_PIXEL_FORMATS = {"gif": "rgb8", "mjpeg": "yuvj420p"}
_QUIET = {"libx265": {"x265-params": "log-level=none"}}


def moving_frames(count: int, width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """A bright square wandering over a noisy gradient: (count, height, width, 3) uint8.

    No two frames look alike, so a wrong frame is found out.
    """
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 160, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    texture = rng.integers(0, 30, (height, width, 3))
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    side = max(4, height // 4)
    for i in range(count):
        frames[i] = np.roll(ramp + texture, 2 * i, axis=1)
        x, y = (3 * i) % max(1, width - side), (2 * i) % max(1, height - side)
        frames[i, y : y + side, x : x + side] = (250, (37 * i) % 256, 255 - (11 * i) % 256)
    return frames


def write_video(
    path: str | Path,
    frames: np.ndarray,
    *,
    fps: int | Fraction = 25,
    codec: str = "libx264",
    gop: int = 12,
    bframes: int = 0,
    timestamps: Sequence[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    format: str | None = None,
) -> Path:
    """Encode ``frames`` (n, H, W, 3) uint8 RGB; the suffix of ``path`` chooses the container.

    Args:
        gop: largest distance of keyframes.
        bframes: most B-frames in a row, for codecs that have them.
        timestamps: when each frame is shown, in ms, for a variable frame rate; instead of ``fps``.
        rotation: degrees anticlockwise that a player should turn the picture (mp4, mov).
        options: private options of the encoder, such as {"x264-params": "open-gop=1"}.
        format: the container, where the suffix does not say.
    """
    path = Path(path)
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(
            codec, rate=fps, options={"threads": "1", **_QUIET.get(codec, {}), **(options or {})}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = _PIXEL_FORMATS.get(codec, "yuv420p")
        stream.gop_size = gop
        stream.max_b_frames = bframes
        if timestamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            if timestamps is not None:
                frame.pts, frame.time_base = timestamps[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if codec == "libsvtav1" and hasattr(os, "sched_setscheduler"):
        # As root SVT-AV1 gives the whole process a real-time priority. The process would
        # keep it, and so would its children: other tests would get no time on that core.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def decode_all(path: str | Path) -> list[np.ndarray]:
    """Every frame as plain sequential decoding gives it, turned upright."""
    with av.open(str(path), **LENIENT) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        return [
            np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            for frame in container.decode(stream)
        ]


def rewrite(
    source: str | Path, target: str | Path, keep: range | None = None, format: str | None = None
) -> Path:
    """Copy the packets of ``source`` (those at the positions ``keep``) without decoding them."""
    with av.open(str(source)) as old, av.open(str(target), "w", format=format) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        new.start_encoding()
        for position, packet in enumerate(p for p in old.demux(stream) if p.size):
            if keep is None or position in keep:
                packet.stream = copy
                new.mux(packet)
    return Path(target)


def lose_packets(source: str | Path, target: str | Path, lost: Sequence[int]) -> Path:
    """A copy of a video, of a codec without references such as mjpeg, with packets overwritten."""
    data = bytearray(Path(source).read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in lost:
        at = data.index(packets[number])
        data[at : at + len(packets[number])] = b"\0" * len(packets[number])
    Path(target).write_bytes(data)
    return Path(target)


def film(seed: int, scene: int = 0) -> np.ndarray:
    """A bright square on a curve before a drawn background, (24, 48, 64, 3)."""
    back = np.random.default_rng(100 + scene).integers(0, 180, (6, 8, 3))
    frames = np.repeat(back.repeat(8, 0).repeat(8, 1)[None], 24, 0)
    turn = np.linspace(0, 5, 24)[:, None] + np.random.default_rng(seed).uniform(0, 6, 2)
    places = ((1 + np.sin(turn)) * (18, 26)).astype(int)
    for frame, (y, x) in zip(frames, places, strict=True):
        frame[y : y + 12, x : x + 12] = 255
    return frames.astype(np.uint8)
