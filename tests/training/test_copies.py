"""Clips that look alike stay on one side of every draw, in all verbs that draw."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnet.adapt.run import adapt
from smnet.checkpoints.file import read_checkpoint
from smnet.data.annotations.groups import name_below
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.clips import ClipSet
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.experiments.folds import cross_validate
from smnet.recipes.recipe import Recipe
from smnet.training import copies
from smnet.training.copies import keep_copies_together
from smnet.training.loop import train
from smnet.training.setup import read_training_clips, stored_recipe
from tests.conftest import tiny
from tests.videos import film, write_video

TRIMMED = {"a": 3, "b": 2}
"""The clips of each class that have a copy, which is smaller and one frame shorter."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five clips, and copies of some of these under other names."""
    root = tmp_path_factory.mktemp("copies") / "clips"
    words = iter(["ash", "elm", "fir", "oak", "yew", "bay", "box", "fig", "gum", "nut"])
    for seed, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for k in range(5):
            frames = film(10 * seed + k, scene=10 * seed + k)
            word = next(words)
            write_video(root / name / f"{word}.mp4", frames)
            if k < TRIMMED[name]:
                write_video(root / name / f"{word}-small.mp4", frames[1:, ::2, ::2])
    return root


def divided(clips: ClipSet) -> list[str]:
    """Words whose clips are on both sides."""
    sides = [
        {Path(clip.path).stem.removesuffix("-small") for clip in clips.splits[split]}
        for split in ("train", "val")
    ]
    return sorted(sides[0] & sides[1])


def recipe(folder: Path, **changes: Any) -> Recipe:
    return tiny(folder, **{"epochs": 1, "val_fraction": 0.4, "split_seed": 1, **changes})


def test_copies_are_found_and_stay_together(folder: Path) -> None:
    given = recipe(folder)
    plain = read_training_clips(given)
    assert divided(plain)  # without this the test shows nothing
    found, clips, line = keep_copies_together(given, plain)
    assert found.copies is not None
    sets = [{Path(name).stem for name in names} for names in found.copies]
    assert sets == [{w, f"{w}-small"} for w in ("ash", "elm", "fir", "bay", "box")]
    assert not divided(clips)
    assert line == "copies: 10 clips look like copies of others, and no draw divides them"
    assert "10 clips that look like copies are kept together" in clips.why
    assert keep_copies_together(found, clips) == (found, clips, "")  # they are looked for once


@pytest.mark.parametrize(
    "changes", [{"groups": "off"}, {"copies": ()}], ids=["groups off", "none by hand"]
)
def test_who_asks_for_no_groups_gets_none(folder: Path, changes: dict[str, Any]) -> None:
    given = recipe(folder, **changes)
    clips = read_training_clips(given)
    assert keep_copies_together(given, clips) == (given, clips, "")


def test_a_split_of_the_data_set_is_kept(clips: Path) -> None:
    given = tiny(clips)
    read = read_training_clips(given)
    assert keep_copies_together(given, read, look=lambda _: pytest.fail("looked")) == (
        given,
        read,
        "",
    )


def test_large_sets_are_not_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MOST", 14)
    given = recipe(folder)
    clips = read_training_clips(given)
    assert keep_copies_together(given, clips) == (given, clips, "")


def test_a_class_of_copies_alone_can_still_be_divided(folder: Path, tmp_path: Path) -> None:
    for name in ("ash", "ash-small"):
        (tmp_path / "a").mkdir(exist_ok=True)
        shutil.copy(folder / "a" / f"{name}.mp4", tmp_path / "a")
    shutil.copytree(folder / "b", tmp_path / "b")
    given = recipe(tmp_path)
    found, clips, line = keep_copies_together(given, read_training_clips(given))
    assert found.copies == ()
    assert "they stay apart" in line
    assert {clip.label for clip in clips.splits["val"]} == {0, 1}


def test_unreadable_clips_are_copies_of_none(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "clips")
    for name in ("a/ash", "b/nut"):
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(b"no video" * 200)
    given = recipe(tmp_path / "clips")
    found, _, _ = keep_copies_together(given, read_training_clips(given))
    assert found.copies is not None
    assert {Path(names[-1]).stem for names in found.copies} == {"elm", "fir", "bay", "box"}


def test_a_run_measures_clips_without_a_copy(
    folder: Path, tmp_path: Path, said: io.StringIO
) -> None:
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "clips")
    given = recipe(moved)
    outcome = train(given, tmp_path / "run")
    assert "copies: 10 clips look like copies of others" in said.getvalue()
    stored = stored_recipe(tmp_path / "run")
    assert stored.copies
    assert outcome.held_out is not None
    measured = {Path(clip.path).name for clip in outcome.held_out.clips}
    assert not divided(read_training_clips(stored))
    # evaluate draws the same split from the checkpoint, also where the clips were moved
    for place in (moved, folder):
        again = evaluate_checkpoints([str(outcome.checkpoint)], ClipSource(place), workers=0)
        assert again is not None
        assert {Path(clip.path).name for clip in again.clips} == measured
    # and so does a resumed run, also from a recipe without them as after a restart
    more = train(stored.model_copy(update={"copies": None}), tmp_path / "run", resume=True)
    assert more.finished


def test_folds_keep_copies_together(folder: Path, tmp_path: Path) -> None:
    done = cross_validate(recipe(folder, folds=3), tmp_path / "run")
    assert done is not None
    assert sum(len(fold.labels) for fold in done.folds) == 15
    for k in (1, 2, 3):
        stored = stored_recipe(tmp_path / "run" / f"fold-{k}")
        assert stored.copies
        assert not divided(read_training_clips(stored))


def test_adapt_keeps_copies_together(folder: Path, run: Path, tmp_path: Path) -> None:
    given = recipe(folder, weights=str(run), segments=2)
    done = adapt(given, tmp_path / "run", minutes=0)
    assert done is not None
    stored = read_checkpoint(tmp_path / "run" / "best.safetensors").recipe
    assert stored is not None
    assert stored["copies"]
    source = ClipSource(folder).with_split(stored)
    assert not divided(read_clips(source))
    assert adapt(given, tmp_path / "run", minutes=0) is not None  # the same command continues


def test_parts_of_copies_are_one_group(folder: Path, tmp_path: Path) -> None:
    rows = ["path,label,start,end"]
    for word in ("ash", "ash-small", "elm", "fir", "yew"):
        rows += [f"{folder}/a/{word}.mp4,{x},{s},{s + 0.2}" for x, s in (("p", 0), ("q", 0.2))]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    names = [name_below(f"{folder}/a/{w}.mp4", tmp_path) for w in ("ash", "ash-small")]
    for seed in range(4):
        clips = read_clips(
            ClipSource(
                tmp_path / "list.csv",
                copies=(tuple(names), ("gone.mp4", names[0])),
                split_seed=seed,
                val_fraction=0.4,
            )
        )
        assert not divided(clips)
        groups = {clip.group for clip in clips.splits["train"] if "ash" in clip.path}
        assert len(groups | {clip.group for clip in clips.splits["val"] if "ash" in clip.path}) == 1


def test_a_chain_of_copies_is_one_set(folder: Path) -> None:
    """Sets are what is connected, not only what looks alike in pairs."""
    given = recipe(folder)
    read = read_training_clips(given)
    both = [clip for side in ("train", "val") for clip in read.splits[side]]
    grey = np.random.default_rng(0).uniform(0, 255, (len(both), 8, 256)).astype(np.float32)
    for k in (4, 9):  # chains of three
        grey[k] = grey[0]
    found, _, _ = keep_copies_together(given, read, look=lambda clips: grey[: len(clips)])
    assert found.copies is not None
    expected = sorted(name_below(both[k].path, folder) for k in (0, 4, 9))
    assert found.copies == (tuple(expected),)


def test_a_run_that_is_not_there_is_not_resumed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to resume there"):
        train(recipe(folder), tmp_path / "none", resume=True)
