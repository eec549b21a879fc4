"""Evaluations and predictions on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smnet.console import json_text, output, plural, printable, progress_bar
from smnet.data.loading.views import Damage
from smnet.evaluation.metrics import wilson
from smnet.evaluation.results import Evaluation
from smnet.inference.decision import UNKNOWN
from smnet.inference.recognizer import Prediction

SHOWN_CLASSES = 60
SHOWN_MESSAGES = 10
CLASS_COLUMNS = ("class", "clips", "correct", "recall", "precision")
LABEL = 12
"""Columns for the name of a measure."""
WIDEST = 60
"""Columns for a path or a label; longer ones push their row to the right."""


def plain_table(*columns: str) -> Table:
    """A table without lines; all columns but the first are aligned to the right."""
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table on standard output."""
    table = plain_table(*columns)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    output().print(table)


def say(console: Console, text: str) -> None:
    """Print one line as it is: no markup, no wrapping, control characters escaped."""
    console.print(printable(text), markup=False, soft_wrap=True)


def print_evaluation(result: Evaluation) -> None:
    """Accuracies with 95 % intervals, results per class, and the most confused pairs."""
    console = output()
    views = f"views {result.views} (clips x crops), sampling {result.sampling}"
    say(console, f"{plural(len(result.labels), 'clip')}, {views}")
    if result.truth is None:
        top5 = min(5, len(result.classes))
        say(console, f"{'top-1':{LABEL}}{result.top(1)}")
        say(console, f"{f'top-{top5}':{LABEL}}{result.top(top5)}")
        say(console, f"{'mean class':{LABEL}}{result.mean_class}")
    else:
        say(console, f"{'mAP':{LABEL}}{result.mean_precision}")
    for line in answers_in_words(result):
        say(console, line)
    _messages(console, result.problems, "could not be read, counted as wrong")
    if result.not_finite:
        spoiled = plural(result.not_finite, "clip")
        say(console, f"{spoiled} with scores that are not finite numbers, counted as wrong")
    _messages(console, result.damaged, "damaged, evaluated on the remaining frames")
    console.print()
    console.print(_by_class(result))
    if len(result.classes) > SHOWN_CLASSES:
        rest = len(result.classes) - SHOWN_CLASSES
        say(console, f"… and {rest} classes with a higher recall or no clips; --json lists all")
    confused = result.confused()
    if confused:
        console.print("\nmost confused:")
    for true, predicted, clips in confused:
        say(console, f"  {clips:4} x {true} -> {predicted}")


def answers_in_words(result: Evaluation) -> list[str]:
    """What the answers are worth: calibration, "unknown", background."""
    lines = []
    if len(result.labels) > len(result.problems) + result.not_finite:
        error = f"{'calibration':{LABEL}}expected error {result.calibration_error:.1%}"
        if result.decision.temperature != 1:
            error += f" at temperature {result.decision.temperature:.2f}"
        lines.append(error)
    answered, truth = result.answered, result.labelled
    if result.decision.unknown_below:
        some = np.asarray(answered.any(1))
        right = wilson(int((answered & truth).any(1).sum()), int(some.sum()))
        lines.append(
            f"{'answered':{LABEL}}{wilson(int(some.sum()), len(some))}, of these right {right}"
        )
    idle = truth[:, ~result.happens].any(1)
    if idle.any():
        alarms = int(answered[idle][:, result.happens].any(1).sum())
        lines.append(
            f"{'false alarms':{LABEL}} {wilson(alarms, int(idle.sum()))} of background clips"
        )
    if result.unknown is not None:
        lines += [f"{'unknown':{LABEL}}{line}" for line in unknown_in_words(result)]
    return lines


def unknown_in_words(result: Evaluation) -> list[str]:
    """How well the scores separate clips of known and of unknown classes."""
    assert result.unknown is not None
    count = len(result.unknown)
    lines = [f"AUROC {result.unknown_auroc:.3f}, known against {plural(count, 'unknown clip')}"]
    if result.decision.unknown_below:
        lines.append(f"{wilson(result.unknown_said, count)} of them are answered with unknown")
    return lines


def _messages(console: Console, messages: Sequence[str], what: str) -> None:
    if messages:
        say(console, f"{plural(len(messages), 'clip')} {what}:")
    for message in messages[:SHOWN_MESSAGES]:
        say(console, f"  {message}")
    if len(messages) > SHOWN_MESSAGES:
        say(console, f"  … and {len(messages) - SHOWN_MESSAGES} more; --json lists all")


def _by_class(result: Evaluation) -> Table:
    """The classes with the lowest recall first, those without clips last."""
    several = result.truth is not None
    table = plain_table(*CLASS_COLUMNS, *(["AP"] if several else []))
    rows = sorted(
        zip(result.by_class, result.precisions if several else result.classes, strict=True),
        key=lambda pair: (pair[0].clips == 0, pair[0].recall if pair[0].clips else 0),
    )
    for r, ap in rows[:SHOWN_CLASSES]:
        precision = f"{r.precision:.1%}" if r.predicted else "-"
        recall = f"{r.recall:.1%}" if r.clips else "-"
        more = [f"{ap:.1%}" if r.clips else "-"] if several else []
        table.add_row(Text(r.name), str(r.clips), str(r.correct), recall, precision, *more)
    return table


def print_predictions(
    predictions: Iterable[Prediction],
    names: Sequence[str],
    classes: Sequence[str],
    several: bool = False,
) -> int:
    """A row per video, as soon as it is predicted: path, then labels with their scores.

    The ``names`` of all videos and parts, and all class names, set the widths of the columns. With
    ``several`` labels a clip, those that are predicted stand in brackets. Videos that
    could not be read are reported on standard error; returns their number.
    """
    console = output()
    name_width = min(max(len(printable(name)) for name in names), WIDEST)
    label_width = min(max(len(printable(name)) for name in classes), WIDEST)
    failed = 0
    with progress_bar(quiet=len(names) < 20) as bar:
        task = bar.add_task("predicting", total=len(names), note="")
        for prediction in predictions:
            if prediction.error:
                failed += 1
                say(bar.console, f"smnet: {prediction.error}")
            else:
                cells = [f"{printable(prediction.name):{name_width}}"]
                if prediction.unknown:
                    cells.append(UNKNOWN)
                elif several:
                    cells.append(f"[{', '.join(map(printable, prediction.answer))}]")
                for label, score in zip(prediction.labels, prediction.scores, strict=True):
                    cells.append(f"{score:6.1%} {printable(label):{label_width}}")
                say(console, "  ".join(cells).rstrip())
            if prediction.damage:
                damage = Damage(prediction.damage)
                say(bar.console, f"smnet: {prediction.name}: {damage}; predicted without these")
            bar.advance(task)
    return failed


def print_json_lines(predictions: Iterable[Prediction]) -> int:
    """One JSON object per video and line; the number of videos that could not be read."""
    failed = 0
    for prediction in predictions:
        failed += bool(prediction.error)
        print(json_text(prediction.to_dict()), flush=True)
    return failed
