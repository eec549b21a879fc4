"""Results as tables on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from smnet.console import printable, progress_bar
from smnet.data.loading.views import Damage
from smnet.evaluation.results import Evaluation
from smnet.files import in_utf8
from smnet.inference.recognizer import Prediction


def print_evaluation(result: Evaluation, classes: int = 60) -> None:
    """Accuracies with 95 % intervals, the per-class table and the most confused pairs."""
    console = Console(highlight=False, emoji=False)
    console.print(
        f"{len(result.labels)} clips, views {result.views} (clips x crops),"
        f" sampling {result.sampling}"
    )
    top5 = min(5, len(result.classes))
    for name, share in (
        ("top-1", result.top(1)),
        (f"top-{top5}", result.top(top5)),
        ("mean class", result.mean_class),
    ):
        console.print(f"{name:12}{share}", markup=False)
    for messages, what in (
        (result.problems, "could not be read and count as wrong"),
        (result.damaged, "are damaged, and were measured with what is left of them"),
    ):
        if messages:
            console.print(f"{len(messages)} clips {what}:")
        for message in messages[:10]:
            console.print(f"  {printable(message)}", markup=False, soft_wrap=True)
    table = Table("class", "clips", "found", "recall", "precision", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    # Worst first; at the end those that were not measured.
    rows = sorted(result.by_class, key=lambda r: (r.clips == 0, r.recall if r.clips else 0))
    for r in rows[:classes]:
        precision = f"{r.precision:.1%}" if r.predicted else "-"
        recall = f"{r.recall:.1%}" if r.clips else "-"
        table.add_row(Text(r.name), str(r.clips), str(r.correct), recall, precision)
    console.print()
    console.print(table)
    if len(rows) > classes:
        console.print(f"… and {len(rows) - classes} better ones or without clips; --json has all")
    confused = result.confused()
    if confused:
        console.print("\nmost confused:")
        for true, predicted, clips in confused:
            console.print(f"  {clips:4} x {true} -> {predicted}", markup=False, soft_wrap=True)


def json_text(values: Any, indent: int | None = None) -> str:
    """Values as JSON that is UTF-8, which the names of files need not be."""
    text = json.dumps(values, ensure_ascii=False, indent=indent)
    return text if text == in_utf8(text) else json.dumps(values, indent=indent)


def print_predictions(answers: Iterable[Prediction], total: int) -> int:
    """A row a video as it comes; returns how many could not be read."""
    console = Console(highlight=False, emoji=False)
    failed = 0
    with progress_bar(quiet=total < 20) as bar:
        task = bar.add_task("predicting", total=total, note="")
        for answer in answers:
            if answer.error:
                failed += 1
                bar.console.print(f"smnet: {printable(answer.error)}", markup=False, soft_wrap=True)
            else:
                pairs = zip(answer.labels, answer.scores, strict=True)
                best = "  ".join(f"{score:6.1%} {label}" for label, score in pairs)
                line = printable(f"{answer.path}  {best}")
                console.print(line, markup=False, soft_wrap=True)
            if answer.damage:
                name, damage = printable(answer.path), Damage(answer.damage)
                note = f"smnet: {name}: {damage}; judged by what is left"
                bar.console.print(note, markup=False, soft_wrap=True)
            bar.advance(task)
    return failed
