"""What a run tells: progress on the terminal, rows in ``log.jsonl``, scalars for TensorBoard."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.progress import (
    TaskID,
)

from smnet.console import clock, console, progress_bar
from smnet.errors import UserError
from smnet.files import write_text


class RunLog:
    """The log of one training run, in the run's folder; what it says up to step ``after`` stands.

    Without a terminal, a line is printed about every ``every`` seconds instead of a moving bar.
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
        self._board = _summary_writer(folder / "tensorboard", after + 1) if active else None
        self._bar = progress_bar(quiet=not active)
        self._task: TaskID | None = None

    def __enter__(self) -> RunLog:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def say(self, text: str) -> None:
        """One line for people."""
        if self.active:
            console.print(text, soft_wrap=True, markup=False)

    def keep_until(self, step: int) -> None:
        """Forget rows after ``step``, which a resumed run will write again."""
        if not self.active or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                keep = json.loads(line)["step"] <= step
            except (ValueError, TypeError, KeyError):
                continue  # a machine that went down in the middle of a line
            if keep:
                kept.append(line + "\n")
        write_text(self.path, "".join(kept))

    def step(self, epoch: int, step: int, note: str) -> None:
        """An optimiser step is done: move the bar."""
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
        """A row of numbers: to ``log.jsonl``, and to TensorBoard where it is installed."""
        if not self.active:
            return
        entry = {"kind": kind, "epoch": epoch, "step": step, **values}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)


def _summary_writer(folder: Path, first: int) -> Any:
    """One that takes the place of what an interrupted run wrote from step ``first`` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first if first > 1 else None)
