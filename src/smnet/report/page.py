"""The report of the demo: one HTML file with curves, confusion matrices and clips embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smnet.evaluation.results import Evaluation
from smnet.inference.recognizer import Prediction
from smnet.report import kit


@dataclass(frozen=True)
class Trained:
    """One model of the comparison: its evaluation on the held-out clips, rows of (epoch, training
    loss, validation top-1), and its costs by their label in the table."""

    name: str
    result: Evaluation
    curve: Sequence[tuple[int, float, float]]
    cost: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """A clip on the page: its file, its true class and the prediction of each model."""

    path: Path
    label: str
    predictions: Mapping[str, Prediction]


def report_page(
    title: str,
    intro: str,
    models: Sequence[Trained],
    clips: Sequence[Sample],
    more: Sequence[str] = (),
    style: str = "",
) -> str:
    """The page as HTML. Names are escaped; videos are embedded.

    Args:
        title, intro: plain text.
        models, clips: what is shown.
        more, style: further sections, and their CSS.
    """
    first = models[0].result
    rows = [
        [m.name, str(m.result.top(1)), f"{m.result.mean_class.value:.1%}", *m.cost.values()]
        for m in models
    ]
    return kit.page(
        title,
        [
            kit.table(["model", "top-1 [95 % interval]", "mean class", *models[0].cost], rows),
            kit.paragraph(
                f"{len(first.labels)} held-out clips, {len(first.classes)} classes, one view each."
            ),
            kit.section(
                "Training",
                kit.row(
                    kit.chart(
                        "validation top-1 over epochs",
                        [kit.Series(m.name, [(e, top1) for e, _, top1 in m.curve]) for m in models],
                        top=1.0,
                        percent=True,
                    ),
                    kit.chart(
                        "training loss over epochs",
                        [kit.Series(m.name, [(e, loss) for e, loss, _ in m.curve]) for m in models],
                    ),
                ),
            ),
            kit.section(
                "Confusion matrices",
                kit.row(
                    *(
                        kit.matrix(
                            m.result.confusion,
                            m.result.classes,
                            f"{m.name}: top-1 {m.result.top(1).value:.1%}",
                        )
                        for m in models
                    )
                ),
                note="Rows are the true class, columns the predicted one. The two classes of a pair"
                " differ in the order of the frames alone; a model that ignores the order confuses"
                " them.",
            ),
            kit.section("Held-out clips", kit.row(*map(_clip, clips))),
            *more,
        ],
        intro,
        style,
    )


def _clip(sample: Sample) -> str:
    lines = [
        f"{kit.text(name)}: {kit.verdict(prediction.label, prediction.label == sample.label)}"
        f" {prediction.score:.0%}"
        for name, prediction in sample.predictions.items()
    ]
    return kit.clip(sample.path.read_bytes(), f"<b>{kit.text(sample.label)}</b>", *lines)
