"""Parts of videos: the frames with start <= t < end, from every kind of source."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnet.data.clips import Part
from smnet.data.open import open_video
from smnet.data.video.packets import PacketReader
from smnet.data.video.part import VideoPart
from smnet.data.video.pyav import VideoFile
from smnet.errors import UserError
from tests.videos import moving_frames, rewrite, write_video

FRAMES = moving_frames(40)
UNEVEN = np.cumsum([(17, 80, 40)[i % 3] for i in range(40)]).tolist()
KINDS: dict[str, dict[str, object]] = {
    "a.mp4": {"bframes": 3},
    "uneven.mkv": {"timestamps": UNEVEN, "bframes": 2},
    "uneven.mp4": {"timestamps": UNEVEN},
    "a.ts": {"bframes": 2},
    "b.avi": {"codec": "mpeg4", "bframes": 2},
    "open.mp4": {"bframes": 3, "options": {"x264-params": "open-gop=1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "a.gif": {"codec": "gif", "fps": 20},
}


@pytest.fixture(scope="module", params=KINDS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / request.param
    return write_video(path, FRAMES, **KINDS[request.param])  # type: ignore[arg-type]


@pytest.mark.parametrize("part", [Part(0.3, 0.9), Part(None, 0.5), Part(1.2), Part(0.52, 0.6)])
def test_frames_of_a_part_are_those_of_the_file(film: Path, part: Part) -> None:
    with open_video(film) as video:
        fps = video.fps
        assert fps is not None
        times = video.times or [i / fps for i in range(video.num_frames)]
        low, high = part.start or 0, 9e9 if part.end is None else part.end
        inside = [i for i, t in enumerate(times) if low <= t < high]
        expected = video.read(inside)
        whole = video.info
    with open_video(film, part=part) as video:
        assert video.num_frames == len(inside)
        assert np.array_equal(video.read(range(video.num_frames)), expected)
        assert np.array_equal(video.read([video.num_frames - 1])[0], expected[-1])
        info = video.info
        assert info.num_frames == len(inside)
        assert info.duration is not None
        assert whole.duration is not None
        end = times[inside[-1] + 1] if inside[-1] + 1 < len(times) else whole.duration
        assert info.duration == pytest.approx(end - times[inside[0]], abs=0.01)
        assert video.times is None or video.times[0] == 0


def test_adjacent_parts_share_no_frame_and_lose_none(film: Path) -> None:
    cuts = [None, 0.1, 0.4, 0.45, 1.0, None]
    counts = []
    for start, end in pairwise(cuts):
        with open_video(film, part=Part(start, end)) as video:
            counts.append(video.num_frames)
    assert sum(counts) == 40


def test_parts_in_frames(film: Path) -> None:
    with open_video(film) as video:
        expected = video.read(range(10, 15))
    with open_video(film, part=Part(10, 15, "frames")) as video:
        assert np.array_equal(video.read(range(5)), expected)


@pytest.mark.parametrize("part", [Part(99), Part(0.521, 0.522), Part(40, 50, "frames")])
def test_an_empty_part_is_an_error(part: Part, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES)
    with pytest.raises(UserError, match="no frame in the part") as caught:
        open_video(path, part=part)
    assert str(caught.value).startswith(f"{path}: ")


def test_parts_of_frames_without_a_rate(tmp_path: Path) -> None:
    for number, frame in enumerate(FRAMES[:6]):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    with open_video(tmp_path, part=Part(2, 4, "frames")) as video:
        assert np.array_equal(video.read([0, 1]), FRAMES[2:4])
        assert video.jpeg(0) is None
    with pytest.raises(UserError, match="these frames have no rate; give the column fps"):
        open_video(tmp_path, part=Part(0, 1))
    with open_video(FRAMES, part=Part(2, 4, "frames")) as video:
        assert np.array_equal(video.read([0, 1]), FRAMES[2:4])


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3000 frames (2 min) with B-frames and a keyframe each second."""
    frames = np.random.default_rng(0).integers(0, 255, (3000, 16, 16, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("hour") / "hour.mp4"
    return write_video(path, frames, gop=25, bframes=2, options={"preset": "ultrafast"})


@pytest.mark.parametrize("part", [Part(119), Part(0.5, 1), Part(60.02, 61.5), Part(119.9, 130)])
def test_only_the_packets_around_a_part_are_read(hour: Path, part: Part) -> None:
    video = VideoFile(str(hour), None, part)
    assert len(video._packets.table) < 100
    with VideoPart(video, part) as of_part, open_video(hour) as whole:
        times = whole.times or []
        low, high = part.start or 0, part.end or 999
        inside = [i for i, t in enumerate(times) if low <= t < high]
        assert of_part.num_frames == len(inside)
        assert np.array_equal(of_part.read(range(len(inside))), whole.read(inside))
        assert (of_part.damage, of_part.missing) == (0, "")


def test_a_file_that_cannot_seek_is_read_from_its_beginning(
    hour: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(hour, part=Part(60, 60.5)) as video:
        expected = video.read(range(video.num_frames))
    monkeypatch.setattr(PacketReader, "_first_stamp", _no_stamps)
    with open_video(hour, part=Part(60, 60.5)) as video:
        assert np.array_equal(video.read(range(video.num_frames)), expected)


def _no_stamps(self: PacketReader) -> int:
    raise UserError("no time stamps")


def test_what_is_missing_elsewhere_does_not_mar_a_part(hour: Path, tmp_path: Path) -> None:
    """The end of the file is cut off; a part before it is whole."""
    rewrite(hour, tmp_path / "hour.mkv")
    data = (tmp_path / "hour.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    with open_video(tmp_path / "cut.mkv", part=Part(1, 2)) as video:
        video.read(range(25))
        assert video.damage == 0
    with open_video(tmp_path / "cut.mkv") as video:
        assert video.missing
