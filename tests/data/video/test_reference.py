"""Frames and durations against an independent decoder: the ``ffmpeg`` command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from smnet.data.open import open_video
from tests.videos import moving_frames

FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")
pytestmark = pytest.mark.skipif(
    FFMPEG is None or FFPROBE is None, reason="needs the ffmpeg command (apt install ffmpeg)"
)

SIZE = (96, 64)
FRAMES = moving_frames(50, *SIZE)
SOURCE = f"-f rawvideo -pix_fmt rgb24 -s {SIZE[0]}x{SIZE[1]} -r 25 -i -"
# name of the file: options of the encoder
KINDS = {
    "open-gop.mp4": "-c:v libx264 -g 12 -bf 3 -x264-params open-gop=1:b-adapt=0 -pix_fmt yuv420p",
    "b-frames.mkv": "-c:v libx264 -g 25 -bf 3 -pix_fmt yuv420p",
    "hevc.mp4": "-c:v libx265 -g 12 -bf 3 -x265-params log-level=none -pix_fmt yuv420p",
    "vp8.webm": "-c:v libvpx -g 20 -auto-alt-ref 1 -lag-in-frames 10 -deadline realtime",
    "vp9.webm": "-c:v libvpx-vp9 -g 20 -deadline realtime -cpu-used 8 -pix_fmt yuv420p",
    "av1.mp4": "-c:v libsvtav1 -preset 12 -g 20 -pix_fmt yuv420p",
    "mpeg4.avi": "-c:v mpeg4 -g 12 -bf 2",
    "xvid.avi": "-c:v libxvid -g 12 -bf 2",
    "mjpeg.avi": "-c:v mjpeg -pix_fmt yuvj420p -q:v 3",
    "a.gif": "-c:v gif",
    "variable.mp4": (
        "-vf select=not(eq(mod(n\\,7)\\,3)) -fps_mode vfr -c:v libx264 -bf 2 -pix_fmt yuv420p"
    ),
    "transport.ts": "-c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p",
}


def encode(path: Path, options: str) -> None:
    command = [str(FFMPEG), "-v", "error", "-y", *SOURCE.split(), *options.split(), str(path)]
    done = subprocess.run(command, input=FRAMES.tobytes(), capture_output=True, check=False)
    if b"Unknown encoder" in done.stderr:
        pytest.skip(f"this ffmpeg lacks the encoder: {options}")
    assert done.returncode == 0, done.stderr.decode()


def reference(path: Path) -> np.ndarray:
    """The luma of every frame; RGB depends on the version of the converter."""
    command = f"{FFMPEG} -v error -i {path} -fps_mode passthrough -f rawvideo -pix_fmt gray -"
    data = subprocess.run(command.split(), capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, SIZE[1], SIZE[0])


@pytest.mark.parametrize("name", KINDS)
def test_frames_and_duration_are_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    encode(path, KINDS[name])
    expected = reference(path)
    rng = np.random.default_rng(0)
    with open_video(path) as video:
        assert video.num_frames == len(expected)
        wanted = [*rng.permutation(len(expected))[:9], len(expected) - 1, 0]
        weights = np.array([0.299, 0.587, 0.114])
        frames = video.read(wanted) @ weights
        # Every source frame differs from its neighbours by more than the conversion of colours.
        distance = np.abs(
            (frames[:, None] - frames.mean((1, 2))[:, None, None, None])
            - (expected - expected.mean((1, 2))[:, None, None])[None]
        ).mean((2, 3))
        assert distance.argmin(1).tolist() == [int(index) for index in wanted]
        duration, info = video.duration, video.info
    probe = f"{FFPROBE} -v error -select_streams v -show_entries frame=pts_time -of csv=p=0 {path}"
    shown = subprocess.run(probe.split(), capture_output=True, text=True, check=True).stdout
    times = [float(t.strip(",")) for t in shown.split() if t.strip(",") not in ("", "N/A")]
    if len(set(times)) == len(expected):
        span = max(times) - min(times)
        assert duration == pytest.approx(span * len(times) / (len(times) - 1), abs=0.02)
    assert info.fps == pytest.approx(len(expected) / (duration or 1), rel=0.03)
