"""simplejpeg stands in for Pillow: the same pixels, or it leaves the file to Pillow."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smnet.data.open import open_video
from smnet.data.video import jpeg
from smnet.data.video.jpeg import decode_jpeg
from smnet.errors import UserError
from tests.videos import moving_frames

pytest.importorskip("simplejpeg")

FRAMES = moving_frames(6, 49, 35)


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(FRAMES[0]).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def as_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_pixels_of_pillow(mode: str, subsampling: str, progressive: bool) -> None:
    for quality in (20, 75, 98):
        data = encoded(mode, quality=quality, subsampling=subsampling, progressive=progressive)
        frame = decode_jpeg(data, (49, 35))
        assert frame is not None
        assert np.array_equal(frame, as_pillow(data))


def test_what_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded()
    assert decode_jpeg(data, (48, 35)) is None
    assert decode_jpeg(encoded("CMYK"), (49, 35)) is None
    assert decode_jpeg(b"GIF89a", (49, 35)) is None
    assert decode_jpeg(b"", (49, 35)) is None
    assert decode_jpeg(data[:-200], (49, 35)) is None
    monkeypatch.setattr(jpeg, "simplejpeg", lambda: None)
    assert decode_jpeg(data, (49, 35)) is None


def test_a_damaged_file_gives_the_pixels_of_pillow_or_nothing() -> None:
    sound, rng, read = encoded(quality=90), random.Random(0), 0
    for _ in range(300):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        frame = decode_jpeg(bytes(data), (49, 35))
        if frame is not None:
            read += 1
            assert np.array_equal(frame, as_pillow(bytes(data)))
    assert read > 30


@pytest.mark.parametrize("fast", [True, False])
def test_folders_of_frames(fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(jpeg, "simplejpeg", lambda: None)
        monkeypatch.setattr("smnet.data.video.frame_folder.simplejpeg", lambda: None)
    for number, frame in enumerate(FRAMES):
        mode = ("RGB", "L", "CMYK")[number % 3]
        Image.fromarray(frame).convert(mode).save(tmp_path / f"{number:05d}.jpg", quality=80)
    expected = [as_pillow((tmp_path / f"{number:05d}.jpg").read_bytes()) for number in range(6)]
    with open_video(tmp_path) as video:
        assert np.array_equal(video.read([5, 0, 1, 2, 3, 4, 0])[1:6], expected[:5])
        assert video.read([1], short_side=20).shape == (1, 20, 28, 3)
    Image.fromarray(FRAMES[0][:20]).save(tmp_path / "00003.jpg")
    (tmp_path / "00004.jpg").write_bytes(encoded()[:-300])
    with open_video(tmp_path) as video:
        with pytest.raises(UserError, match=r"00003.jpg: 49x20 pixels, but 00000.jpg has 49x35"):
            video.read([3])
        with pytest.raises(UserError, match=r"00004.jpg: a damaged image"):
            video.read([4])


def test_frames_are_read_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(FRAMES[0]).save(tmp_path / "00000.jpg")
    with open_video(tmp_path) as video:
        monkeypatch.setattr(Image, "open", None)
        assert video.read([0]).shape == (1, 35, 49, 3)
