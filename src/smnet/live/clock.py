"""Which frames of a stream are used: those at the ticks of a fixed rate, by presentation time."""

from __future__ import annotations

from dataclasses import dataclass

from smnet.data.sampling.rate import EARLY

JUMP = 2.0
"""Seconds by which time stamps may advance from one frame to the next; more is a jump."""


@dataclass
class Ticks:
    """Counts how many ticks of the rate each frame serves.

    The first frame is at a tick. A later frame serves all ticks since the frame before: none if the
    source is faster than the rate, one, or several if it is slower. So the speed of motion is that
    of the training, whatever the source does.

    Args:
        rate: ticks per second.
        jump: see :data:`JUMP`; never less than two ticks.
    """

    rate: float
    jump: float = JUMP
    _begin: float | None = None
    _last: float = 0.0
    _done: int = 0

    def serve(self, seconds: float) -> int | None:
        """The ticks that a frame at this presentation time serves.

        None: time jumped back, or far ahead. The frame then is the first of a new stream and serves
        one tick.
        """
        jumped = self._begin is not None and not (
            -1e-9 <= seconds - self._last <= max(self.jump, 2 / self.rate)
        )
        if self._begin is None or jumped:
            self.restart()
            self._begin = self._last = seconds
            self._done = 1
            return None if jumped else 1
        due = int((seconds - self._begin + EARLY) * self.rate) + 1
        count, self._done, self._last = due - self._done, due, seconds
        return count

    def restart(self) -> None:
        """Forget all frames."""
        self._begin = None
