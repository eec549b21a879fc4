"""The log of a run: progress on the terminal, rows in ``log.jsonl``, scalars for trackers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.progress import TaskID

from smnet.console import clock, console, progress_bar
from smnet.errors import UserError
from smnet.files import write_text
from smnet.recipes.recipe import Recipe
from smnet.training.step import Meter
from smnet.training.trackers import Tracker


class RunLog:
    """The log of one training run.

    Args:
        folder: folder of the run.
        epochs: number of epochs of the run.
        steps: number of optimiser steps per epoch.
        active: whether this process prints and writes (rank 0).
        track: opens the trackers that also get the numbers of the rows.
        every: seconds between printed lines where there is no terminal for a progress bar.
    """

    def __init__(
        self,
        folder: Path,
        epochs: int,
        steps: int,
        active: bool,
        track: Callable[[], Sequence[Tracker]] = tuple,
        every: float = 30.0,
    ) -> None:
        self.active = active
        self.path = folder / "log.jsonl"
        self.epochs, self.steps, self.every = epochs, steps, every
        self.began = self.spoke = time.monotonic()
        self.done_here = 0
        self._trackers: Sequence[Tracker] = ()
        if active:
            with self._named_errors(folder / "tensorboard"):
                self._trackers = track()
        self._bar = progress_bar(quiet=not active)
        self._task: TaskID | None = None

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        for tracker in self._trackers:
            with suppress(OSError):  # after a full disk the last write fails again
                tracker.close()

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
        total = self.epochs * self.steps
        self._bar.update(self._task, completed=step, total=total, description=label, note=note)
        now = time.monotonic()
        if not console.is_terminal and now - self.spoke > self.every:
            self.spoke = now
            left = (now - self.began) / self.done_here * (self.epochs * self.steps - step)
            console.print(
                f"{label} step {in_epoch}/{self.steps}  {note}  {clock(left)} left", soft_wrap=True
            )

    def row(self, kind: str, epoch: int, step: int, values: dict[str, Any]) -> None:
        """Write a row of numbers to ``log.jsonl`` and to the trackers."""
        if not self.active:
            return
        entry = {"kind": kind, "epoch": epoch, "step": step, **values}
        with self._named_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        numbers = {f"{kind}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        for tracker in self._trackers:
            with self._named_errors(self.path.parent / "tensorboard"):
                tracker.add(numbers, step)

    @contextmanager
    def _named_errors(self, path: Path) -> Iterator[None]:
        """Turn an error of the disk into a message that names the file."""
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error


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
        name, number = "top-1", measured["top1"]
        if "map" in measured:
            name, number = "mAP", measured["map"]
        line += f"  | val {name} {number:.1%}{f' ({verdict})' if verdict else ''}"
        for key, what in (("unreadable", "unreadable"), ("not_finite", "without finite scores")):
            if measured[key]:
                line += f", {measured[key]} of {measured['clips']} clips {what}: counted as wrong"
        if measured["not_finite"]:
            line += ", so this epoch cannot be the best"
    return line
