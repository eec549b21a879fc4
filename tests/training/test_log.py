"""The log of a run: rows, lines for people, scalars, and what a resumed run forgets."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smnet.console import clock, console, progress_bar
from smnet.errors import UserError
from smnet.training.log import RunLog
from smnet.training.trackers import Tracker, open_trackers
from tests.conftest import file_size_limit


@pytest.fixture(autouse=True)
def without_tensorboard(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "tensorboard" not in request.node.name:
        monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)


def board(folder: Path, first_step: int = 1) -> Callable[[], list[Tracker]]:
    return lambda: open_trackers("auto", folder, {}, "id", first_step)


def read(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_rows_are_json_lines(tmp_path: Path) -> None:
    with RunLog(tmp_path, epochs=2, steps=3, active=True) as log:
        log.row("train", 1, 3, {"loss": 0.5})
        log.row("val", 1, 3, {"top1": 0.25, "views": "1x1"})
    assert read(tmp_path) == [
        {"kind": "train", "epoch": 1, "step": 3, "loss": 0.5},
        {"kind": "val", "epoch": 1, "step": 3, "top1": 0.25, "views": "1x1"},
    ]


def test_processes_but_the_first_are_silent(tmp_path: Path, said: io.StringIO) -> None:
    with RunLog(tmp_path, epochs=2, steps=3, active=False, every=0) as log:
        log.keep_until(0)
        log.say("hello")
        log.step(0, 1, "note")
        log.row("train", 1, 3, {"loss": 0.5})
    assert said.getvalue() == ""
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_forgets_what_it_will_write_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 5, 2, active=True)
    log.keep_until(0)  # nothing there yet
    assert not list(tmp_path.iterdir())
    for epoch in (1, 2, 3):
        log.row("train", epoch, 2 * epoch, {"loss": 1.0})
    log.keep_until(4)
    assert [row["step"] for row in read(tmp_path)] == [2, 4]
    log.keep_until(0)
    assert read(tmp_path) == []


@pytest.mark.parametrize("torn", ['{"kind": "tr', "[]\n", "null\n", "{}\n", "\xff\x00"])
def test_a_torn_line_is_passed_over(tmp_path: Path, torn: str) -> None:
    log = RunLog(tmp_path, 5, 2, active=True)
    log.row("train", 1, 2, {"loss": 1.0})
    with (tmp_path / "log.jsonl").open("a", encoding="latin-1") as file:
        file.write(torn)
    log.keep_until(4)
    assert [row["step"] for row in read(tmp_path)] == [2]


def test_lines_are_said_as_they_are(tmp_path: Path, said: io.StringIO) -> None:
    log = RunLog(tmp_path, 1, 1, active=True)
    long = "[bold]not markup[/bold] :boom: " + "x" * 300
    log.say(long)
    assert said.getvalue() == long + "\n"


def test_without_a_terminal_a_line_now_and_then(tmp_path: Path, said: io.StringIO) -> None:
    with RunLog(tmp_path, epochs=2, steps=3, active=True, every=0.0) as log:
        for step in range(1, 7):
            log.step((step - 1) // 3, step, "loss 1.0")
    lines = [line for line in said.getvalue().splitlines() if line.strip()]
    assert len(lines) == 6
    assert lines[0].startswith("epoch 1/2 step 1/3  loss 1.0")
    assert lines[2].startswith("epoch 1/2 step 3/3")
    assert lines[3].startswith("epoch 2/2 step 1/3")
    assert lines[5].endswith("0.0 s left")
    said.truncate(0)
    with RunLog(tmp_path, epochs=2, steps=3, active=True, every=1e9) as log:
        log.step(0, 1, "loss 1.0")
    assert "step" not in said.getvalue()


def test_a_full_disk(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 1, 1, active=True)
    values = {f"a number {k}": 1.0 for k in range(20)}
    with file_size_limit(100), pytest.raises(UserError, match=r"cannot write .*log\.jsonl: File"):
        log.row("train", 1, 1, values)


def test_a_full_disk_under_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with RunLog(tmp_path, 1, 1, active=True, track=board(tmp_path)) as log:
        for step in range(1, 21):  # a longer event file than log.jsonl below
            log.row("val", 1, step, {"x": 1.0})
        (tmp_path / "log.jsonl").write_text("")
        (events,) = (tmp_path / "tensorboard").iterdir()
        full = pytest.raises(UserError, match=r"cannot write .*tensorboard: File too large")
        with file_size_limit(events.stat().st_size + 1), full:
            log.row("val", 1, 21, {"x": 1.0})


def test_numbers_go_to_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with RunLog(tmp_path, 1, 1, active=True, track=board(tmp_path)) as log:
        log.row("val", 1, 3, {"top1": 0.25, "views": "1x1"})
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    assert b"val/top1" in content
    assert b"views" not in content


def test_tensorboard_forgets_what_is_written_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for after, steps in ((0, (2, 4)), (2, (4, 6))):
        with RunLog(tmp_path, 1, 1, active=True, track=board(tmp_path, after + 1)) as log:
            for step in steps:
                log.row("val", 1, step, {"top1": 0.25})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("val/top1")] == [2, 4, 6]


def test_tensorboard_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with RunLog(tmp_path, 1, 1, active=True, track=board(tmp_path)) as log:
        log.row("val", 1, 3, {"top1": 0.25})
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_bars_are_drawn_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress_bar().disable
    monkeypatch.setattr(console, "_force_terminal", True)
    assert console.is_terminal
    assert not progress_bar().disable
    assert progress_bar(quiet=True).disable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (59.9, "59.9 s"),
        (60, "1:00"),
        (245, "4:05"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (7809, "2:10:09"),
        (90000, "25:00:00"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
