"""Truncated and damaged containers are reported, whole ones are not."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smnet.data.loading.views import Damage, ViewPlan, read_views
from smnet.data.open import open_video
from smnet.data.video.completeness import missing_part
from smnet.errors import UserError
from tests.videos import moving_frames, write_video

FRAMES = moving_frames(60)
KINDS: dict[str, dict[str, Any]] = {
    "a.webm": {"codec": "libvpx"},
    "b.mkv": {"bframes": 2},
    "c.mp4": {"options": {"movflags": "faststart"}},
    "d.avi": {"codec": "mpeg4"},
    "e.gif": {"codec": "gif"},
    "f.webp": {},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    for name, arguments in KINDS.items():
        if name.endswith("webp"):
            first, *others = [Image.fromarray(frame) for frame in FRAMES]
            first.save(folder / name, save_all=True, append_images=others, duration=40)
        else:
            write_video(folder / name, FRAMES, **arguments)
    return {name: (folder / name).read_bytes() for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file_lacks_nothing(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(whole[name])
    assert missing_part(str(path), thorough=True) == ""
    with open_video(path) as video:
        assert (video.num_frames, video.missing) == (len(FRAMES), "")
        video.read([0, 59])
        assert video.damage == 0
        video.read(range(60))
        assert video.damage == 0


@pytest.mark.parametrize("share", [0.35, 0.6, 0.95])
@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_file_is_reported_by_a_sampled_read(
    name: str, share: float, whole: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(whole[name][: int(share * len(whole[name]))])
    damage = Damage()
    try:
        read_views(str(path), ViewPlan(segments=2, size=16, short_side=20), damage=damage)
    except UserError:
        return  # nothing readable is left, and that is said
    assert damage.count >= 1
    assert "missing" in str(damage)


def test_a_damaged_cluster_is_reported(whole: dict[str, bytes], tmp_path: Path) -> None:
    data = bytearray(whole["a.webm"])
    last = data.rindex(b"\x1f\x43\xb6\x75")
    data[last : last + 4] = b"\x1f\x43\xb6\x76"
    path = tmp_path / "a.webm"
    path.write_bytes(data)
    assert f"damaged at byte {last}" in missing_part(str(path))


def test_a_damaged_block_is_reported_by_a_full_read(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    data = bytearray(whole["a.webm"])
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "a.webm"
    path.write_bytes(data)
    with open_video(path) as video:
        assert video.num_frames < len(FRAMES)
        video.read(range(video.num_frames))
        assert video.damage > 0


def test_frames_lost_in_the_middle_of_an_avi_are_reported(
    whole: dict[str, bytes], tmp_path: Path
) -> None:
    data = bytearray(whole["d.avi"])
    middle = data.index(b"00dc", len(data) // 2)
    data[middle : middle + 2000] = bytes(2000)
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    with open_video(path) as video:
        assert "frames that its header declares" in video.missing


@pytest.mark.parametrize("name", KINDS)
def test_any_bytes_are_walked(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / name
    for _ in range(60):
        data = bytearray(whole[name][: rng.integers(4, 3000)])
        for at in rng.integers(4, max(len(data), 5), size=4):
            data[min(at, len(data) - 1)] = rng.integers(256)
        path.write_bytes(data)
        missing_part(str(path), thorough=True)


def test_animated_webp(whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"  # recognised by its content
    path.write_bytes(whole["f.webp"])
    with Image.open(path) as image, open_video(path) as video:
        for index in (3, 40, 59):
            image.seek(index)
            assert np.array_equal(video.read([index])[0], np.asarray(image.convert("RGB")))
        assert video.duration == pytest.approx(2.4)
        assert video.fps == pytest.approx(25)
    Image.fromarray(FRAMES[0]).save(tmp_path / "single.webp")
    with pytest.raises(UserError, match="not a video but a WebP picture"):
        open_video(tmp_path / "single.webp")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello world\n" * 50, "not a video but text"),
        ("déjà vu, ".encode() * 100, "not a video but text"),
        (b"\x1b[31mred\x1b[0m\r\n" * 50, "not a video but text"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nsubtitle\n\n" * 20, "not a video but text"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\na.ts\n", "not a video but a playlist"),
        (b"ffconcat version 1.0\nfile a.ts\n", "not a video but a playlist"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a video but a PNG picture"),
        (b"<html><body>404 not found</body></html>", "not a video but a web page"),
        (b"PK\x03\x04" + bytes(100), "not a video but a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (bytes(range(256)) * 4, "is not a video that FFmpeg can read"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.ans", "a"])
def test_what_is_no_video_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        open_video(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_thin_clip_costs_itself_only(tmp_path: Path) -> None:
    """Scaled to a short side of 256, a frame of 1x16384 would have 4 million columns."""
    rng = np.random.default_rng(0)
    first, *others = [
        Image.fromarray(rng.integers(0, 255, (16384, 1), dtype=np.uint8)) for _ in range(4)
    ]
    first.save(tmp_path / "thin.gif", save_all=True, append_images=others, duration=100)
    with pytest.raises(UserError, match=r"thin\.gif: frames of 1x16384 pixels are too narrow"):
        read_views(str(tmp_path / "thin.gif"), ViewPlan())


def test_views_of_large_frames_take_bounded_memory(tmp_path: Path) -> None:
    """80 frames of 1920x1080 are 500 MB; they are cropped before they are kept."""
    frames = np.repeat(moving_frames(2, 480, 270), 4, axis=1).repeat(4, axis=2)
    path = write_video(tmp_path / "a.mp4", frames, gop=1)
    plan = ViewPlan(clips=10, crops=3, size=56, short_side=64)
    tracemalloc.start()
    read_views(str(path), plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < np.prod(plan.shape) + 8 * frames[0].nbytes
