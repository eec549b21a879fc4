"""Clips as tensors, and the order they come in."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smnet.data.annotations.read import Clip
from smnet.data.loading import dataset as dataset_module
from smnet.data.loading.dataset import (
    ClipDataset,
    TestBatches,
    TrainBatches,
    ViewPlan,
    read_views,
)
from smnet.data.loading.loader import ClipLoader
from smnet.data.loading.views import Damage
from smnet.data.open import open_video
from smnet.data.sampling.rules import sample
from smnet.errors import UserError
from tests.videos import lose_packets, moving_frames, write_video

TRAIN = ViewPlan(segments=3, size=16, short_side=20, train=True, mirror=(1, 0, 2))
TEST = ViewPlan(segments=3, size=16, short_side=20)

LENGTHS = st.integers(1, 60)
WORLDS = st.integers(1, 5)


# --- Modes.


def test_what_the_sampling_rule_is_asked_for(tmp_path: Path) -> None:
    """TSN's validation freezes a short video that its test spreads."""
    film = write_video(tmp_path / "short.mp4", moving_frames(3, 24, 20))
    plan = replace(TEST, sampling="tsn", segments=3)
    assert (TRAIN.mode, TEST.mode) == ("train", "test")
    tested = read_views(str(film), plan)
    checked = read_views(str(film), replace(plan, validation=True))
    assert not torch.equal(tested[0, 0], tested[0, 2])
    assert torch.equal(checked, tested[:, :1].expand(-1, 3, -1, -1, -1))


# --- The order of keys.


@given(length=LENGTHS, batch=st.integers(1, 9), world=WORLDS)
def test_in_tests_every_clip_exactly_once(length: int, batch: int, world: int) -> None:
    keys = []
    for rank in range(world):
        batches = TestBatches(length, batch, rank, world)
        mine = list(batches)
        assert len(mine) == len(batches)
        assert all(1 <= len(b) <= batch for b in mine)
        # what score_clips gathers by
        assert [i for b in mine for _, i in b] == list(range(rank, length, world))
        keys += [key for b in mine for key in b]
    assert sorted(keys) == [(0, i) for i in range(length)]


@given(length=LENGTHS, batch=st.integers(1, 9), world=WORLDS, epoch=st.integers(0, 99))
def test_in_training_no_clip_twice_and_few_left_out(
    length: int, batch: int, world: int, epoch: int
) -> None:
    if length < world:
        with pytest.raises(UserError, match="start fewer processes"):
            TrainBatches(length, batch, 7, 0, world)
        return
    ranks = [TrainBatches(length, batch, 7, rank, world) for rank in range(world)]
    for one in ranks:
        one.set(epoch)
    mine = [list(one) for one in ranks]
    assert {len(batches) for batches in mine} == {len(ranks[0])}
    keys = [key for batches in mine for b in batches for key in b]
    assert len(set(keys)) == len(keys)
    assert {e for e, _ in keys} == {epoch}
    step = batch * world
    assert len(keys) == (length // step * step or length)
    if length >= step:
        assert all(len(b) == batch for batches in mine for b in batches)


@given(length=LENGTHS, batch=st.integers(1, 9), start=st.integers(0, 10))
def test_beginning_inside_an_epoch(length: int, batch: int, start: int) -> None:
    whole, rest = TrainBatches(length, batch, 7), TrainBatches(length, batch, 7)
    whole.set(3)
    rest.set(3, start)
    assert list(rest) == list(whole)[start:]
    assert len(rest) == len(whole)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = TrainBatches(40, 4, seed)
        batches.set(epoch)
        return [i for b in batches for _, i in b]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != order(2, 1)
    assert order(1, 2) != sorted(order(1, 2))


def test_the_same_global_batches_on_any_number_of_processes() -> None:
    def together(batch: int, world: int) -> list[set[int]]:
        ranks = [list(TrainBatches(40, batch, 5, rank, world)) for rank in range(world)]
        return [{i for part in parts for _, i in part} for parts in zip(*ranks, strict=True)]

    assert together(8, 1) == together(4, 2) == together(2, 4)


def test_every_clip_is_met_over_the_epochs() -> None:
    met = set()
    batches = TrainBatches(10, 4, 0)  # two clips are left out of every epoch
    for epoch in range(10):
        batches.set(epoch)
        met |= {i for b in batches for _, i in b}
    assert met == set(range(10))


# --- Samples.


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = moving_frames(24, 40, 30)
    return write_video(tmp_path_factory.mktemp("movie") / "a.mp4", frames, bframes=2)


def test_shapes_of_views(movie: Path) -> None:
    assert TRAIN.views == 1
    plan = replace(TEST, clips=2, crops=3)
    assert plan.views == 6
    assert read_views(str(movie), plan).shape == (6, 3, 3, 20, 20)
    assert read_views(str(movie), TEST).shape == (1, 3, 3, 16, 16)
    five = replace(TEST, frames_per_segment=5)
    assert read_views(str(movie), five).shape == (1, 15, 3, 16, 16)
    assert read_views(str(movie), TRAIN, np.random.default_rng(0)).shape == (1, 3, 3, 16, 16)
    with pytest.raises(ValueError, match="needs an rng"):
        read_views(str(movie), TRAIN)


def test_views_are_clips_by_crops_of_the_sampled_frames(movie: Path) -> None:
    """Clip k, crop c is view k * crops + c, its frames those that the strategy names."""
    plan = replace(TEST, clips=4, crops=3, short_side=30, size=30)
    views = read_views(str(movie), plan).unflatten(0, (4, 3))
    indices = sample(24, 3, mode="test", strategy="uniform", clips=4)
    with open_video(str(movie)) as video:
        frames = torch.from_numpy(video.read(indices.ravel())).permute(0, 3, 1, 2)
    frames = frames.unflatten(0, (4, 3))
    for crop, left in enumerate((0, 5, 10)):
        assert torch.equal(views[:, crop], frames[..., left : left + 30])


def test_test_views_repeat_themselves(movie: Path) -> None:
    for strategy in ("uniform", "dense", "tsn-random"):  # the last draws at random in tests too
        plan = replace(TEST, sampling=strategy)
        assert torch.equal(read_views(str(movie), plan), read_views(str(movie), plan))


def clip_list(movie: Path) -> list[Clip]:
    return [Clip(str(movie), label, f"list.csv:{label + 2}") for label in range(3)]


def test_a_sample_is_a_function_of_seed_epoch_and_index(movie: Path) -> None:
    clips = clip_list(movie)
    one, again = ClipDataset(clips, TRAIN, 1)[(4, 0)], ClipDataset(clips, TRAIN, 1)[(4, 0)]
    assert one.views is not None
    assert again.views is not None
    assert torch.equal(one.views, again.views)
    seen = {
        ClipDataset(clips, TRAIN, seed)[(epoch, index)].views.float().sum().item()  # type: ignore[union-attr]
        for seed in (1, 2)
        for epoch in (0, 1)
        for index in (0, 1)
    }
    assert len(seen) == 8


def test_the_mirror_swaps_the_label(movie: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[bool] = []
    really = dataset_module.read_views

    def watch(path: str, plan: ViewPlan, rng: object, mirror: bool, *rest: object) -> torch.Tensor:
        turned.append(mirror)
        return really(path, plan, rng, mirror, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset_module, "read_views", watch)
    data = ClipDataset(clip_list(movie), TRAIN)
    for index, partner in enumerate((1, 0, 2)):
        turned.clear()
        labels = [data[(epoch, index)].label for epoch in range(40)]
        assert labels == [partner if mirror else index for mirror in turned]
        assert 8 < sum(turned) < 32


@pytest.mark.parametrize("plan", [replace(TRAIN, mirror=None), replace(TEST, mirror=(1, 0, 2))])
def test_no_mirror_where_it_is_off_or_in_tests(movie: Path, plan: ViewPlan) -> None:
    data = ClipDataset(clip_list(movie), replace(plan, crop="centre"))
    assert [data[(epoch, 0)].label for epoch in range(20)] == [0] * 20
    (one,) = {tuple(data[(epoch, 0)].views.shape) for epoch in range(5)}  # type: ignore[union-attr]
    assert one == (1, 3, 3, 16, 16)


def test_a_clip_that_cannot_be_read_says_where_it_was_listed(movie: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a film")
    clips = [*clip_list(movie), Clip(str(broken), 1, "list.csv:9")]
    data = ClipDataset(clips, TEST)
    sample_ = data[(0, 3)]
    assert sample_.views is None
    assert sample_.problem.startswith(f"list.csv:9: {broken}: ")
    (batch,) = ClipLoader(data, TestBatches(4, 4), workers=0)
    assert batch.indices.tolist() == [0, 1, 2]
    assert batch.views.shape == (3, 1, 3, 3, 16, 16)
    assert [index for index, _ in batch.problems] == [3]
    (nothing,) = ClipLoader(ClipDataset(clips[3:], TEST), TestBatches(1, 1), workers=0)
    assert len(nothing.labels) == len(nothing.indices) == len(nothing.views) == 0


def test_what_a_damaged_clip_lacks_is_said(tmp_path: Path) -> None:
    sound = write_video(tmp_path / "sound.avi", moving_frames(8, 24, 24), codec="mjpeg")
    hurt = lose_packets(sound, tmp_path / "hurt.avi", range(2, 7))
    damage = Damage()
    read_views(str(sound), TEST, damage=damage)
    assert damage.count == 0
    read_views(str(hurt), TEST, damage=damage)
    assert damage.count > 0
    rows = [Clip(str(path), 0, f"list.csv:{k}") for k, path in enumerate((sound, hurt, sound))]
    (batch,) = ClipLoader(ClipDataset(rows, TEST), TestBatches(3, 3), workers=0)
    assert batch.indices.tolist() == [0, 1, 2]
    ((index, said),) = batch.damaged
    assert index == 1
    assert said == f"list.csv:1: {hurt}: {damage}"


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for number, frame in enumerate(moving_frames(6, 24, 24), 1):
        Image.fromarray(frame).save(tmp_path / f"img_{number:05}.png")
    views = read_views(str(tmp_path), TEST, template="img_%05d.png", num_frames=6)
    assert torch.equal(views, read_views(str(tmp_path), TEST))
    few = replace(TEST, segments=2)
    assert torch.equal(
        read_views(str(tmp_path), few, num_frames=4)[0, 1],
        read_views(str(tmp_path), replace(TEST, segments=6))[0, sample(4, 2, mode="test")[0, 1]],
    )
    with pytest.raises(UserError, match="the annotation says 7 frames, it has 6"):
        read_views(str(tmp_path), TEST, num_frames=7)


def test_an_epoch_balanced_by_class() -> None:
    labels = [0] * 10 + [1] * 3 + [2]
    batches = TrainBatches(14, 2, seed=5, labels=labels)
    epochs = []
    for epoch in (0, 1):
        batches.set(epoch)
        keys = [key for batch in batches for key in batch]
        counts = Counter(labels[index] for _, index in keys)
        assert sorted(counts.values()) == [4, 5, 5]
        assert len(set(keys)) == 14, "a repeated clip is another view"
        assert {index for _, index in keys} >= {10, 11, 12, 13}
        epochs.append(keys)
    assert not {draw for draw, _ in epochs[0]} & {draw for draw, _ in epochs[1]}
    batches.set(1, 3)
    assert [key for batch in batches for key in batch] == epochs[1][6:]
    ranks = [TrainBatches(14, 1, 5, rank, 2, labels) for rank in (0, 1)]
    for rank in ranks:
        rank.set(1)
    together = [key for pair in zip(*ranks, strict=True) for batch in pair for key in batch]
    assert together == epochs[1]
