"""Collects everything that is wrong with an annotation, to say it at once."""

from __future__ import annotations

from dataclasses import dataclass

from smnet.console import printable
from smnet.errors import UserError

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an annotation.

    Attributes:
        kind: a few words, "malformed row".
        source: where it stands, "train.csv:17", or the data set as a whole.
        message: what is wrong.
        path: the clip or folder it is about, as far as it is known; "" otherwise.
    """

    kind: str
    source: str
    message: str
    path: str = ""


class Problems:
    """Problems by kind. Keeps the first few texts of a kind and counts the rest.

    With ``found``, every problem is appended to that list instead, and none is ever raised: the
    way in for those who report on an annotation rather than use it.
    """

    def __init__(self, subject: str, found: list[Problem] | None = None) -> None:
        self.subject = subject
        self.advice: list[str] = []
        self._found = found
        self._texts: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    @property
    def collecting(self) -> bool:
        """Whether what is read will be used without the rows that have problems."""
        return self._found is not None

    def add(self, kind: str, source: str, message: str, path: str = "") -> None:
        """Note one problem; see :class:`Problem`."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._found is not None:
            self._found.append(Problem(kind, source, message, path))
            return
        texts = self._texts.setdefault(kind, [])
        if len(texts) < SHOWN:
            texts.append(printable(f"{source}: {message}"))

    def advise(self, text: str) -> None:
        """Add a line to the end of the message; the same line is said once."""
        if text not in self.advice:
            self.advice.append(text)

    def count(self, kind: str) -> int:
        return self._counts.get(kind, 0)

    def raise_any(self) -> None:
        """Raise one ``UserError`` with all that was found, or return if nothing was."""
        total = sum(self._counts.values())
        if not total or self._found is not None:
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
        """Up to SHOWN texts, every kind in turn: a thousand of one must not hide another."""
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
