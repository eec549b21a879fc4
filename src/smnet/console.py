"""The terminal: messages on standard error, progress bars, durations, printable text."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False, emoji=False)
"""Messages for people; results go to standard output, see :func:`output`."""


class _Output(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave the exit status to the command line; rich would exit with status 1."""
        raise BrokenPipeError


def output() -> Console:
    """Standard output, for results."""
    return _Output(highlight=False, emoji=False)


def progress_bar(quiet: bool = False) -> Progress:
    """A progress bar with rate and remaining time; silent without a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


@contextmanager
def clip_progress(task: str, failure: str, interval: float = 30.0) -> Iterator[Callable[..., None]]:
    """Progress over the clips of a data set: a bar, or a line every ``interval`` seconds without a
    terminal.

    ``task`` is what is done, such as "checking"; ``failure`` what is counted, such as "unreadable".
    Yields a function of (clips done, clips in all, failures, and optionally a remark).
    """
    began = last_line = last_update = time.monotonic()
    with progress_bar() as bar:
        row = bar.add_task(task, total=None, note="")

        def update(done: int, total: int, failures: int, remark: str = "") -> None:
            nonlocal last_line, last_update
            now = time.monotonic()
            if now - last_update < 0.1 and done < total:
                return
            last_update = now
            rate = done / max(now - began, 1e-6)
            note = f"{rate:.0f} clips/s" + (f", {failures} {failure}" if failures else "")
            note += f", {remark}" if remark else ""
            bar.update(row, completed=done, total=total, note=note)
            if not console.is_terminal and now - last_line > interval:
                last_line = now
                left = clock((total - done) / max(rate, 1e-6))
                console.print(f"{task} {done}/{total}  {note}  {left} left", soft_wrap=True)

        yield update


def clock(seconds: float) -> str:
    """12.3 s, 4:05 or 2:10:09."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """``text`` on one line, with control characters escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def plural(number: int, noun: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{number} {noun}" + ("s" if number != 1 else "")


def finite(value: Any) -> Any:
    """Plain values with null for numbers that are not finite, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def json_text(values: Any, indent: int | None = None) -> str:
    """Values as JSON in valid UTF-8, whatever bytes are in the names of files."""
    text = json.dumps(values, ensure_ascii=False, indent=indent, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(values, indent=indent, allow_nan=False)
    return text
