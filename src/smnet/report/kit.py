"""The building blocks of every page: one look, one file, without network, for screens and phones.

A page is a title and sections, and a section is HTML that the functions here make. They escape what
they are given. Names are text in any script, and nothing is drawn with fonts of its own.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smnet.files import WRITTEN_BY

COLOURS = tuple(f"var(--c{k})" for k in range(1, 7))
"""Colours of the series of a chart, in both themes."""
MOST_IN_MATRIX = 40
"""Classes of the largest confusion matrix that is drawn."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--page:#f6f7f9;--card:#fff;
--line:#dfe3e8;--good:#1a7f37;--bad:#b42318;--c1:#1668c7;--c2:#c7501a;--c3:#2a8a3e;--c4:#7d3cb5;
--c5:#a8820a;--c6:#b03a77;--shade:22,104,199}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa6b5;--page:#12161c;--card:#1a2029;
--line:#303a47;--good:#4cc26b;--bad:#ff7b6e;--c1:#5aa2f2;--c2:#f08a55;--c3:#62c478;--c4:#b98bea;
--c5:#d9b648;--c6:#e683b4;--shade:74,144,226}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0}
main{max-width:1160px;margin:0 auto;padding:24px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:32px 0 8px}p{margin:6px 0}.soft{color:var(--soft)}
.row{display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;
max-width:100%}.wide{overflow-x:auto}
.fact b{display:block;font-size:24px;line-height:1.2}.fact{min-width:130px}
table{border-collapse:collapse}td,th{padding:5px 12px;text-align:right;
border-bottom:1px solid var(--line);white-space:nowrap}th{font-weight:600}
td:first-child,th:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere}
.matrix td{min-width:26px;height:26px;padding:0 3px;text-align:center;font-size:12px;
border:1px solid var(--line)}.matrix th{font-weight:400;font-size:12px;border:0;padding:0 8px 0 0;
text-align:right;white-space:nowrap}.matrix tr:first-child th{text-align:center;padding:0 0 4px}
.bars{display:grid;grid-template-columns:minmax(70px,auto) minmax(80px,1fr) auto;gap:3px 10px;
align-items:center;width:100%;max-width:720px}.bars i{display:block;height:14px;border-radius:3px;
background:var(--c1);min-width:1px}.bars div{background:var(--line);border-radius:3px}
.bars span{overflow-wrap:anywhere}.bars em{font-style:normal;color:var(--soft);font-size:13px}
svg{max-width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}
figure{margin:0}figcaption{font-size:13px}.key{display:inline-block;width:12px;height:3px;
vertical-align:middle;margin-right:5px}
.clip{width:216px}.clip video,.clip img{width:100%;height:190px;object-fit:contain;
background:#000;border-radius:6px;display:block}.clip.two{width:474px}.clip.two video{height:auto}
.clip p{font-size:13px;overflow-wrap:anywhere}
.good{color:var(--good)}.bad{color:var(--bad)}
pre{overflow-x:auto;margin:6px 0;font-size:13px}ul{padding-left:20px;margin:6px 0}
@media(max-width:560px){main{padding:14px}.clip{width:calc(50% - 8px)}.clip video,.clip img
{height:140px}td,th{padding:5px 8px}}
"""


def page(title: str, sections: Iterable[str], intro: str = "", style: str = "") -> str:
    """A whole page.

    Args:
        title: of the page.
        sections: HTML of :func:`section` and the other functions; empty ones are left out.
        intro: a sentence below the title.
        style: further CSS.
    """
    first = f"<p>{text(intro)}</p>" if intro else ""
    body = "\n".join([f'<h1 dir="auto">{text(title)}</h1>{first}', *filter(None, sections)])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="generator" content="{WRITTEN_BY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def text(content: object) -> str:
    """Text, escaped for HTML."""
    return html.escape(str(content))


def section(title: str, *content: str, note: str = "") -> str:
    """A heading with its content; nothing without content."""
    filled = [part for part in content if part]
    if not filled:
        return ""
    return f"<h2>{text(title)}</h2>{f'<p>{text(note)}</p>' if note else ''}{''.join(filled)}"


def row(*cards: str) -> str:
    """Cards beside each other, or below where the screen is narrow; nothing without cards."""
    filled = "".join(cards)
    return f'<div class="row">{filled}</div>' if filled else ""


def paragraph(content: str) -> str:
    """A paragraph."""
    return f"<p>{text(content)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list; nothing without lines."""
    items = "".join(f'<li dir="auto">{text(line)}</li>' for line in lines)
    return f'<ul class="card" style="padding-left:32px">{items}</ul>' if items else ""


def command(words: str) -> str:
    """A command line."""
    return f'<pre class="card"><code>{text(words)}</code></pre>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Large numbers with their meaning: (value, meaning)."""
    cards = [f'<div class="fact card"><b>{text(v)}</b>{text(m)}</div>' for v, m in pairs]
    return row(*cards)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    top = "".join(f"<th>{text(head)}</th>" for head in heads)
    lines = (
        "<tr>" + "".join(f'<td dir="auto">{text(cell)}</td>' for cell in cells) + "</tr>"
        for cells in rows
    )
    return f'<div class="card wide"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def bars(rows: Iterable[tuple[str, float, str]]) -> str:
    """Horizontal bars: (name, share in [0, 1], text at the right)."""
    lines = [
        f'<span dir="auto">{text(name)}</span>'
        f'<div><i style="width:{100 * min(max(share, 0.0), 1.0):.1f}%"></i></div>'
        f"<em>{text(beside)}</em>"
        for name, share, beside in rows
        if not math.isnan(share)
    ]
    return f'<div class="bars card">{"".join(lines)}</div>' if lines else ""


class Series(NamedTuple):
    """A line of a chart: its name and its points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(
    caption: str,
    series: Sequence[Series],
    *,
    top: float | None = None,
    low: float = 0.0,
    percent: bool = False,
    span: tuple[float, float] | None = None,
    percent_x: bool = False,
    diagonal: bool = False,
    dots: bool = False,
) -> str:
    """Lines as inline SVG; nothing without points.

    Args:
        caption: below the chart.
        series: the lines.
        top: end of the axis of y; None fits the points.
        low: start of the axis of y.
        percent, percent_x: whether values are shares.
        span: ends of the axis of x; None fits the points.
        diagonal: whether to draw where y equals x.
        dots: whether to mark the points.
    """
    points = [p for s in series for p in s.points if math.isfinite(p[1])]
    if not points:
        return ""
    width, height, left, bottom, margin = 480, 240, 44, 26, 12
    highest = top or max(max(y for _, y in points) * 1.05, low + 1e-9)
    digits = max(2, 1 - math.floor(math.log10(highest - low)))
    first, last = span or (min(x for x, _ in points), max(x for x, _ in points))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / max(last - first, 1e-9)
        up = min((y - low) / (highest - low), 1.0)
        return (
            left + (width - left - margin) * across,
            margin + (height - bottom - margin) * (1 - up),
        )

    parts = []
    for k in range(5):
        value = low + (highest - low) * k / 4
        y = place(first, value)[1]
        label = f"{value:.0%}" if percent else f"{value:.{digits}f}"
        parts.append(
            f'<line x1="{left}" x2="{width - margin}" y1="{y:.1f}" y2="{y:.1f}"'
            f' stroke="var(--line)"/><text x="{left - 6}" y="{y + 4:.1f}"'
            f' text-anchor="end">{label}</text>'
        )
    ends = (first, (first + last) / 2, last)
    ticks = ends if span or last - first < 2 else sorted({first, float(round(ends[1])), last})
    for tick in ticks:
        label = f"{tick:.0%}" if percent_x else f"{tick:g}"
        x = place(tick, 0)[0]
        anchor = "end" if tick == last else "middle"  # or the last label leaves the picture
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="{anchor}">{label}</text>')
    if diagonal:
        (x1, y1), (x2, y2) = place(0, 0), place(1, 1)
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--soft)"'
            ' stroke-dasharray="4 4"/>'
        )
    for one, colour in zip(series, COLOURS, strict=False):
        places = [place(x, y) for x, y in one.points if math.isfinite(y)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if dots:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places
            ]
    keys = " &nbsp; ".join(
        f'<span class="key" style="background:{colour}"></span>{text(one.name)}'
        for one, colour in zip(series, COLOURS, strict=False)
        if one.name
    )
    return (
        f'<figure class="card"><svg viewBox="0 0 {width} {height}" width="{width}" role="img"'
        f' aria-label="{text(caption)}">{"".join(parts)}</svg>'
        f"<figcaption>{text(caption)}{': ' if keys else ''}{keys}</figcaption></figure>"
    )


def matrix(counts: NDArray[np.int64], names: Sequence[str], caption: str = "") -> str:
    """A confusion matrix: rows are the true classes, columns the predicted ones.

    Nothing above :data:`MOST_IN_MATRIX` classes.
    """
    if len(names) > MOST_IN_MATRIX:
        return ""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    header = "".join(f'<th title="{text(name)}">{k + 1}</th>' for k, name in enumerate(names))
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, other in enumerate(names):
            ink = ";color:#fff" if shares[i, j] > 0.6 else ""
            hint = text(f"{name} → {other}: {counts[i, j]}")
            cells.append(
                f'<td style="background:rgba(var(--shade),{shares[i, j]:.2f}){ink}" title="{hint}">'
                f"{counts[i, j] or ''}</td>"
            )
        rows.append(f'<tr><th dir="auto">{text(name)} &nbsp;{i + 1}</th>{"".join(cells)}</tr>')
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="card wide"><table class="matrix"><tr><th></th>{header}</tr>'
        f"{''.join(rows)}</table>{below}</figure>"
    )


def clip(video: bytes, *lines: str, mime: str = "video/mp4", wide: bool = False) -> str:
    """A clip that plays in a loop, with lines of HTML below it; ``wide`` for two side by side."""
    data = base64.b64encode(video).decode("ascii")
    below = "".join(f'<p dir="auto">{line}</p>' for line in lines)
    return (
        f'<div class="clip{" two" if wide else ""} card"><video autoplay loop muted playsinline'
        ' onmouseenter="this.controls=true" onmouseleave="this.controls=false"'
        f' src="data:{mime};base64,{data}"></video>{below}</div>'
    )


def picture(data: bytes, caption: str) -> str:
    """A picture (PNG) in its own size, which scrolls where the screen is narrow."""
    source = base64.b64encode(data).decode("ascii")
    return (
        f'<figure class="card wide"><img style="display:block" alt="{text(caption)}"'
        f' src="data:image/png;base64,{source}"><figcaption>{text(caption)}</figcaption></figure>'
    )


def verdict(content: str, right: bool) -> str:
    """A name in green or red."""
    return f'<span class="{"good" if right else "bad"}">{text(content)}</span>'
