"""The pages that verbs write: where, and what of a run goes onto them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smnet.errors import UserError

if TYPE_CHECKING:
    from smnet.adapt.run import Adapted
    from smnet.evaluation.results import Evaluation
    from smnet.training.loop import Outcome

NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html.")]
PAGE = "report.html"


def check_page(folder: str | Path) -> Path:
    """The page of a run, checked before the work.

    Raises:
        UserError: a file of another program has its name, or it cannot be written.
    """
    from smnet.files import check_outputs

    page = Path(folder) / PAGE
    try:
        check_outputs({"report": page}, ())
    except UserError as error:
        raise UserError(f"{error}; --no-report writes none") from None
    return page


def written(page: Path) -> None:
    """Say where the page is."""
    typer.echo(f"report: {page}", err=True)


def command() -> str:
    """The command line of this process."""
    return "smnet " + shlex.join(sys.argv[1:])


def train_page(page: Path, outcome: Outcome) -> None:
    """The report of a training run; none without validation clips."""
    from smnet.console import clock
    from smnet.report.results_page import Report, write_report
    from smnet.training.calibration import MEASURED

    result, best = outcome.held_out, outcome.best
    if result is None or best is None:
        return
    rows = _log(outcome.folder)
    again = ""
    if (outcome.folder / MEASURED).exists():
        again = (
            " Afterwards the network was trained again on all clips, these among them; that is"
            " best.safetensors. The network of this page is measured.safetensors."
        )
    training = [row for row in rows if row["kind"] == "train"]
    seconds = sum(row["seconds"] for row in training)
    report = Report(
        f"Training: {outcome.folder.name}",
        result,
        f"The best of {outcome.epoch} epochs, chosen on these validation clips, which makes the"
        f" number somewhat too good.{again} Views {result.views}, sampling {result.sampling}.",
        facts=[(str(best["epoch"]), "best epoch")],
        curve=_curve(rows),
        counts=outcome.train_clips,
        cost={
            "time of training": clock(seconds),
            "clips per second": f"{training[-1]['clips_per_second']:.1f}" if training else "-",
            "waiting for data": f"{training[-1]['waiting']:.0%}" if training else "-",
            "checkpoint": str(outcome.checkpoint),
        },
        command=command(),
    )
    write_report(page, report)
    written(page)


def evaluate_page(
    page: Path, result: Evaluation, checkpoints: Iterable[str], data: str, why: Sequence[str] = ()
) -> None:
    """The report of an evaluation, with the sections ``why``."""
    from smnet.report.results_page import Report, write_report

    names = ", ".join(checkpoints)
    protocol = f"{names} on {data}: views {result.views}, sampling {result.sampling}."
    title = f"Evaluation of {names}"
    write_report(page, Report(title, result, protocol, command=command(), sections=why))
    written(page)


def adapt_page(page: Path, found: Adapted, seconds: float) -> None:
    """The report of an adaptation."""
    from smnet.console import clock
    from smnet.report.results_page import Report, Suspect, write_report

    also = {
        "probe, cross-validated": found.crossed,
        "probe, validation clips": found.probe,
        "fine-tuned, validation clips": found.tuned,
    }
    crossed, names = found.crossed, found.crossed.classes
    suspects = [
        Suspect(crossed.clips[i], names[crossed.labels[i]], names[k], score)
        for i, k, score in found.suspects
    ]
    by_folds = found.result is crossed
    measured = "by cross-validation" if by_folds else "on the validation clips"
    report = Report(
        f"Adaptation: {found.folder.name}",
        found.checked(found.result),
        f"{_capital(found.verdict)}. Measured {measured}. {_capital(str(found.calibration))}.",
        curve=_curve(_log(found.folder / "finetune")),
        counts=found.counts,
        suspects=suspects,
        also={name: result for name, result in also.items() if result is not None},
        cost={"time": clock(seconds), "checkpoint": str(found.folder / "best.safetensors")},
        command=command(),
    )
    write_report(page, report)
    written(page)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _log(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [json.loads(line) for line in lines]


def _curve(rows: Iterable[dict[str, Any]]) -> list[tuple[int, float, float]]:
    """(epoch, training loss, validation score) of the epochs that have both."""
    rows = list(rows)
    losses = {row["epoch"]: row["loss"] for row in rows if row["kind"] == "train"}
    scores = {
        row["epoch"]: row.get("map", row["top1"])
        for row in rows
        if row["kind"] == "val" and row["top1"] is not None
    }
    return [(epoch, losses[epoch], scores[epoch]) for epoch in sorted(losses.keys() & scores)]
