"""Frames at a fixed rate: by time, wherever they lie, and as a live stream takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smnet.data.loading.views import ViewPlan, read_views
from smnet.data.sampling.rate import sample_at_rate
from smnet.errors import UserError
from smnet.live.clock import Ticks
from tests.videos import decode_all, moving_frames, write_video


@pytest.mark.parametrize("fps", [10.0, 25.0, 30.0])
def test_the_middle_of_the_video_in_a_test(fps: float) -> None:
    times = np.arange(round(10 * fps)) / fps
    (found,) = sample_at_rate(times, 5, 2.0)
    taken = times[found]
    np.testing.assert_allclose(np.diff(taken), 0.5, atol=1 / fps)
    assert abs((taken[0] + taken[-1]) / 2 - 5) < 1.5 / fps


def test_clips_are_spread() -> None:
    times = np.arange(100) / 10
    found = sample_at_rate(times, 3, 1.0, clips=3)
    assert times[found[:, 0]].tolist() == pytest.approx([0, 3.95, 7.9], abs=0.1)


def test_training_draws_any_start() -> None:
    times = np.arange(100) / 10
    rng = np.random.default_rng(0)
    starts = times[[sample_at_rate(times, 3, 1.0, rng=rng)[0, 0] for _ in range(300)]]
    assert starts.min() < 0.5
    assert starts.max() > 7.4


def test_a_short_video_is_wrapped_around() -> None:
    (found,) = sample_at_rate(np.arange(4) / 10, 8, 10.0)
    assert found.tolist() == [0, 1, 2, 3] * 2


def test_consecutive_frames_of_a_segment() -> None:
    (found,) = sample_at_rate(np.arange(50) / 10, 2, 1.0, frames_per_segment=3)
    first, second = found.reshape(2, 3)
    assert (np.diff(first) == 1).all()
    assert second[0] - first[0] == 10


def test_a_variable_rate_is_sampled_as_a_stream_samples_it() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.02, 0.12, 200))
    times = np.append(times - times[0], 15.0)  # the clip fills the video
    ticks = Ticks(5.0)
    stream = [k for k, t in enumerate(times) for _ in range(ticks.serve(t) or 0)]
    (found,) = sample_at_rate(times, 76, 5.0)
    assert found.tolist() == stream


def test_views_of_a_file_and_of_frames_in_memory(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", moving_frames(41, 32, 32), fps=10)
    plan = ViewPlan(segments=5, rate=1.0, size=32, short_side=32, scaler="pillow")
    views = read_views(str(film), plan)
    frames = np.stack(decode_all(film))
    assert np.array_equal(views[0], np.moveaxis(frames[::10], -1, 1))
    again = read_views(np.ascontiguousarray(frames[::10]), plan)  # these are at the rate
    assert np.array_equal(again, views)


def test_a_folder_of_frames_has_no_times(tmp_path: Path) -> None:
    from PIL import Image

    for number, frame in enumerate(moving_frames(6, 32, 32)):
        Image.fromarray(frame).save(tmp_path / f"{number:03}.png")
    plan = ViewPlan(segments=2, rate=1.0, size=32, short_side=32)
    with pytest.raises(UserError, match="have no times"):
        read_views(str(tmp_path), plan)
