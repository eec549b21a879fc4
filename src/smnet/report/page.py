"""The report of the demo: one HTML file with curves, confusion matrices and clips embedded."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smnet.evaluation.results import Evaluation
from smnet.inference.recognizer import Prediction

COLOURS = ("#1668c7", "#c7501a", "#2a8a3e", "#7d3cb5")


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


def report_page(title: str, intro: str, models: Sequence[Trained], clips: Sequence[Sample]) -> str:
    """The page as HTML. Names are escaped; videos are embedded."""
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(intro)}</p>",
        _numbers(models),
        "<h2>Training</h2>",
        '<div class="row">'
        + _chart("validation top-1", models, 2, top=1.0, percent=True)
        + _chart("training loss", models, 1)
        + "</div>",
        "<h2>Confusion matrices</h2>",
        "<p>Rows are the true class, columns the predicted one. The two classes of a pair differ in"
        " the order of the frames alone; a model that ignores the order confuses them.</p>",
        '<div class="row">' + "".join(_matrix(m) for m in models) + "</div>",
        "<h2>Held-out clips</h2>",
        '<div class="row">' + "".join(_clip(c) for c in clips) + "</div>",
    ]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2430;background:#f6f7f9;margin:0}
main{max-width:1160px;margin:0 auto;padding:24px}
h1{font-size:26px;margin:0 0 4px} h2{font-size:19px;margin:32px 0 8px}
table{border-collapse:collapse} .row{display:flex;flex-wrap:wrap;gap:20px}
.card{background:#fff;border:1px solid #dfe3e8;border-radius:8px;padding:12px}
.numbers td,.numbers th{padding:6px 14px;text-align:right;border-bottom:1px solid #e6e9ed}
.numbers th:first-child,.numbers td:first-child{text-align:left}
.matrix td{width:25px;height:25px;text-align:center;font-size:12px;border:1px solid #eef0f2}
.matrix th{font-weight:400;font-size:12px;text-align:right;padding-right:8px;white-space:nowrap}
.matrix .top th{vertical-align:bottom;padding:0 0 4px;height:14px;text-align:center}
video{width:240px;height:240px;border-radius:6px;background:#000;display:block}
.clip{width:240px}.clip p{margin:6px 0 0;font-size:13px}
.right{color:#1a7f37}.wrong{color:#b42318} .key{display:inline-block;width:12px;height:3px;
vertical-align:middle;margin-right:5px} figcaption{font-size:13px} figure{margin:0}
"""


def _numbers(models: Sequence[Trained]) -> str:
    rows = []
    for m in models:
        top1, mean = m.result.top(1), m.result.mean_class
        cells = [m.name, str(top1), f"{mean.value:.1%}", *m.cost.values()]
        rows.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>")
    heads = ["model", "top-1 [95 % interval]", "mean class", *models[0].cost]
    header = "".join(f"<th>{html.escape(h)}</th>" for h in heads)
    clips = len(models[0].result.labels)
    return (
        f'<table class="numbers card"><tr>{header}</tr>{"".join(rows)}</table>'
        f"<p>{clips} held-out clips, {len(models[0].result.classes)} classes, one view each.</p>"
    )


def _chart(
    caption: str,
    models: Sequence[Trained],
    column: int,
    top: float | None = None,
    percent: bool = False,
) -> str:
    """One line per model over the epochs, as inline SVG."""
    width, height, left, bottom, margin = 480, 240, 44, 26, 12
    highest = top or max((row[column] for m in models for row in m.curve), default=1.0) * 1.05
    last = max((row[0] for m in models for row in m.curve), default=1)

    def x(epoch: float) -> float:
        return left + (width - left - margin) * (epoch - 1) / max(last - 1, 1)

    def y(value: float) -> float:
        return margin + (height - bottom - margin) * (1 - min(value / highest, 1.0))

    parts = []
    for k in range(5):
        value = highest * k / 4
        text = f"{value:.0%}" if percent else f"{value:.2f}"
        parts.append(
            f'<line x1="{left}" x2="{width - margin}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
            f' stroke="#e6e9ed"/><text x="{left - 6}" y="{y(value) + 4:.1f}" font-size="11"'
            f' text-anchor="end" fill="#5b6675">{text}</text>'
        )
    parts += [
        f'<text x="{x(epoch):.1f}" y="{height - 8}" font-size="11" text-anchor="middle"'
        f' fill="#5b6675">{epoch}</text>'
        for epoch in sorted({1, (1 + last) // 2, last})
    ]
    for m, colour in zip(models, COLOURS, strict=False):
        points = " ".join(f"{x(row[0]):.1f},{y(row[column]):.1f}" for row in m.curve)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
    keys = " &nbsp; ".join(
        f'<span class="key" style="background:{colour}"></span>{html.escape(m.name)}'
        for m, colour in zip(models, COLOURS, strict=False)
    )
    return (
        f'<figure class="card"><svg viewBox="0 0 {width} {height}" width="{width}" role="img"'
        f' aria-label="{html.escape(caption)} over epochs">{"".join(parts)}</svg>'
        f"<figcaption>{html.escape(caption)} over epochs: {keys}</figcaption></figure>"
    )


def _matrix(model: Trained) -> str:
    matrix = model.result.confusion
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = model.result.classes
    header = "".join(
        f'<th title="{html.escape(name)}">{k + 1}</th>' for k, name in enumerate(names)
    )
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, other in enumerate(names):
            share = shares[i, j]
            blue = f"rgb({round(255 - 220 * share)},{round(255 - 150 * share)},255)"
            ink = "#fff" if share > 0.6 else "#1c2430"
            hint = html.escape(f"{name} → {other}: {matrix[i, j]}")
            text = matrix[i, j] or ""
            cells.append(f'<td style="background:{blue};color:{ink}" title="{hint}">{text}</td>')
        rows.append(f"<tr><th>{html.escape(name)} &nbsp;{i + 1}</th>{''.join(cells)}</tr>")
    return (
        f'<figure class="card"><table class="matrix"><tr class="top"><th></th>{header}</tr>'
        f"{''.join(rows)}</table><figcaption>{html.escape(model.name)}: top-1"
        f" {model.result.top(1).value:.1%}</figcaption></figure>"
    )


def _clip(sample: Sample) -> str:
    data = base64.b64encode(sample.path.read_bytes()).decode("ascii")
    lines = []
    for name, prediction in sample.predictions.items():
        kind = "right" if prediction.label == sample.label else "wrong"
        verdict = f'<span class="{kind}">{html.escape(prediction.label)}</span>'
        lines.append(f"<p>{html.escape(name)}: {verdict} {prediction.score:.0%}</p>")
    return (
        '<div class="clip card"><video autoplay loop muted playsinline'
        ' onmouseenter="this.controls=true" onmouseleave="this.controls=false"'
        f' src="data:video/mp4;base64,{data}"></video>'
        f"<p><b>{html.escape(sample.label)}</b></p>{''.join(lines)}</div>"
    )
