"""The test of time: how a score depends on the order of the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnet.inference.backends import Backend
from smnet.inference.evidence import scores_of

Scores = NDArray[np.float64]

SMALL = 0.02
"""A change of a score that is called none."""


@dataclass(frozen=True)
class OrderTest:
    """The scores of one class for rearranged frames, each in [0, 1].

    Attributes:
        original: of the clip.
        backwards: of its frames in reverse.
        shuffled: (N,) of its segments in random orders.
        frozen: (T,) of each segment repeated T times.
        left_out: (T,) with each segment replaced by the one before it, the first by the second.
    """

    original: float
    backwards: float
    shuffled: Scores
    frozen: Scores
    left_out: Scores

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """A table for people: what was done, the score, and its change in points.

        Of the frames left out, the one that changes the score most.
        """
        rows = [("as it is", f"{self.original:.1%}", "")]
        rows.append(("reversed", *self._cells(self.backwards)))
        if len(self.shuffled):
            score, change = self._cells(float(self.shuffled.mean()))
            spread = f" ± {100 * self.shuffled.std():.1f}"
            rows.append((f"shuffled, mean of {len(self.shuffled)}", score + spread, change))
        middle, best = len(self.frozen) // 2, int(self.frozen.argmax())
        rows.append((f"frozen at frame {middle + 1}", *self._cells(self.frozen[middle])))
        if best != middle:
            rows.append((f"frozen at the best, {best + 1}", *self._cells(self.frozen[best])))
        if len(self.left_out):
            worst = int(np.abs(self.left_out - self.original).argmax())
            rows.append((f"without frame {worst + 1}", *self._cells(self.left_out[worst])))
        return rows

    @property
    def verdict(self) -> str:
        """What follows, in a sentence or two."""
        lines = []
        if len(self.shuffled):
            mean = float(self.shuffled.mean())
            moved = max(abs(self.original - mean), abs(self.original - self.backwards))
            if moved < SMALL:
                lines.append("The order of the frames makes no difference here.")
            else:
                lines.append(
                    f"The order matters: {self.original:.0%} as it is, {self.backwards:.0%}"
                    f" reversed, {mean:.0%} shuffled."
                )
        best = int(self.frozen.argmax())
        if self.frozen[best] > self.original - SMALL:
            lines.append(f"Frame {best + 1} alone is enough.")
        return " ".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "original": round(self.original, 6),
            "reversed": round(self.backwards, 6),
            "shuffled": {
                "mean": round(float(self.shuffled.mean()), 6) if len(self.shuffled) else None,
                "deviation": round(float(self.shuffled.std()), 6) if len(self.shuffled) else None,
                "orders": len(self.shuffled),
            },
            "frozen": self.frozen.round(6).tolist(),
            "left_out": self.left_out.round(6).tolist(),
        }

    def _cells(self, score: float) -> tuple[str, str]:
        return f"{score:.1%}", f"{100 * (score - self.original):+.1f}"


def order_test(
    backend: Backend, view: NDArray[np.uint8], label: int, shuffles: int = 10, seed: int = 0
) -> OrderTest:
    """Score rearrangements of a view.

    Args:
        backend: scores them.
        view: (T*L, 3, h, w) uint8.
        label: index of the class.
        shuffles: N, random orders of the segments; none for a single segment.
        seed: of the orders.
    """
    length = backend.spec.frames_per_segment
    segments = view.reshape(-1, length, *view.shape[1:])
    count = len(segments)
    rng = np.random.default_rng(seed)
    same = np.arange(count)
    orders = [_another(rng, count) for _ in range(shuffles if count > 1 else 0)]
    frozen = [np.full(count, k) for k in same]
    without = [np.where(same == k, k - 1 if k else 1, same) for k in same if count > 1]
    chosen = np.stack([same, *orders, *frozen, *without])
    clips = [segments[order].reshape(view.shape) for order in chosen]
    scores = scores_of(backend, [*clips, view[::-1]], label)
    parts = np.split(scores, np.cumsum([1, len(orders), count, len(without)]))
    return OrderTest(float(parts[0][0]), float(parts[4][0]), parts[1], parts[2], parts[3])


def _another(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """A random order that is not the given one."""
    while True:
        order = rng.permutation(count)
        if (order != np.arange(count)).any():
            return order
