"""The view of a live stream in a terminal."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from smnet.console import clock, console
from smnet.live.events import Event
from smnet.live.watch import Answer, Watch

_BAR = 24


class TerminalView:
    """The current label, bars of the scores, rate and delay, drawn a few times per second."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._recent: deque[float] = deque(maxlen=64)
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, answer: Answer) -> None:
        """Draw an answer, and print its events above."""
        for event in answer.events:
            if event.type != "update":
                self._live.console.print(event_line(event), markup=False, soft_wrap=True)
        self._recent.append(time.monotonic())
        self._live.update(self._table(answer))

    def _table(self, answer: Answer) -> Table:
        table = Table.grid(padding=(0, 2))
        if not answer.labels:
            table.add_row(Text("starting", style="dim"), "", "")
        for number, (label, score) in enumerate(zip(answer.labels, answer.scores, strict=True)):
            filled = round(_BAR * score)
            bar = Text("█" * filled, style="green" if number == 0 else "dim")
            bar.append("·" * (_BAR - filled), style="dim")
            table.add_row(Text(label, style="bold" if number == 0 else ""), bar, f"{score:.0%}")
        span = self._recent[-1] - self._recent[0] if len(self._recent) > 1 else 0.0
        rate = (len(self._recent) - 1) / span if span else 0.0
        counts = self._watch.counts
        note = f"{clock(answer.seconds)}  {rate:.1f} answers/s  delay {1000 * answer.delay:.0f} ms"
        note += f"  {counts.dropped} dropped" if counts.dropped else ""
        table.add_row(Text(note, style="dim"), "", "")
        return table


def event_line(event: Event) -> str:
    """An event on one line."""
    if event.type == "end" and event.end is not None:
        length = event.end - event.start
        return (
            f"{clock(event.end):>9}  end    {event.label}  {length:.1f} s, best"
            f" {event.top_score:.0%}"
        )
    score = event.top_score if event.type == "start" else event.score  # what reached the threshold
    return f"{clock(event.start):>9}  {event.type:6} {event.label}  {score:.0%}"
