"""The log of a run: progress on the terminal, rows in ``log.jsonl``, scalars for TensorBoard."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.progress import TaskID

from smnet.console import clock, console, progress_bar
from smnet.errors import UserError
from smnet.files import write_text
from smnet.recipes.recipe import Recipe
from smnet.training.step import Meter


class RunLog:
    """The log of one training run.

    Args:
        folder: folder of the run.
        epochs: number of epochs of the run.
        steps: number of optimiser steps per epoch.
        active: whether this process prints and writes (rank 0).
        after: TensorBoard scalars after this step are replaced.
        every: seconds between printed lines where there is no terminal for a progress bar.
    """

    def __init__(
        self,
        folder: Path,
        epochs: int,
        steps: int,
        active: bool,
        after: int = 0,
        every: float = 30.0,
    ) -> None:
        self.active = active
        self.path = folder / "log.jsonl"
        self.epochs, self.steps, self.every = epochs, steps, every
        self.began = self.spoke = time.monotonic()
        self.done_here = 0
        self._scalars: ScalarFile | None = None
        if active:
            with suppress(ImportError), self._named_errors(folder / "tensorboard"):
                self._scalars = ScalarFile(folder / "tensorboard", after + 1)
        self._bar = progress_bar(quiet=not active)
        self._task: TaskID | None = None

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._scalars is not None:
            with suppress(OSError):  # after a full disk the last write fails again
                self._scalars.close()

    def say(self, text: str) -> None:
        """Print one line on standard error."""
        if self.active:
            console.print(text, soft_wrap=True, markup=False)

    def keep_until(self, step: int) -> None:
        """Remove the rows after ``step``, which a resumed run writes again."""
        if not self.active or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                keep = json.loads(line)["step"] <= step
            except (ValueError, TypeError, KeyError):
                continue  # a line cut short when the machine went down
            if keep:
                kept.append(line + "\n")
        write_text(self.path, "".join(kept))

    def step(self, epoch: int, step: int, note: str) -> None:
        """Advance the progress bar after an optimiser step."""
        self.done_here += 1
        if not self.active:
            return
        in_epoch = (step - 1) % self.steps + 1
        if self._task is None:
            self._task = self._bar.add_task("", total=self.epochs * self.steps, note="")
        label = f"epoch {epoch + 1}/{self.epochs}"
        self._bar.update(self._task, completed=step, description=label, note=note)
        now = time.monotonic()
        if not console.is_terminal and now - self.spoke > self.every:
            self.spoke = now
            left = (now - self.began) / self.done_here * (self.epochs * self.steps - step)
            console.print(
                f"{label} step {in_epoch}/{self.steps}  {note}  {clock(left)} left", soft_wrap=True
            )

    def row(self, kind: str, epoch: int, step: int, values: dict[str, Any]) -> None:
        """Write a row of numbers to ``log.jsonl`` and to TensorBoard, if that is installed."""
        if not self.active:
            return
        entry = {"kind": kind, "epoch": epoch, "step": step, **values}
        with self._named_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._scalars is not None:
            numbers = {f"{kind}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
            with self._named_errors(self.path.parent / "tensorboard"):
                self._scalars.add(numbers, step)

    @contextmanager
    def _named_errors(self, path: Path) -> Iterator[None]:
        """Turn an error of the disk into a message that names the file."""
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error


class ScalarFile:
    """A TensorBoard event file, written without the thread of TensorBoard's own writer.

    That thread prints a traceback when the disk is full; here the error reaches the caller.

    Args:
        folder: the folder of the event files, created if it does not exist.
        first_step: in TensorBoard, scalars of earlier files from this step on are dropped.

    Raises:
        ImportError: TensorBoard is not installed.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{platform.node()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if first_step > 1:
            log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(step=first_step, session_log=log)

    def add(self, scalars: dict[str, float], step: int) -> None:
        """Write numbers by name and flush them to disk."""
        values = [self._summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
        self._write(step=step, summary=self._summary(value=values))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, **fields: Any) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())


def epoch_line(
    recipe: Recipe, epoch: int, meter: Meter, measured: dict[str, Any], verdict: str
) -> str:
    """One line per epoch: training, validation, and whether the epoch is the best so far."""
    line = f"epoch {epoch + 1}/{recipe.epochs}  {clock(meter.seconds)}  {meter.note()}"
    if meter.skipped:
        line += f"  {meter.skipped:.0f} unreadable clips skipped"
    if meter.damaged:
        line += f"  {meter.damaged:.0f} damaged clips"
    if measured["clips"]:
        line += f"  | val top-1 {measured['top1']:.1%}{f' ({verdict})' if verdict else ''}"
        for key, what in (("unreadable", "unreadable"), ("not_finite", "without finite scores")):
            if measured[key]:
                line += f", {measured[key]} of {measured['clips']} clips {what}: counted as wrong"
        if measured["not_finite"]:
            line += ", so this epoch cannot be the best"
    return line
