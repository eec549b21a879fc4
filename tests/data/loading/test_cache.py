"""Kept clips give the views of their files, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smnet.data.clips import Clip
from smnet.data.loading import cache as cache_module
from smnet.data.loading.cache import keep_clips
from smnet.data.loading.dataset import ClipDataset
from smnet.data.loading.views import ViewPlan
from tests.videos import lose_packets, moving_frames, write_video

TRAIN = ViewPlan(segments=3, size=16, short_side=20, train=True, mirror=(0, 1))
PLANS = {
    "train": TRAIN,
    "scaled first": replace(TRAIN, scale_first=True),
    "dense": replace(TRAIN, scale_first=True, sampling="dense", frames_per_segment=2),
    "validation": ViewPlan(segments=3, size=16, short_side=20, validation=True),
    "at a rate": replace(TRAIN, scale_first=True, rate=6.0, frames_per_segment=2),
    "validation at a rate": ViewPlan(segments=3, size=16, short_side=20, validation=True, rate=6.0),
    "larger than the frames": replace(TRAIN, scale_first=True, size=60, short_side=64),
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Two files of different sizes, one at a variable frame rate, and a part of the other."""
    folder = tmp_path_factory.mktemp("videos")
    wide = str(write_video(folder / "wide.mp4", moving_frames(14, 64, 48)))
    stamps = [40 * k + 15 * (k % 3) for k in range(40)]
    tall = str(
        write_video(folder / "tall.mkv", moving_frames(40, 32, 52, seed=1), timestamps=stamps)
    )
    return [Clip(wide, 0, wide), Clip(tall, 1, tall), Clip(wide, 1, "a.csv:3", start=0.2, end=0.4)]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_views_are_equal(listed: list[Clip], plan: ViewPlan) -> None:
    plain, kept = ClipDataset(listed, plan, seed=5), ClipDataset(listed, plan, seed=5)
    count, size = keep_clips([kept], workers=0)
    assert count == len(kept.kept) == 3
    assert size == sum(video.frames.nbytes for video in kept.kept.values())
    for epoch in (0, 1):
        for index in range(3):
            one, other = plain[epoch, index], kept[epoch, index]
            assert one.views is not None
            assert other.views is not None
            assert torch.equal(one.views, other.views)
            assert one.label == other.label
    if plan.scale_first and plan.short_side == 20:
        assert [video.frames.shape[1:3] for video in kept.kept.values()] == [
            (20, 27),
            (32, 20),
            (20, 27),
        ]


def test_workers_keep_the_same_frames(listed: list[Clip]) -> None:
    one, two = ClipDataset(listed, TRAIN), ClipDataset(listed, TRAIN)
    seen: list[tuple[int, int]] = []
    keep_clips([one], workers=0)
    keep_clips([two], workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for k in range(3):
        assert (one.kept[k].frames == two.kept[k].frames).all()
        assert one.kept[k].times == two.kept[k].times


def test_memory_is_bounded(listed: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ClipDataset(listed, replace(TRAIN, scale_first=True))
    first = 14 * 20 * 27 * 3
    monkeypatch.setattr(cache_module, "available_memory", lambda: 4 * (first + 1000))
    assert keep_clips([dataset], workers=0) == (1, first)
    assert dataset[0, 1].views is not None


def test_damaged_and_missing_clips_are_read_from_their_files(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", moving_frames(30), gop=6)
    damaged = str(lose_packets(film, tmp_path / "damaged.mp4", [8, 9]))
    gone = str(tmp_path / "gone.mp4")
    dataset = ClipDataset([Clip(damaged, 0, damaged), Clip(gone, 0, gone)], TRAIN)
    assert keep_clips([dataset], workers=0) == (0, 0)
    assert dataset[0, 0].views is not None
    assert "no such file" in dataset[0, 1].problem
