"""The timeline as a page: player, a lane per class, curves, a list of segments. Works offline."""

from __future__ import annotations

import base64
import html
import json
import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from smnet.console import clock, plural
from smnet.evaluation.detection import Segment
from smnet.inference.decision import BACKGROUND
from smnet.report import kit
from smnet.timeline.segments import Timeline, smoothed

_POINTS = 1500  # of a curve
_LANES = 60
_WIDTH, _HEIGHT = 1000, 40  # of a lane, in its own units
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def timeline_page(timeline: Timeline, path: Path | None = None) -> str:
    """The page as HTML. Names are escaped.

    Args:
        timeline: the timeline.
        path: of the page, from which the page names the video; None embeds the video.
    """
    title = Path(timeline.curves.path).name
    return kit.page(title, timeline_sections(timeline, path), describe(timeline), STYLE)


def describe(timeline: Timeline) -> str:
    """Length, windows and number of segments in one line."""
    curves = timeline.curves
    labels = {s.label for s in timeline.segments}
    return (
        f"{clock(curves.duration)}; windows of {curves.window:.3g} s every {curves.every:.3g} s;"
        f" {plural(len(timeline.segments), 'segment')} of {plural(len(labels), 'label')}"
    )


def timeline_sections(timeline: Timeline, path: Path | None = None) -> list[str]:
    """Player, lanes, list and script, for one place on a page with :data:`STYLE`."""
    curves = timeline.curves
    names = {s.label for s in timeline.segments}
    shown = [name for name in curves.classes if name in names]
    kept = [s for s in timeline.segments if s.label in shown[:_LANES]]
    values = [{"start": s.start, "end": s.end, "score": s.score} for s in kept]
    script = SCRIPT.replace("DURATION", json.dumps(curves.duration))
    script = script.replace("SEGMENTS", json.dumps(values, allow_nan=False))
    return [
        _player(_source(curves.path, path)),
        _lanes(timeline, kept, shown),
        kit.section("Segments", _list(kept)),
        f"<script>{script}</script>",
    ]


def _player(source: str) -> str:
    return (
        '<div class="card player"><video controls playsinline preload="metadata"'
        f' src="{html.escape(source)}"></video><p class="broken" hidden>This browser does not play'
        " the video. The lanes below need no player.</p></div>"
    )


def _lanes(timeline: Timeline, kept: Sequence[Segment], shown: Sequence[str]) -> str:
    lanes = "".join(
        _lane(timeline, kept, name, _colour(number)) for number, name in enumerate(shown[:_LANES])
    )
    others = [n for n in timeline.curves.classes if n not in shown[:_LANES] and n != BACKGROUND]
    note = ""
    if others:
        more = ", …" if others[_LANES:] else ""
        what = "Not shown" if shown[_LANES:] else "Not detected"
        note = f'<p class="none">{what}: {html.escape(", ".join(others[:_LANES]))}{more}</p>'
    return (
        '<div class="card"><div class="controls"><label>score at least <input type="range"'
        ' id="least" min="0" max="1" step="0.01" value="0"/> <output id="value">0.00</output>'
        '</label><label><input type="checkbox" id="curves" checked/> curves</label></div>'
        f'<div class="lanes" id="lanes">{lanes}{_axis(timeline.curves.duration)}'
        f'<div id="head"></div></div>{note}</div>'
    )


def _list(kept: Sequence[Segment]) -> str:
    rows = "".join(
        f'<tr data-segment="{number}"><td><button type="button">{clock_of(s.start)}</button></td>'
        f"<td>{clock_of(s.end)}</td><td>{html.escape(s.label)}</td><td>{s.score:.2f}</td></tr>"
        for number, s in enumerate(kept)
    )
    return (
        '<div class="card list"><table><tr><th>start</th>'
        f"<th>end</th><th>label</th><th>score</th></tr>{rows}</table></div>"
    )


def clock_of(seconds: float) -> str:
    """0:02.4, 12:05.0 or 1:02:05.0."""
    minutes, rest = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02}.{rest % 10}"
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"


def _source(video: str, page: Path | None) -> str:
    if page is None:
        kind = mimetypes.guess_type(video)[0] or "video/mp4"
        return f"data:{kind};base64,{base64.b64encode(Path(video).read_bytes()).decode()}"
    relative = os.path.relpath(Path(video).absolute(), page.absolute().parent)
    return quote(Path(relative).as_posix())


def _colour(number: int) -> str:
    """Distinct hues: multiples of the golden angle."""
    return f"hsl({round(210 + 137.508 * number) % 360} 62% 48%)"


def _lane(timeline: Timeline, kept: Sequence[Segment], name: str, colour: str) -> str:
    curves = timeline.curves
    column = smoothed(curves, timeline.rule.smooth)[:, curves.classes.index(name)]
    scale = _WIDTH / curves.duration
    rectangles = "".join(
        f'<rect data-segment="{number}" x="{s.start * scale:.2f}" y="0"'
        f' width="{max((s.end - s.start) * scale, 1):.2f}" height="{_HEIGHT}" fill="{colour}">'
        f"<title>{html.escape(s.label)} {clock_of(s.start)} to {clock_of(s.end)},"
        f" {s.score:.2f}</title></rect>"
        for number, s in enumerate(kept)
        if s.label == name
    )
    points = " ".join(
        f"{t * scale:.1f},{_HEIGHT * (1 - v):.1f}" for t, v in _thinned(curves.times, column)
    )
    return (
        f'<div class="lane"><div class="name" title="{html.escape(name)}"><i style="background:'
        f'{colour}"></i>{html.escape(name)}</div><svg viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' preserveAspectRatio="none" role="img" aria-label="{html.escape(name)}">{rectangles}'
        f'<polyline points="{points}"/></svg></div>'
    )


def _thinned(times: NDArray[np.float64], values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """At most :data:`_POINTS` points; of each stretch the highest one."""
    step = -(-len(times) // _POINTS)
    chosen = [i + int(values[i : i + step].argmax()) for i in range(0, len(times), step)]
    return [(float(times[i]), float(values[i])) for i in chosen]


def _axis(duration: float) -> str:
    step = next((t for t in _TICKS if duration / t <= 6), 7200)
    ticks = "".join(
        f'<span style="left:{100 * t / duration:.3f}%">{clock_of(t)[:-2]}</span>'
        for t in np.arange(0, duration * 0.97, step).tolist()
    )
    return f'<div class="lane axis"><div class="name"></div><div class="ticks">{ticks}</div></div>'


STYLE = """
.player video{width:100%;height:auto;max-height:56vh;border-radius:6px;background:#000}
.card{margin-top:14px}
.controls{display:flex;flex-wrap:wrap;gap:8px 24px;margin-bottom:10px;font-size:14px}
.controls input{vertical-align:middle}
.lanes{position:relative;--name:260px}
.lane{display:flex;align-items:center;margin:3px 0}
.name{width:var(--name);flex:none;font-size:13px;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap;padding-right:10px}
.name i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
.lane svg{flex:1;min-width:0;height:34px;background:rgba(var(--shade),.1);border-radius:4px;
cursor:pointer}
.lane rect{opacity:.75}.lane rect.now{opacity:1}.lane rect.off,.list tr.off{display:none}
.lane polyline{fill:none;stroke:var(--ink);stroke-width:1.2;vector-effect:non-scaling-stroke;
pointer-events:none}.plain polyline{display:none}
.ticks{position:relative;flex:1;height:18px;font-size:11px;color:var(--soft)}
.ticks span{position:absolute;border-left:1px solid var(--soft);padding-left:3px}
#head{position:absolute;top:0;bottom:18px;width:2px;background:var(--bad);pointer-events:none}
.none{font-size:13px;color:var(--soft)}.list{overflow-x:auto}
.list button{font:inherit;border:0;background:none;color:var(--c1);cursor:pointer;padding:0}
.list tr.now td{background:rgba(var(--shade),.16)}
.list td:nth-child(3),.list th:nth-child(3){text-align:left;white-space:normal}
.list td:first-child,.list th:first-child{white-space:nowrap;overflow-wrap:normal}
@media (max-width:640px){.lane{display:block}.name{width:auto;padding:4px 0 2px}
.lane svg{width:100%}}
"""

SCRIPT = """
const duration = DURATION, segments = SEGMENTS
const video = document.querySelector('video'), lanes = document.getElementById('lanes')
const head = document.getElementById('head'), least = document.getElementById('least')
const marks = segments.map((_, i) => document.querySelectorAll(`[data-segment="${i}"]`))
let moment = 0
function place(time) {
  moment = Math.min(Math.max(time, 0), duration)
  const lane = lanes.querySelector('.ticks')
  head.style.left = `${lane.offsetLeft + lane.offsetWidth * moment / duration}px`
  segments.forEach((s, i) => marks[i].forEach(
    mark => mark.classList.toggle('now', s.start <= moment && moment < s.end)))
}
function seek(time) { video.currentTime = time; place(time) }
lanes.addEventListener('click', event => {
  const lane = event.target.closest('svg')
  if (!lane) return
  const box = lane.getBoundingClientRect()
  seek(duration * (event.clientX - box.left) / box.width)
})
document.querySelectorAll('.list tr[data-segment]').forEach(row =>
  row.querySelector('button').addEventListener('click',
    () => seek(segments[row.dataset.segment].start)))
least.addEventListener('input', () => {
  document.getElementById('value').textContent = Number(least.value).toFixed(2)
  segments.forEach((s, i) => marks[i].forEach(
    mark => mark.classList.toggle('off', s.score < least.value)))
})
document.getElementById('curves').addEventListener('change',
  event => lanes.classList.toggle('plain', !event.target.checked))
function broken() {
  video.hidden = true
  document.querySelector('.broken').hidden = false
}
video.addEventListener('error', broken)
if (video.error) broken()
video.addEventListener('timeupdate', () => place(video.currentTime))
window.addEventListener('resize', () => place(moment))
place(0)
"""
