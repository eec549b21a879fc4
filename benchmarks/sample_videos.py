"""Videos for measurements of decoding, encoded like those of common data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Kind:
    """A kind of video.

    Attributes:
        name: name of the row in the table.
        file: file name; its suffix chooses the container, without one it is a folder of JPEG files.
        size: width and height, pixels.
        frames, fps: number of frames and their rate.
        codec, gop, bframes, options: settings of the encoder; ``gop`` is the largest distance
            between keyframes.
    """

    name: str
    file: str
    size: tuple[int, int]
    frames: int
    fps: int
    codec: str = "libx264"
    gop: int = 250
    bframes: int = 0
    options: dict[str, str] = field(default_factory=dict)


_VP9 = {"cpu-used": "6", "deadline": "realtime", "crf": "33", "b": "0"}

KINDS = (
    Kind("H.264, GOP 250", "h264_long.mp4", (340, 256), 300, 30, bframes=3),
    Kind("H.264, GOP 12", "h264_short.mp4", (340, 256), 300, 30, gop=12, bframes=3),
    Kind("H.264 720p", "h264_hd.mp4", (1280, 720), 150, 30, bframes=3),
    Kind("HEVC, GOP 250", "hevc.mp4", (340, 256), 300, 30, "libx265", bframes=3),
    Kind("MPEG-4 avi, GOP 12", "mpeg4.avi", (320, 240), 180, 25, "mpeg4", 12),
    Kind("MPEG-4 avi, B-frames", "mpeg4_b.avi", (320, 240), 180, 25, "mpeg4", 250, 2),
    Kind("VP9 webm, one keyframe", "vp9.webm", (427, 240), 48, 12, "libvpx-vp9", options=_VP9),
    Kind("VP9 webm, GOP 60", "vp9_60.webm", (427, 240), 240, 24, "libvpx-vp9", 60, options=_VP9),
    Kind("JPEG folder", "frames", (427, 240), 48, 12, "jpeg"),
)


def make_videos(folder: Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """Write a video of each kind, or of those in ``names``; returns {name: path}."""
    made = {}
    for kind in KINDS:
        if names and kind.name not in names:
            continue
        path = folder / kind.file
        write = _write_folder if kind.codec == "jpeg" else _write_video
        write(path, kind)
        made[kind.name] = path
    return made


def draw(kind: Kind) -> Iterator[NDArray[np.uint8]]:
    """A camera pans over a scene while an object crosses it, with the noise of a sensor.

    The scene has the spectrum of photographs (amplitude falling with frequency), so that a file is
    about as large, and as much work to decode, as one of a camera.
    """
    rng = np.random.default_rng(0)
    width, height = kind.size
    scene = _scene(rng, height + height // 4, width + width // 4)
    thing = 255 - _scene(rng, height // 3, height // 3)
    for number in range(kind.frames):
        seconds = number / kind.fps
        y = round((0.5 + 0.5 * np.sin(0.9 * seconds)) * (scene.shape[0] - height))
        x = round((0.5 + 0.5 * np.cos(0.6 * seconds)) * (scene.shape[1] - width))
        frame = scene[y : y + height, x : x + width].copy()
        side = thing.shape[0]
        left = round((0.5 + 0.5 * np.sin(1.7 * seconds)) * (width - side))
        top = round((0.5 + 0.5 * np.cos(2.3 * seconds)) * (height - side))
        frame[top : top + side, left : left + side] = thing
        noise = rng.normal(0, 2, (height, width, 1))
        yield np.clip(frame + noise, 0, 255).astype(np.uint8)


def _scene(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    across, down = np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height))
    falling = 1 / np.maximum(np.hypot(across, down), 1 / max(height, width)) ** 1.2
    planes = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * rng.random(falling.shape))
        plane = np.fft.irfft2(falling * phases, s=(height, width))
        planes.append(128 + 50 * (plane - plane.mean()) / plane.std())
    return np.stack(planes, axis=-1)


def _write_video(path: Path, kind: Kind) -> None:
    quiet = {"x265-params": "log-level=none"} if kind.codec == "libx265" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=kind.fps, options={**quiet, **kind.options})
        stream.width, stream.height = kind.size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = kind.gop
        stream.max_b_frames = kind.bframes
        if kind.codec == "mpeg4":
            stream.bit_rate = 1_000_000
        for array in draw(kind):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))


def _write_folder(path: Path, kind: Kind) -> None:
    path.mkdir()
    for number, array in enumerate(draw(kind), start=1):
        Image.fromarray(array).save(path / f"{number:05d}.jpg", quality=87)
