"""Curves of real recordings: equal to predictions of the parts, and the segments found in them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from smnet.checkpoints.header import read_header
from smnet.data.clips import Part
from smnet.data.loading.dataset import read_views
from smnet.data.loading.windows import Frames, WindowReader
from smnet.data.workers import prefetch
from smnet.errors import UserError
from smnet.inference.backends import Backend, open_backend, plan_views
from smnet.timeline import curves as curves_module
from smnet.timeline.curves import RecordingUse, score_recording, window_and_step
from smnet.timeline.run import make_timeline, settings
from tests.timeline.conftest import PARTS, TintBackend, recording


@pytest.mark.parametrize("variable", [False, True])
def test_scores_equal_those_of_the_part(network: Path, tmp_path: Path, variable: bool) -> None:
    """A window is what predict says of the part of the file."""
    path = str(recording(tmp_path / "film.mkv", variable=variable))
    backend = open_backend(network, "cpu")
    plan = plan_views(backend)
    found = score_recording(backend, plan, path, 1.0, 0.25, batch=3)
    for number in range(0, len(found.times), 7):
        middle = found.times[number]
        part = Part(middle - 0.5, middle + 0.5)
        views = read_views(path, plan, part=part).numpy()
        expected = backend.score(views[None])[0]
        np.testing.assert_allclose(found.scores[number], expected, atol=1e-6)


@pytest.mark.parametrize("variable", [False, True])
def test_borders_within_one_step(tmp_path: Path, variable: bool) -> None:
    path = str(recording(tmp_path / "film.mkv", variable=variable))
    chosen = settings(cast(Backend, TintBackend()), window=0.8, every=0.2)
    used = RecordingUse()
    found = score_recording(chosen.backend, chosen.plan, path, 0.8, 0.2, used=used)
    segments = make_timeline(found, chosen.rule).segments
    begin, truth = 0.0, []
    for label, seconds in PARTS:
        if label != "none":
            truth.append((label, begin, begin + seconds))
        begin += seconds
    assert [s.label for s in segments] == [label for label, _, _ in truth]
    for segment, (_, start, end) in zip(segments, truth, strict=True):
        assert segment.start == pytest.approx(start, abs=0.2 + 1e-6)
        assert segment.end == pytest.approx(end, abs=0.2 + 1e-6)
    assert found.duration == pytest.approx(13, abs=0.1)
    assert used.clips == len(found.times)
    assert used.seconds == pytest.approx(found.duration)
    assert "windows in" in str(used)


def test_lengths_of_windows(network: Path) -> None:
    spec = open_backend(network, "cpu").spec
    assert window_and_step(spec) == (1.0, 0.25)  # the training clips take a second
    assert window_and_step(spec, 3, 0.5) == (3, 0.5)
    assert spec.clip_seconds == 1.0


def test_training_states_the_length_of_its_clips(run: Path) -> None:
    """Clips of 8 to 11 frames at 25 frames per second."""
    assert read_header(run).spec.clip_seconds == pytest.approx(0.38, abs=0.07)


def test_a_recording_shorter_than_a_window(network: Path, tmp_path: Path) -> None:
    path = str(recording(tmp_path / "short.mp4", [("red", 0.5)]))
    backend = open_backend(network, "cpu")
    found = score_recording(backend, plan_views(backend), path, 2, 0.5)
    assert found.times.tolist() == pytest.approx([0.25])
    assert found.scores[0].argmax() == 2


def test_progress_reaches_the_end(network: Path, film: Path) -> None:
    backend = open_backend(network, "cpu")
    seen: list[tuple[float, float]] = []
    score_recording(
        *(backend, plan_views(backend), str(film), 2, 1),
        batch=2,
        progress=lambda done, duration: seen.append((done, duration)),
    )
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][1] == pytest.approx(13, abs=0.1)


def test_decoding_that_hangs_is_cut(
    network: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_backend(network, "cpu")
    release = threading.Event()

    def hang(self: WindowReader) -> Frames:
        release.wait(20)
        yield []

    monkeypatch.setattr(WindowReader, "decode", hang)
    monkeypatch.setattr(curves_module, "_CLOSING", 0.01)
    monkeypatch.setattr(prefetch, "_GRACE", 0.01)
    with pytest.raises(UserError, match=r"film\.mp4: "):
        score_recording(backend, plan_views(backend), str(film), 2, 1, timeout=0.1)
    release.set()
