"""The report of a result: what train, evaluate and adapt write beside their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from smnet.console import plural
from smnet.data.clips import Clip
from smnet.evaluation.calibration import coverage_curve, reliability
from smnet.evaluation.results import Evaluation
from smnet.files import write_text
from smnet.report import kit
from smnet.report.clips import copy_of
from smnet.report.tables import LABEL, answers_in_words

EMBEDDED = 1_400_000
"""Bytes of all clips on a page, before their encoding as text adds a third."""
MISTAKES, SUSPECTS = 12, 16
SHOWN = 60
"""Most classes with a bar."""
FEW = 10
"""Training clips of a class below which the page asks for more."""
LOW = 0.7
"""Recall below which a class is named among those to improve."""


@dataclass(frozen=True)
class Suspect:
    """A clip whose label may be wrong: the label it has, the one it may need, and the score."""

    clip: Clip
    label: str
    proposed: str
    score: float


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        title: of the page.
        result: measured on clips that the network had not seen.
        protocol: one line on how it was measured.
        facts: further numbers: (value, meaning).
        curve: rows (epoch, training loss, validation score); () without training.
        counts: training clips of each class; empty if unknown.
        suspects: labels that may be wrong.
        also: further results by name, for the first table.
        cost: time and size by name.
        command: repeats it.
        advice: further lines on what to do next.
        sections: further sections, as HTML of :mod:`smnet.report.kit`.
    """

    title: str
    result: Evaluation
    protocol: str
    facts: Sequence[tuple[str, str]] = ()
    curve: Sequence[tuple[int, float, float]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    suspects: Sequence[Suspect] = ()
    also: Mapping[str, Evaluation] = field(default_factory=dict)
    cost: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    advice: Sequence[str] = ()
    sections: Sequence[str] = ()


def write_report(path: Path, report: Report) -> None:
    """Write the page of a report, at most some 2 MB.

    Raises:
        UserError: it cannot be written.
    """
    write_text(path, results_page(report))


def results_page(report: Report) -> str:
    """The page as HTML."""
    result, clips = report.result, _Clips()
    name, share = result.headline
    facts = [
        (f"{share.value:.1%}", f"{name}, 95 % interval {share.low:.1%} to {share.high:.1%}"),
        (str(len(result.labels)), "clips measured"),
        (str(len(result.classes)), "classes"),
        *report.facts,
    ]
    rows = [
        [key, str(other.headline[1]), str(len(other.labels))] for key, other in report.also.items()
    ]
    curves = [
        kit.chart(
            f"validation {name} over epochs",
            [kit.Series("", [(e, score) for e, _, score in report.curve])],
            top=1.0,
            percent=True,
        ),
        kit.chart(
            "training loss over epochs",
            [kit.Series("", [(e, loss) for e, loss, _ in report.curve])],
        ),
    ]
    return kit.page(
        report.title,
        [
            kit.facts(facts),
            kit.paragraph(report.protocol),
            kit.table(["result", name, "clips"], rows) if rows else "",
            kit.section("What to do next", kit.bullets([*advice(report), *report.advice])),
            kit.section("Training", kit.row(*curves) if len(report.curve) > 1 else ""),
            kit.section("Classes", kit.row(_classes(result)), note=_classes_note(result)),
            kit.section(
                "Confusion matrix",
                kit.matrix(result.confusion, result.classes) if result.truth is None else "",
                note="Rows are the true class, columns the predicted one.",
            ),
            kit.section(
                "What scores are worth", kit.row(*_calibration(result)), note=_worth(result)
            ),
            kit.section(
                "Mistakes",
                kit.row(*_mistakes(result, clips)),
                note="The wrong predictions with the highest scores. Some may be wrong labels.",
            ),
            *report.sections,
            kit.section(
                "Labels to check",
                kit.row(*_suspects(report.suspects, clips)),
                note="The network, trained without these clips, is sure of another class.",
            ),
            kit.section(
                "Time and cost", kit.table(["", ""], report.cost.items()) if report.cost else ""
            ),
            kit.section("Repeat it", kit.command(report.command) if report.command else ""),
        ],
    )


def advice(report: Report) -> list[str]:
    """What would most likely make the result better or surer."""
    lines, result = [], report.result
    few = sorted((n, name) for name, n in report.counts.items() if n < FEW)
    if few:
        names = ", ".join(f"{name} ({n})" for n, name in few[:8])
        lines.append(f"Add training clips. These classes have fewer than {FEW}: {names}.")
    weak = sorted((r.recall, r.name) for r in result.by_class if r.clips and r.recall < LOW)
    if weak:
        names = ", ".join(f"{name} ({recall:.0%})" for recall, name in weak[:8])
        lines.append(f"Add training clips of the classes that are missed most: {names}.")
    for true, predicted, clips in result.confused(3):
        if clips > 1:
            lines.append(
                f"{plural(clips, 'clip')} of {true} were taken for {predicted}: compare them below."
            )
    if report.suspects:
        lines.append(
            f"Check the labels of {plural(len(report.suspects), 'clip')} below; correct the"
            " annotation, and run the same command again."
        )
    best = [score for _, _, score in report.curve]
    if len(best) > 3 and int(np.argmax(best)) == len(best) - 1:
        lines.append("Train for longer: the last epoch was the best one.")
    _, share = result.headline
    if result.truth is None and share.high - share.low > 0.2:
        lines.append(
            f"Measure on more clips: with {len(result.labels)} the interval is"
            f" {100 * (share.high - share.low):.0f} points wide. Cross-validation (folds=5) uses"
            " every clip."
        )
    return lines or ["Nothing stands out. More clips of new people and places help most."]


def _classes(result: Evaluation) -> str:
    several = result.truth is not None
    rows = []
    for r, ap in zip(result.by_class, result.precisions, strict=True):
        if r.clips:
            value = ap if several else r.recall
            rows.append((r.name, value, f"{value:.0%}, {r.correct} of {r.clips}"))
    rows.sort(key=lambda row: row[1])
    return kit.bars(rows[:SHOWN])


def _classes_note(result: Evaluation) -> str:
    what = "Average precision" if result.truth is not None else "Recall"
    more = len(result.classes) - SHOWN
    return f"{what}, the lowest first." + (f" {more} more are not shown." if more > 0 else "")


def _calibration(result: Evaluation) -> list[str]:
    readable = result.predictions >= 0
    best = result.scores[readable].max(1, initial=0.0)
    right = result.labelled[readable, result.predictions[readable]]
    if len(best) < 2:
        return []
    bins = reliability(best, right)
    curve = coverage_curve(best, right)
    if len(curve) > 200:
        curve = [curve[i] for i in np.linspace(0, len(curve) - 1, 200).astype(int)]
    return [
        kit.chart(
            "accuracy (up) of clips by their score (across); on the dashed line scores are honest",
            [kit.Series("", [(b.score, b.accuracy) for b in bins])],
            top=1.0,
            span=(0.0, 1.0),
            percent=True,
            percent_x=True,
            diagonal=True,
            dots=True,
        ),
        kit.chart(
            "accuracy (up) if only the surest clips are answered (share across)",
            [kit.Series("", curve)],
            top=1.0,
            span=(0.0, 1.0),
            percent=True,
            percent_x=True,
        ),
    ]


def _worth(result: Evaluation) -> str:
    lines = [(line[:LABEL].strip(), line[LABEL:].strip()) for line in answers_in_words(result)]
    return " ".join(f"{label.capitalize()}: {words}." for label, words in lines)


class _Clips:
    """Embeds clips as long as the page stays small."""

    def __init__(self) -> None:
        self._left = EMBEDDED

    def __call__(self, clip: Clip, *lines: str) -> str:
        video = copy_of(clip) if self._left > 0 else None
        if video is None or len(video) > self._left:
            return ""
        self._left -= len(video)
        return kit.clip(
            video, *lines, f'<span class="soft">{kit.text(Path(clip.name).name)}</span>'
        )


def _mistakes(result: Evaluation, clips: _Clips) -> list[str]:
    if not result.clips:
        return []
    cards = []
    for i in result.mistakes()[:MISTAKES]:
        said = kit.verdict(result.classes[result.predictions[i]], right=False)
        score = f"taken for {said} {float(result.scores[i].max()):.0%}"
        truth = kit.text(result.classes[result.labels[i]])
        cards.append(clips(result.clips[i], f"<b>{truth}</b>", score))
    return cards


def _suspects(suspects: Sequence[Suspect], clips: _Clips) -> list[str]:
    return [
        clips(
            s.clip,
            f"labelled <b>{kit.text(s.label)}</b>",
            f"rather {kit.verdict(s.proposed, right=True)} {s.score:.0%}",
        )
        for s in suspects[:SUSPECTS]
    ]
