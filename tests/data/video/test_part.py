"""Parts of videos: the frames with start <= t < end, from every kind of source."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnet.data.clips import Part
from smnet.data.open import open_video
from smnet.errors import UserError
from tests.videos import moving_frames, write_video

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
        assert info.duration == pytest.approx(end - times[inside[0]], abs=1e-3)
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
