"""An explanation of one clip: the evidence, the test of time, and what else was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from smnet.errors import UserError
from smnet.explain.attention import Attention, attention_of
from smnet.explain.checks import Checks, check, compare
from smnet.explain.draw import Shown
from smnet.explain.order import OrderTest, order_test
from smnet.inference.evidence import Evidence
from smnet.inference.recognizer import Recognizer

TOP = 5
"""Classes in a list."""


@dataclass(frozen=True)
class Explained:
    """Why a network scores a clip as it does.

    Attributes:
        name: of the network.
        evidence: of frames and places for each class.
        label: the class that is explained.
        against: the class it is compared with; None is none.
        order: the test of time.
        attention: masks and gates by stage; empty for networks without them.
        checks: of the map; None if they were not asked for.
    """

    name: str
    evidence: Evidence
    label: str
    against: str | None
    order: OrderTest
    attention: tuple[Attention, ...] = ()
    checks: Checks | None = None

    @property
    def score(self) -> float:
        """The probability of the class."""
        return float(self.evidence.scores[self.evidence.index(self.label)])

    @property
    def sum(self) -> tuple[float, float, float]:
        """What comes from frames, the constant, and the logit, of the class or the difference."""
        found, own = self.evidence, self.evidence.index(self.label)
        constant, logit = float(found.constant[own]), float(found.logits[own])
        if self.against is not None:
            other = found.index(self.against)
            constant -= float(found.constant[other])
            logit -= float(found.logits[other])
        return float(found.curve(self.label, self.against).sum()), constant, logit

    @property
    def sum_line(self) -> str:
        """The sum in words."""
        frames, constant, logit = self.sum
        if not self.evidence.exact:
            return f"Logit {logit:.3f}"
        what = "Logit" if self.against is None else "Difference of the logits"
        return f"{what} {logit:.3f} = {frames:.3f} of the frames {constant:+.3f} constant"

    @property
    def question(self) -> str:
        """What the map answers."""
        return self.label if self.against is None else f"{self.label} rather than {self.against}"

    @property
    def shown(self) -> Shown:
        """What is drawn."""
        title = f"{self.name}: {self.question}, score {self.score:.0%}"
        return Shown(title, self.evidence, self.label, self.against)

    @property
    def top(self) -> list[tuple[str, float, float]]:
        """(class, score, logit) of the best classes."""
        found = self.evidence
        best = np.argsort(-found.scores, kind="stable")[:TOP]
        return [(found.classes[k], float(found.scores[k]), float(found.logits[k])) for k in best]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        frames, constant, logit = self.sum
        found = self.evidence
        return {
            "path": found.path,
            "network": self.name,
            "label": self.label,
            **({} if self.against is None else {"against": self.against}),
            "score": round(self.score, 6),
            "logit": round(logit, 5),
            "from_frames": round(frames, 5),
            "constant": round(constant, 5),
            "exact": found.exact,
            "meaning": found.meaning,
            "frames": found.curve(self.label, self.against).round(5).tolist(),
            "map": found.map_of(self.label, self.against).round(5).tolist(),
            "top": [
                {"label": name, "score": round(score, 6), "logit": round(value, 5)}
                for name, score, value in self.top
            ],
            "time": self.order.to_dict(),
            **({} if self.checks is None else {"checks": self.checks.to_dict()}),
        }

    @property
    def check_lines(self) -> list[str]:
        """What the checks say of the map, in words."""
        if self.checks is None:
            return []
        found = self.checks
        lines = []
        if len(found.classifier):
            near = np.abs(found.classifier).mean()
            lines.append(f"A random classifier: mean absolute rank correlation {near:.2f}.")
        if len(found.network):
            near = np.abs(found.network).mean()
            lines.append(f"A network of random weights: {near:.2f}.")
        if lines:
            depends = "The map depends on the weights."
            lines.append(depends if found.depends_on_weights else "The map hardly depends on them.")
        won = [one for one in compare([found]) if one.better > 0]
        lines.append(f"The evidence beats {len(won)} of 4 baselines of deletion and insertion.")
        return lines


def explain(
    recognizer: Recognizer,
    source: Any,
    label: str | None = None,
    against: str | None = None,
    *,
    name: str = "",
    shuffles: int = 10,
    checks: bool = False,
    done: Callable[[int, int], None] = lambda step, steps: None,
    **part: Any,
) -> Explained:
    """Explain the score of a class in one clip.

    Args:
        recognizer: the network.
        source: the video, as in :meth:`smnet.inference.recognizer.Recognizer.predict`.
        label: the class; None is the one with the highest score.
        against: a class to compare it with.
        name: of the network; empty is that of its architecture.
        shuffles: random orders of the segments in the test of time.
        checks: whether to check the map, which takes about 150 times the time of a score.
        done: receives the steps of the checks that are done, and those in all.
        part: ``start`` and ``end`` in seconds.

    Raises:
        UserError: the video cannot be read, no such class, or a file exported without features.
    """
    backend = recognizer.backend
    found = recognizer.explain(source, **part)
    label = found.label if label is None else label
    index = found.index(label)
    if against is not None and found.index(against) == index:
        raise UserError(f"--against {against}: is the class that is explained; name another one")
    shown = found.map_of(label, against)
    return Explained(
        name or backend.spec.name,
        found,
        label,
        against,
        order_test(backend, found.view, index, shuffles),
        attention_of(backend, found.view),
        check(backend, found.view, index, shown, done=done) if checks else None,
    )
