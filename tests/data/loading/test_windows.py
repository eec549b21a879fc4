"""Windows: where they lie, which frames they take, and that each frame is decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnet.data.loading import windows
from smnet.data.loading.views import ViewPlan, read_views
from smnet.data.loading.windows import (
    WindowReader,
    frame_times,
    recording_end,
    window_frames,
    window_starts,
)
from smnet.data.open import open_video
from smnet.errors import UserError
from tests.timeline.conftest import recording
from tests.videos import moving_frames, write_video

PLAN = ViewPlan(segments=3, size=24, short_side=24, scaler="pillow")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 13 seconds at 20 frames per second."""
    return recording(tmp_path_factory.mktemp("films") / "film.mp4")


def test_windows_begin_every_step_and_at_the_end() -> None:
    assert window_starts(10, 2, 3).tolist() == [0, 3, 6, 8]
    assert window_starts(8, 2, 3).tolist() == [0, 3, 6]
    assert window_starts(1, 2, 3).tolist() == [0]


@given(st.floats(0.1, 100), st.floats(0.1, 10), st.floats(0.05, 5))
def test_windows_cover_the_recording(duration: float, window: float, every: float) -> None:
    starts = window_starts(duration, window, every)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= every + 1e-6).all()
    assert starts[-1] + window >= duration - 1e-5


def test_a_frame_belongs_to_a_window_from_its_start_up_to_its_end() -> None:
    times = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    plan = ViewPlan(segments=2, size=8, short_side=8)
    assert window_frames(times, 0.5, 1.5, plan).tolist() == [[1, 2]]
    assert window_frames(times, 0.6, 0.9, plan).size == 0


def read_all(reader: WindowReader) -> dict[int, np.ndarray | None]:
    return {number: views for group in reader.decode() for number, views in reader.assemble(group)}


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("plan", [PLAN, ViewPlan(segments=2, size=16, short_side=20, crops=5)])
def test_views_equal_those_of_the_part(tmp_path: Path, variable: bool, plan: ViewPlan) -> None:
    path = recording(tmp_path / "film.mkv", variable=variable)
    plan = ViewPlan(**{**vars(plan), "scaler": "pillow"})
    with open_video(path) as video:
        times = frame_times(video)
        frames = video.read(range(video.num_frames))
        starts = window_starts(recording_end(times, video.fps), 1.0, 0.25)
        spans = np.stack([starts, starts + 1.0], axis=1)
        found = read_all(WindowReader(video, spans, plan))
    assert list(found) == list(range(len(starts)))
    for number in range(0, len(starts), 5):
        inside = [i for i, t in enumerate(times) if starts[number] <= t < starts[number] + 1.0]
        assert np.array_equal(found[number], read_views(frames[inside], plan))


def test_each_frame_is_decoded_once(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_video(film) as video:
        spans = np.stack([(starts := window_starts(13, 1.0, 0.1)), starts + 1], axis=1)
        reader = WindowReader(video, spans, PLAN)
        numbers = [number for group in reader.decode() for number, _ in group]
        assert len(numbers) == len(set(numbers)) > 200
        monkeypatch.setattr(windows, "_STRETCH", 10)
        several = read_all(WindowReader(video, spans, PLAN))
        monkeypatch.setattr(windows, "_STRETCH", 1000)
        whole = read_all(WindowReader(video, spans, PLAN))
    assert list(several) == list(whole)
    assert all(np.array_equal(several[k], whole[k]) for k in whole)


def test_few_windows_are_open_at_a_time(film: Path) -> None:
    with open_video(film) as video:
        spans = np.stack([(starts := window_starts(13, 1.0, 0.25)), starts + 1], axis=1)
        reader = WindowReader(video, spans, PLAN)
        most = 0
        for group in reader.decode():
            for frame in group:
                for _ in reader.assemble([frame]):
                    pass
                most = max(most, len(reader.windows._open))
    assert most <= 6


def test_a_window_without_frames_has_no_views(tmp_path: Path) -> None:
    path = write_video(tmp_path / "gap.mkv", moving_frames(4), timestamps=[0, 100, 5000, 5100])
    with open_video(path) as video:
        spans = np.array([[0.0, 1.0], [2.0, 3.0], [4.5, 5.5]])
        found = read_all(WindowReader(video, spans, PLAN))
    assert found[1] is None
    assert found[0] is not None
    assert found[2] is not None


def test_folders_of_frames_have_no_timeline(tmp_path: Path) -> None:
    from PIL import Image

    for number, frame in enumerate(moving_frames(3)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    with open_video(tmp_path) as video, pytest.raises(UserError, match="have no times"):
        frame_times(video)
