"""Copies among clips, on drawn films that are encoded anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Clip
from smnet.data.loading.cache import keep_clips
from smnet.data.loading.copies import (
    THUMBNAILS,
    copies,
    divisible,
    shared_copies,
    thumbnails,
    united,
)
from smnet.data.loading.dataset import ClipDataset, read_views
from smnet.data.loading.views import ViewPlan
from tests.videos import film, write_video


def grey(path: Path) -> NDArray[np.float32]:
    return thumbnails(read_views(str(path), THUMBNAILS)[None])[0]


def test_a_clip_that_is_encoded_anew_is_a_copy(tmp_path: Path) -> None:
    first, other = film(0), film(1)
    small = np.clip(first[:, ::2, ::2] * 0.9 + 20, 0, 255).astype(np.uint8)
    films = {"a": first, "small": small, "trimmed": first[1:], "same place": other}
    for name, frames in films.items():
        write_video(tmp_path / f"{name}.mp4", frames)
    rows = np.stack([grey(tmp_path / f"{name}.mp4") for name in films])
    assert copies(rows) == [(0, 1), (0, 2), (1, 2)]


def test_still_clips_are_compared_by_their_picture() -> None:
    rng = np.random.default_rng(0)
    still = np.repeat(rng.uniform(0, 255, (3, 1, 256)), 8, 1).astype(np.float32)
    still[1] = still[0] + 1
    assert copies(still) == [(0, 1)]
    assert copies(np.zeros_like(still)) == []  # black clips show nothing
    still[1] = np.nan
    assert copies(still) == []


def test_groups_of_copies_are_united() -> None:
    groups = ["x", "x", None, None, "y"]
    clips = [Clip(str(i), 0, "", group=group) for i, group in enumerate(groups)]
    found = [clip.group for clip in united(clips, [(1, 2), (2, 4)])]
    assert found == ["x", "x", "x", None, "x"]


def test_a_class_of_one_group_cannot_be_divided() -> None:
    clips = [Clip(str(i), i % 2, "", group=group) for i, group in enumerate("xxyx")]
    assert not divisible(clips)
    assert divisible([*clips, Clip("4", 1, "", group="y")])


def test_validation_clips_that_look_like_training_clips_are_counted(tmp_path: Path) -> None:
    films = [film(0), film(1), film(0)[:, ::2, ::2], film(2), film(1)[1:]]
    paths = [str(write_video(tmp_path / f"{k}.mp4", frames)) for k, frames in enumerate(films)]
    clips = [Clip(path, 0, path) for path in paths]
    plan = ViewPlan(size=16, short_side=20, segments=2, validation=True)
    train = ClipDataset(clips[:2], replace(plan, train=True, validation=False))
    val = ClipDataset(clips[2:], plan)
    assert shared_copies(train, val) == 0  # none is in memory
    keep_clips([train, val], workers=0)
    assert shared_copies(train, val) == 2
