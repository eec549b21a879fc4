"""Experiment trackers: one adapter for the libraries with wandb's interface, and TensorBoard."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from smnet.errors import UserError
from smnet.training.loop import train
from smnet.training.trackers import check_trackers, open_trackers
from tests.conftest import tiny


class Library(types.ModuleType):
    """The part of the interface of wandb and trackio that is used, without a server."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = 0

    def init(self, **options: Any) -> None:
        self.runs.append(options)

    def log(self, scalars: dict[str, float], step: int) -> None:
        self.logged.append((scalars, step))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library("wandb")
    monkeypatch.setitem(sys.modules, "wandb", library)
    return library


def test_a_run_is_tracked_and_resumed_under_its_id(
    clips: Path, tmp_path: Path, wandb: Library
) -> None:
    recipe = tiny(clips, track="wandb", epochs=1)
    folder = tmp_path / "project" / "first"
    train(recipe, folder)
    (run,) = wandb.runs
    assert (run["project"], run["name"], run["resume"]) == ("project", "first", "allow")
    assert run["config"]["lr"] == recipe.lr
    assert [step for _, step in wandb.logged] == [3, 3]
    assert {"train/loss", "val/top1"} <= wandb.logged[0][0].keys() | wandb.logged[1][0].keys()
    assert wandb.finished == 1
    assert not (folder / "tensorboard").exists()
    train(recipe, folder, resume=True)
    assert wandb.runs[1]["id"] == run["id"]


def test_trackio_has_no_id_and_gets_it_in_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library("trackio")
    monkeypatch.setitem(sys.modules, "trackio", library)
    (tracker,) = open_trackers("trackio", tmp_path / "runs" / "a", {}, "1234", 1)
    tracker.add({"val/top1": 0.5}, 7)
    tracker.close()
    assert library.runs[0]["name"] == "a-1234"
    assert library.runs[0].keys() == {"project", "name", "config", "resume"}
    assert library.logged == [({"val/top1": 0.5}, 7)]


def test_a_library_that_does_not_start(tmp_path: Path, wandb: Library) -> None:
    def fail(**options: Any) -> None:
        raise RuntimeError("no API key")

    wandb.init = fail  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"wandb does not start \(no API key\)"):
        open_trackers("wandb", tmp_path, {}, "1", 1)


def test_a_missing_library_is_named_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match=r"smnet-video\[trackio\]"):
        train(tiny(tmp_path / "nowhere", track="trackio"), tmp_path / "r")


def test_none_and_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers("auto")
    assert open_trackers("none", tmp_path, {}, "1", 1) == []
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    assert open_trackers("auto", tmp_path, {}, "1", 1) == []
    assert not list(tmp_path.iterdir())
