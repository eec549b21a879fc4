"""Clips of classes that a checkpoint does not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smnet.data.annotations.read import read_clips
from smnet.errors import UserError
from smnet.evaluation.evaluate import _set_aside, evaluate_checkpoints
from tests.conftest import CLASSES, Called, write_clips

Smnet = Callable[..., Called]


def test_clips_of_another_data_set(smnet: Smnet, run: Path, clips: Path, tmp_path: Path) -> None:
    other = write_clips(tmp_path / "other", {"train": 1}, ("a", "b"))
    called = smnet("evaluate", run, "--data", clips, "--unknown", other, "--workers", 0)
    assert called.status == 0, called.err
    assert "AUROC" in called.out
    assert "known against 2 unknown clips" in called.out
    result = evaluate_checkpoints([str(run)], str(clips), unknown=str(other), workers=0)
    assert result is not None
    assert len(result.labels) == 6
    assert result.unknown is not None
    assert result.unknown.shape == (2, 3)


def test_classes_are_set_aside_by_name(clips: Path) -> None:
    clip_set = read_clips(str(clips))
    kept, known, strange = _set_aside(clip_set, list(clip_set.splits["val"]), CLASSES[0])
    assert kept.classes == CLASSES[1:]
    assert [clip.label for clip in known] == [0, 0, 1, 1]
    assert len(strange) == 2
    assert {Path(clip.path).parent.name for clip in strange} == {CLASSES[0]}


def test_a_name_that_is_nothing(clips: Path) -> None:
    clip_set = read_clips(str(clips))
    with pytest.raises(UserError, match="flying: neither a data set nor classes"):
        _set_aside(clip_set, list(clip_set.splits["val"]), "flying")
