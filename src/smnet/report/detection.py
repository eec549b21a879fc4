"""The evaluation of recordings on the terminal."""

from __future__ import annotations

import math

from rich.text import Text

from smnet.console import clock, output, plural
from smnet.evaluation.detection import ACTIVITYNET, OVERLAPS, THUMOS, Detection
from smnet.evaluation.metrics import Share
from smnet.report.tables import SHOWN_CLASSES, plain_table, say


def print_detection(result: Detection) -> None:
    """mAP, F1, edit score and accuracy with 95 % intervals, then the classes."""
    console = output()
    seconds = sum(recording.duration for recording in result.recordings)
    parts, detections = (int(n) for n in result.parts.sum(axis=0))
    say(
        console,
        f"{plural(len(result.recordings), 'recording')} of {clock(seconds)}:"
        f" {plural(parts, 'labelled part')}, {plural(detections, 'detection')}",
    )
    rows = {
        "mAP@0.3:0.7": result.mean_average_precision(THUMOS),
        "mAP@0.5:0.95": result.mean_average_precision(ACTIVITYNET),
        "mAP@0.3": result.mean_average_precision([0.3]),
        "mAP@0.5": result.mean_average_precision([0.5]),
        **{f"F1@{100 * overlap:g}": result.f1(overlap) for overlap in OVERLAPS},
        "edit": result.edit,
        "accuracy": result.accuracy,
    }
    alone = len(result.recordings) == 1
    for name, share in rows.items():
        say(console, f"{name:14}{_short(share) if alone else _text(share)}")
    if alone:
        say(console, "one recording has no interval")
    elif len(result.recordings) < 10:
        say(console, "few recordings: the intervals, which resample them, are rough")
    console.print()
    table = plain_table("class", "parts", "detections", "AP@0.3", "AP@0.5", "F1@25", "accuracy")
    columns = (
        *(result.class_precision([t]) for t in (0.3, 0.5)),
        *(result.class_f1(0.25), result.class_accuracy),
    )
    order = sorted(range(len(result.classes)), key=lambda k: -int(result.parts[k, 0]))
    for k in order[:SHOWN_CLASSES]:
        counts = (str(n) for n in result.parts[k])
        values = (_short(column[k]) for column in columns)
        table.add_row(Text(result.classes[k]), *counts, *values)
    console.print(table)
    if len(order) > SHOWN_CLASSES:
        say(console, f"… and {len(order) - SHOWN_CLASSES} classes more; --json lists all")


def _text(share: Share) -> str:
    return "-" if math.isnan(share.value) else str(share)


def _short(share: Share) -> str:
    return "-" if math.isnan(share.value) else f"{share.value:.1%}"
