"""Collects the problems of an annotation, so that one error names them all."""

from __future__ import annotations

from dataclasses import dataclass

from smnet.console import printable
from smnet.errors import UserError

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of an annotation.

    Attributes:
        kind: a few words, "malformed row".
        source: where it is, "train.csv:17", or the path of the data set.
        message: what is wrong.
        path: the clip or folder with the problem; "" if there is none.
    """

    kind: str
    source: str
    message: str
    path: str = ""

    def __str__(self) -> str:
        """For a line of text; a path that is the source, or in the message, is named once."""
        known = not self.path or self.path in self.source or self.path in self.message
        return printable(f"{self.source}: {self.message}{'' if known else f': {self.path}'}")


class Problems:
    """Problems by kind. Keeps the first few of each kind and counts the rest.

    Args:
        subject: the data set, for the first line of the error.
        collected: a list that receives every problem. Nothing is raised then, as reports on a data
            set need it.
    """

    def __init__(self, subject: str, collected: list[Problem] | None = None) -> None:
        self.subject = subject
        self.advice: list[str] = []
        self._collected = collected
        self._texts: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    @property
    def collecting(self) -> bool:
        """Whether the caller takes the data set without the rows that have problems."""
        return self._collected is not None

    def add(self, kind: str, source: str, message: str, path: str = "") -> None:
        """Add one problem; see :class:`Problem`."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        problem = Problem(kind, source, message, path)
        if self._collected is not None:
            self._collected.append(problem)
            return
        texts = self._texts.setdefault(kind, [])
        if len(texts) < SHOWN:
            texts.append(str(problem))

    def advise(self, text: str) -> None:
        """Add a line of advice to the end of the error, once."""
        if text not in self.advice:
            self.advice.append(text)

    def count(self, kind: str) -> int:
        return self._counts.get(kind, 0)

    def raise_any(self) -> None:
        """Raise one ``UserError`` with all problems, if there are any."""
        total = sum(self._counts.values())
        if not total or self._collected is not None:
            return
        kinds = ", ".join(f"{kind}: {count}" for kind, count in self._counts.items())
        lines = [f"{self.subject}: {total} problem{'s' if total > 1 else ''} ({kinds})"]
        shown = self._choose()
        lines += [f"  {text}" for text in shown]
        if total > len(shown):
            lines.append(f"  ... and {total - len(shown)} more")
        lines += self.advice
        raise UserError("\n".join(lines))

    def _choose(self) -> list[str]:
        """Up to SHOWN texts, the kinds in turn, so that a frequent kind hides no other."""
        quota = dict.fromkeys(self._texts, 0)
        left = SHOWN
        while left:
            open_kinds = [kind for kind, n in quota.items() if n < len(self._texts[kind])]
            if not open_kinds:
                break
            for kind in open_kinds[:left]:
                quota[kind] += 1
                left -= 1
        return [text for kind, n in quota.items() for text in self._texts[kind][:n]]
