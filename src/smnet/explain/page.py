"""An explanation as a page, and as sections for other pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smnet.explain.checks import compare
from smnet.explain.draw import RATE, mask_strip, png, strip, video_frames
from smnet.explain.run import Explained
from smnet.report import kit
from smnet.report.clips import encode


def explanation_page(found: Sequence[Explained], command: str = "") -> str:
    """The page as HTML. Names are escaped.

    Args:
        found: explanations of one clip by one or more networks.
        command: repeats it.
    """
    first = found[0]
    facts = [(f"{one.score:.0%}", f"{one.label}, by {one.name}") for one in found]
    return kit.page(
        f"Why {first.question}?",
        [
            kit.facts(facts),
            *sections(found),
            kit.section("Repeat it", kit.command(command) if command else ""),
        ],
        first.evidence.path,
    )


def sections(found: Sequence[Explained]) -> list[str]:
    """The sections of a page: where and when, the order of the frames, the modules, the checks."""
    return [
        kit.section(
            "Where and when",
            kit.row(
                *map(_clip, found),
                _curves(found),
                kit.picture(png(strip([one.shown for one in found])), "evidence of each frame"),
            ),
            note="Orange speaks for the class, blue against it. "
            + " ".join(dict.fromkeys(one.evidence.meaning for one in found)),
        ),
        kit.section(
            "Scores",
            kit.row(*map(_scores, found)),
            note=" ".join(_named(found, one, f"{one.sum_line}.") for one in found),
        ),
        kit.section(
            "Does the order of the frames matter?",
            kit.row(*map(_order, found), *_single_frames(found)),
            note=" ".join(_named(found, one, one.order.verdict) for one in found),
        ),
        *(_attention(one) for one in found if one.attention),
        kit.section(
            "Checks of the map",
            *(_checks(one) for one in found if one.checks is not None),
            note="Random weights must change the map. Deletion blurs the cells in the order of"
            " their evidence, insertion restores them; the area under the score should be low, or"
            " high. Intervals are those of random orders.",
        )
        if any(one.checks for one in found)
        else "",
    ]


def mistakes_section(found: Sequence[Explained]) -> str:
    """A section of a report: why each of several clips was mistaken."""
    rows = [
        kit.row(
            _clip(one),
            kit.picture(png(strip([one.shown])), f"{one.evidence.path}: {one.question}"),
            kit.paragraph(kit.text(one.order.verdict)),
        )
        for one in found
    ]
    return kit.section(
        "Why these mistakes",
        *rows,
        note="Orange speaks for the predicted class, blue for the true one.",
    )


def _named(found: Sequence[Explained], one: Explained, line: str) -> str:
    return f"{one.name}: {line}" if len(found) > 1 and line else line


def _clip(one: Explained) -> str:
    video = encode(list(video_frames(one.shown)), RATE)
    return kit.clip(video, f"<b>{kit.text(one.name)}</b>", wide=True)


def _curves(found: Sequence[Explained]) -> str:
    """The evidence over frames of every network."""
    series = []
    for one in found:
        curve = one.evidence.curve(one.label, one.against).tolist()
        step = len(one.evidence.frames) / len(curve)  # some networks halve the frames
        name = one.name if len(found) > 1 else ""
        series.append(kit.Series(name, [(1 + k * step, y) for k, y in enumerate(curve)]))
    values = [y for line in series for _, y in line.points]
    low = min(0.0, 1.05 * min(values))
    return kit.chart("evidence of each frame", series, low=low, dots=True)


def _scores(one: Explained) -> str:
    rows = [[name, f"{score:.1%}", f"{value:.3f}"] for name, score, value in one.top]
    return kit.table([one.name, "score", "logit"], rows)


def _order(one: Explained) -> str:
    return kit.table([one.name, "score", "change"], one.order.rows)


def _single_frames(found: Sequence[Explained]) -> list[str]:
    """Charts of the scores without each frame, and of each frame alone."""
    charts = []
    for caption, name in (
        ("score without each frame", "left_out"),
        ("score of each frame repeated", "frozen"),
    ):
        series = []
        for one in found:
            scores = getattr(one.order, name).tolist()
            line = [(k + 1, score) for k, score in enumerate(scores)]
            series.append(kit.Series(one.name if len(found) > 1 else "", line))
        charts.append(kit.chart(caption, series, top=1.0, percent=True, dots=True))
    return charts


def _attention(one: Explained) -> str:
    frames = one.evidence.frames
    pictures = [
        kit.picture(png(mask_strip(frames, part.mask)), f"{part.stage}: {_range(part.mask)}")
        for part in one.attention
        if part.mask is not None and len(part.mask) == len(frames)
    ]
    series = [
        kit.Series(part.stage, [(k + 1, y) for k, y in enumerate(part.response.tolist())])
        for part in one.attention
        if part.gates is not None
    ]
    return kit.section(
        f"Inside {one.name}",
        kit.row(
            *pictures,
            kit.chart("distance of ME's gates from their mean over time", series, dots=True),
        ),
        note="SE's spatial masks of each stage, from dark (least) to light (most), and how far the"
        " motion gates of each frame are from their mean, over all channels.",
    )


def _range(mask: NDArray[np.float32]) -> str:
    return f"masks from {mask.min():.2f} to {mask.max():.2f}"


def _checks(one: Explained) -> str:
    assert one.checks is not None
    rows = [row.row for row in compare([one.checks])]
    table = kit.table([one.name, "evidence", "baseline", "gain [95 %]"], rows)
    return kit.bullets(one.check_lines) + table
