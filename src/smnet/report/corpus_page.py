"""Pages about many videos: the summary of a run over a corpus, and what a search found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from smnet.data.clips import Clip, Part
from smnet.report import kit
from smnet.report.clips import copy_of

CLASSES = 40
"""Classes of the summary, most frequent first."""
SAMPLES = 3
"""Clips per class, the most and the least certain among them."""
SHOWN = 24
"""Clips of a page at most."""


def summary_page(
    facts: Sequence[tuple[str, str]],
    counts: Mapping[str, int],
    scores: NDArray[np.int64],
    samples: Mapping[str, Sequence[tuple[str, Part | None, float]]],
    reasons: Mapping[str, int],
) -> str:
    """What is in a corpus: counts per class, a histogram of scores, samples, unreadable files.

    Args:
        facts: large numbers with their meaning.
        counts: videos per class.
        scores: histogram of the best scores over equal bins of [0, 1].
        samples: some videos per class: path, part and score.
        reasons: unreadable files per stage and kind of reason.
    """
    most = sorted(counts.items(), key=lambda pair: -pair[1])[:CLASSES]
    top = max([count for _, count in most], default=1)
    total = max(int(scores.sum()), 1)
    width = 1 / len(scores)
    histogram = [
        (f"{bin * width:.0%} to {(bin + 1) * width:.0%}", count / total, f"{count}")
        for bin, count in enumerate(scores.tolist())
    ]
    shown = ((name, *sample) for name, _ in most for sample in samples.get(name, ()))
    return kit.page(
        "Predictions",
        [
            kit.facts(facts),
            kit.section("Classes", kit.bars((n, c / top, str(c)) for n, c in most)),
            kit.section("Scores of the best class", kit.bars(histogram)),
            kit.section("Samples", kit.row(*_clips(shown))),
            kit.section(
                "Unreadable files",
                kit.table(("reason", "files"), [(r, str(n)) for r, n in reasons.items()])
                if reasons
                else "",
                note="All of them are in unreadable.parquet.",
            ),
        ],
    )


def found_page(examples: Sequence[str], matches: Iterable[tuple[str, Part | None, float]]) -> str:
    """The videos that a search found, beside the examples."""
    wanted = (("example", path, None, None) for path in examples)
    found = (("", path, part, score) for path, part, score in matches)
    return kit.page(
        "Videos found",
        [
            kit.section("Like these", kit.row(*_clips(wanted))),
            kit.section("Found", kit.row(*_clips(found)), note="Cosine to the examples."),
        ],
    )


def _clips(
    videos: Iterable[tuple[str, str, Part | None, float | None]],
) -> Iterable[str]:
    for name, path, part, score in islice(videos, SHOWN):
        whole = part or Part()
        video = copy_of(Clip(path, -1, path, start=whole.start, end=whole.end, unit=whole.unit))
        lines = [
            f"<b>{kit.text(name)}</b>" if name else "",
            "" if score is None else f"{score:.3f}",
        ]
        lines.append(kit.text(path.rpartition("/")[2] + (f", {part}" if part else "")))
        if video is not None:
            yield kit.clip(video, *filter(None, lines))
