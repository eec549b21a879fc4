"""Evaluations and predictions on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from smnet.console import json_text, output, plural, printable, progress_bar
from smnet.data.loading.views import Damage
from smnet.evaluation.results import Evaluation
from smnet.inference.recognizer import Prediction

SHOWN_CLASSES = 60
SHOWN_MESSAGES = 10
WIDEST = 60
"""Columns for a path or a label; longer ones push their row to the right."""


def plain_table(*columns: str) -> Table:
    """A table without lines; all columns but the first are aligned to the right."""
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def say(console: Console, text: str) -> None:
    """Print one line as it is: no markup, no wrapping, control characters escaped."""
    console.print(printable(text), markup=False, soft_wrap=True)


def print_evaluation(result: Evaluation) -> None:
    """Accuracies with 95 % intervals, results per class, and the most confused pairs."""
    console = output()
    views = f"views {result.views} (clips x crops), sampling {result.sampling}"
    say(console, f"{plural(len(result.labels), 'clip')}, {views}")
    top5 = min(5, len(result.classes))
    say(console, f"{'top-1':12}{result.top(1)}")
    say(console, f"{f'top-{top5}':12}{result.top(top5)}")
    say(console, f"{'mean class':12}{result.mean_class}")
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


def _messages(console: Console, messages: Sequence[str], what: str) -> None:
    if messages:
        say(console, f"{plural(len(messages), 'clip')} {what}:")
    for message in messages[:SHOWN_MESSAGES]:
        say(console, f"  {message}")
    if len(messages) > SHOWN_MESSAGES:
        say(console, f"  … and {len(messages) - SHOWN_MESSAGES} more; --json lists all")


def _by_class(result: Evaluation) -> Table:
    """The classes with the lowest recall first, those without clips last."""
    table = plain_table("class", "clips", "correct", "recall", "precision")
    rows = sorted(result.by_class, key=lambda r: (r.clips == 0, r.recall if r.clips else 0))
    for r in rows[:SHOWN_CLASSES]:
        precision = f"{r.precision:.1%}" if r.predicted else "-"
        recall = f"{r.recall:.1%}" if r.clips else "-"
        table.add_row(Text(r.name), str(r.clips), str(r.correct), recall, precision)
    return table


def print_predictions(
    predictions: Iterable[Prediction], paths: Sequence[str], classes: Sequence[str]
) -> int:
    """A row per video, as soon as it is predicted: path, then labels with their scores.

    Args:
        predictions: one per path, in their order.
        paths: all videos; their names set the width of the first column.
        classes: all class names; they set the width of the others.

    Returns:
        The number of videos that could not be read; those are reported on standard error.
    """
    console = output()
    name_width = min(max(len(printable(path)) for path in paths), WIDEST)
    label_width = min(max(len(printable(name)) for name in classes), WIDEST)
    failed = 0
    with progress_bar(quiet=len(paths) < 20) as bar:
        task = bar.add_task("predicting", total=len(paths), note="")
        for prediction in predictions:
            if prediction.error:
                failed += 1
                say(bar.console, f"smnet: {prediction.error}")
            else:
                cells = [f"{printable(prediction.path):{name_width}}"]
                for label, score in zip(prediction.labels, prediction.scores, strict=True):
                    cells.append(f"{score:6.1%} {printable(label):{label_width}}")
                say(console, "  ".join(cells).rstrip())
            if prediction.damage:
                damage = Damage(prediction.damage)
                say(bar.console, f"smnet: {prediction.path}: {damage}; predicted without these")
            bar.advance(task)
    return failed


def print_json_lines(predictions: Iterable[Prediction]) -> int:
    """One JSON object per video and line; the number of videos that could not be read."""
    failed = 0
    for prediction in predictions:
        failed += bool(prediction.error)
        print(json_text(prediction.to_dict()), flush=True)
    return failed
