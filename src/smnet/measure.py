"""Time measured in turns: medians of interleaved runs, their spread, and the load of the machine.

All benchmarks and reports use this module, so that their figures mean the same. Candidates take
turns, so that other work on the machine affects all of them alike. A ratio is the median of the
ratios within each round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

BUSY = 0.1
"""Share of the machine's cores that other programs may use before a measurement is called busy."""


@dataclass(frozen=True)
class Ratio:
    """How many times as long one candidate takes as another: median and quartiles over rounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Timings:
    """What :func:`in_turns` measured.

    Attributes:
        seconds: one list per candidate, with its seconds in each round.
        clock: ``"cpu"`` (time of this process on all its threads) or ``"wall"``.
        other_load: cores that other programs used during the measurement; None if unknown.
        cores: cores of the machine.
    """

    seconds: tuple[tuple[float, ...], ...]
    clock: str
    other_load: float | None
    cores: int

    def median(self, candidate: int) -> float:
        """Median seconds of a candidate."""
        return median(self.seconds[candidate])

    def ratio(self, candidate: int, reference: int = 0) -> Ratio:
        """The time of a candidate in units of a reference, round by round."""
        pairs = zip(self.seconds[candidate], self.seconds[reference], strict=True)
        return _spread([mine / max(theirs, 1e-9) for mine, theirs in pairs])

    @property
    def warning(self) -> str:
        """One line if the machine was busy, else ``""``."""
        if self.other_load is None or self.other_load <= BUSY * self.cores:
            return ""
        return (
            f"the machine was busy: other programs used {self.other_load:.1f} of {self.cores} cores"
            " during the measurement, so repeat it on a quiet machine"
        )


def in_turns(
    candidates: Sequence[Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 1,
    clock: str = "wall",
    limit: float | None = None,
    synchronise: Callable[[], object] = lambda: None,
) -> Timings:
    """Time callables in interleaved rounds.

    Args:
        candidates: each is called once per round, in order.
        rounds: timed rounds.
        warmup: rounds before them that are not timed.
        clock: ``"wall"``, or ``"cpu"`` for work on one thread, which is robust to other load.
        limit: seconds after which no further round starts; at least three rounds are timed.
        synchronise: waits for a device, before and after each call.
    """
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    for _ in range(warmup):
        for call in candidates:
            call()
    load = OtherLoad()
    began = time.perf_counter()
    seconds: list[list[float]] = [[] for _ in candidates]
    for number in range(rounds):
        if limit is not None and number >= 3 and time.perf_counter() - began > limit:
            break
        for call, taken in zip(candidates, seconds, strict=True):
            synchronise()
            start = now()
            call()
            synchronise()
            taken.append(now() - start)
    return Timings(tuple(map(tuple, seconds)), clock, load.cores_used(), load.cores)


def clock_for(threads: int, device: str = "cpu") -> str:
    """The clock that suits a measurement: CPU time for one thread on a CPU, else wall time."""
    return "cpu" if threads == 1 and device == "cpu" else "wall"


class OtherLoad:
    """The cores that other programs use from construction on (Linux)."""

    def __init__(self) -> None:
        self.cores = os.cpu_count() or 1
        self._began = self._now()

    def cores_used(self) -> float | None:
        """Mean number of cores that other programs used so far; None where it cannot be read."""
        if self._began is None or (ended := self._now()) is None:
            return None
        wall, busy, own = (end - start for end, start in zip(ended, self._began, strict=True))
        if wall < 0.1:  # the kernel counts in hundredths of a second
            return None
        return max(busy - own, 0.0) / wall

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds by the wall, busy seconds of all cores, CPU seconds of this process."""
        try:
            words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
            user, nice, kernel, _, _, irq, softirq, steal = map(int, words)
        except (OSError, ValueError):
            return None
        busy = (user + nice + kernel + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, sum(os.times()[:4])


def _spread(values: Sequence[float]) -> Ratio:
    if len(values) < 2:
        return Ratio(values[0], values[0], values[0])
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Ratio(middle, low, high)
