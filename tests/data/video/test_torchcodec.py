"""TorchCodec as the decoder: the same frames as ours, or a word why not."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.data.loading.views import ViewPlan, read_views
from smnet.data.open import open_video
from smnet.data.video import torchcodec as torchcodec_file
from smnet.errors import UserError
from tests.videos import moving_frames, write_video

FRAMES = moving_frames(30)
VP9 = {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}
UNEVEN = np.cumsum(np.random.default_rng(1).integers(10, 90, len(FRAMES))).tolist()


def loads() -> bool:
    try:
        torchcodec_file.library()
    except UserError:
        return False
    return True


needs_torchcodec = pytest.mark.skipif(not loads(), reason="TorchCodec does not load here")


@needs_torchcodec
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.mp4", {"bframes": 3}),
        ("a.mp4", {"bframes": 2, "timestamps": UNEVEN}),
        ("a.mkv", {"bframes": 3, "gop": 250}),
        ("a.mov", {"rotation": 90}),
        ("a.mp4", {"rotation": 180}),
        ("a.webm", VP9),
        ("a.mkv", {"codec": "libx265", "bframes": 3}),
    ],
)
def test_the_same_frames(name: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    path = write_video(tmp_path / name, FRAMES, **arguments)
    with open_video(path) as ours, open_video(path, decoder="torchcodec") as theirs:
        assert theirs.info == ours.info
        for indices in ([0], [29, 3, 3, 17], range(30)):
            assert np.array_equal(theirs.read(indices), ours.read(indices))
        assert theirs.damage == 0


@needs_torchcodec
def test_scaled_frames_and_views(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_frames(12, 160, 120))
    with open_video(path) as ours, open_video(path, decoder="torchcodec") as theirs:
        small = theirs.read([1, 5], short_side=60)
        assert small.shape == (2, 60, 80, 3)
        assert np.abs(small.astype(int) - ours.read([1, 5], short_side=60)).mean() < 8
    plan = ViewPlan(segments=3)
    other = ViewPlan(segments=3, decoder="torchcodec")
    assert np.array_equal(read_views(str(path), plan), read_views(str(path), other))


@needs_torchcodec
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.avi", {"codec": "mpeg4", "bframes": 2}),
        ("a.ts", {"bframes": 2}),
        ("a.mp4", {"options": {"x264-params": "interlaced=1"}}),
    ],
)
def test_kinds_it_reads_otherwise_are_refused(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    path = write_video(tmp_path / name, FRAMES, **arguments)
    with pytest.raises(UserError, match="with decoder pyav"):
        open_video(path, decoder="torchcodec")


@needs_torchcodec
def test_what_it_cannot_decode_is_one_line(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES)
    with pytest.raises(UserError, match=r"a\.mp4: TorchCodec does not decode it"):
        open_video(path, decoder="torchcodec:nowhere")
    data = bytearray(path.read_bytes())
    data[600 : len(data) - 3000] = bytes(len(data) - 3600)
    path.write_bytes(data)
    with pytest.raises(UserError) as caught, open_video(path, decoder="torchcodec") as video:
        video.read(range(video.num_frames))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@needs_torchcodec
def test_after_closing(tmp_path: Path) -> None:
    with open_video(write_video(tmp_path / "a.mp4", FRAMES), decoder="torchcodec") as video:
        video.read([3])
    with pytest.raises(UserError, match="is closed"):
        video.read([3])


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_where_it_does_not_load(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES[:4])
    plain = builtins.__import__

    def fail(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("torchcodec"):
            raise error("libavutil.so.58: cannot open\nand so on")
        return plain(name, *rest, **more)

    torchcodec_file.library.cache_clear()
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UserError) as caught:
        open_video(path, decoder="torchcodec")
    assert "smnet-video[gpu-decode]" in str(caught.value)
    assert "FFmpeg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_decoder_that_there_is_not(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES[:4])
    with pytest.raises(UserError, match="no decoder 'decord'; there are: pyav, torchcodec"):
        open_video(path, decoder="decord")
