"""Timelines of many recordings in a folder: one table, resumed, and files for other programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnet.corpus.folder import Folder
from smnet.corpus.items import Item
from smnet.corpus.run import Found, Summary, Task, complete, settings_of
from smnet.data.addresses import is_url
from smnet.data.loading.views import Damage
from smnet.data.packed.storage import arrow
from smnet.data.workers.pool import TIME_LIMIT
from smnet.errors import UserError
from smnet.files import check_outputs
from smnet.inference.backends import score_each
from smnet.inference.pipeline import Read, Rows, in_batches
from smnet.inference.recordings import read_windows
from smnet.inference.utilisation import Utilisation
from smnet.system import available_cores
from smnet.timeline.curves import Curves
from smnet.timeline.run import Settings, make_timeline
from smnet.timeline.writers import check_form, write_timeline

TABLE = "timelines.parquet"


def timelines_into(
    chosen: Settings,
    checkpoint: str,
    words: Sequence[str],
    out: str,
    to: str = "",
    *,
    timeout: float = TIME_LIMIT,
    share: tuple[int, int] = (0, 1),
    retry: bool = False,
    overwrite: bool = False,
) -> Summary:
    """Make the timelines that are missing in a folder, see :func:`smnet.corpus.run.complete`.

    Args:
        chosen: how.
        checkpoint: the file of the network, which identifies the timelines.
        words: see :func:`smnet.corpus.items.list_items`.
        out: the folder.
        to: forms of files beside the table, separated by commas, see
            :data:`smnet.timeline.writers.FORMS`.
        timeout: seconds for decoding some frames.
        share: see :func:`smnet.corpus.run.run_corpus`.
        retry: try unreadable files again.
        overwrite: make all timelines again.

    Raises:
        UserError: as :func:`smnet.corpus.run.complete`; or an unknown form, or two recordings whose
            files would have one name.
    """
    forms = [f".{form.strip().lower().removeprefix('.')}" for form in to.split(",") if form.strip()]
    for form in forms:
        check_form(f"timeline{form}")
    if forms and is_url(out):
        raise UserError(f"--out {out}: files beside the table are local; leave out --to")
    used = Utilisation(threads=min(available_cores(), 8))
    summary = Summary(used=used)
    stems: dict[str, Path] = {}
    fresh = not Folder(out).names("*/run.json")

    def named(items: Iterator[Item]) -> Iterator[Item]:
        listed = list(items)
        paths = [item.path for item in listed]
        stems.update(zip(paths, file_stems(paths, Path(out)), strict=True))
        if fresh:
            there = [path for item in listed for path in files(item) if path.exists()]
            check_outputs({f"--out {path}": path for path in there}, paths, overwrite)
        return iter(listed)

    def files(item: Item) -> list[Path]:
        return [(stem := stems[item.path]).with_name(stem.name + form) for form in forms]

    def found(items: Iterator[Item]) -> Iterator[Found]:
        for item, read, curves in curves_of(chosen, items, used, timeout):
            if curves is None:
                yield item, read, {}
                continue
            timeline = make_timeline(curves, chosen.rule)
            for path in files(item):
                write_timeline(path, timeline)
            segments = [
                {"start": s.start, "end": s.end, "label": s.label, "score": s.score}
                for s in timeline.segments
            ]
            yield item, read, {"duration": curves.duration, "segments": segments}

    def made(item: Item) -> bool:
        return not overwrite and all(path.exists() for path in files(item))

    complete(
        timeline_task(chosen, checkpoint),
        words,
        out,
        summary,
        found,
        share=share,
        retry=retry,
        expand=named if forms else iter,
        made=made,
    )
    return summary


def timeline_task(chosen: Settings, checkpoint: str) -> Task:
    """A row per recording: its duration and its segments, in seconds."""
    pa = arrow()
    names = ("start", "end", "score")
    segment = pa.struct([*((n, pa.float64()) for n in names), ("label", pa.string())])
    columns = [
        pa.field("duration", pa.float64()),
        pa.field("segments", pa.list_(segment)),
        pa.field("damage", pa.int32()),
    ]
    times = {"window": chosen.window, "every": chosen.every, "rule": asdict(chosen.rule)}
    return Task(columns, settings_of("timeline", checkpoint, chosen.plan, **times), TABLE)


def curves_of(
    chosen: Settings, items: Iterator[Item], used: Utilisation, timeout: float
) -> Iterator[tuple[Item, Read, Curves | None]]:
    """The curves of recordings, several of which are decoded at once, as they are complete."""

    def scored(views: NDArray[np.uint8]) -> Rows:
        judged = score_each(chosen.backend, views)
        return [{"scores": row} for row in judged.scores], judged.problems

    spec = chosen.backend.spec
    classes = spec.class_names or tuple(map(str, range(spec.num_classes)))
    tasks = ((item, (chosen.window, chosen.every)) for item in items)
    windows = read_windows(chosen.backend, chosen.plan, tasks, used.threads, timeout)
    rows: dict[Item, NDArray[np.float32]] = {}
    reasons: dict[Item, str] = {}  # why windows have no scores
    with closing(windows):
        for window, read, values in in_batches(windows, chosen.batch, scored, used):
            item, recording = window.item, window.recording
            if recording is not None and item not in rows:
                rows[item] = np.zeros((len(recording.spans), len(classes)), np.float32)
            if window.number is not None:
                if values:
                    rows[item][window.number] = values["scores"]
                elif read.stage == "scoring":
                    reasons[item] = read.reason
                continue
            scores, reason = rows.pop(item, None), reasons.pop(item, "")
            if read.stage or recording is None or scores is None:
                yield item, read, None
                continue
            if not np.isfinite(scores).all():
                reason = "the model's scores are not finite numbers"
            if reason:
                yield item, Read("scoring", f"{item.path}: {reason}"), None
                continue
            yield (
                item,
                read,
                Curves(
                    item.path,
                    recording.duration,
                    recording.fps,
                    chosen.window,
                    chosen.every,
                    classes,
                    recording.spans.mean(axis=1),
                    scores,
                    Damage(read.damage),
                ),
            )


def file_stems(videos: Sequence[str], folder: Path) -> list[Path]:
    """Names of results below a folder: those of the videos below their common folder.

    Raises:
        UserError: two videos differ in the suffix only.
    """
    paths = [Path(video.partition("://")[2] or video).absolute() for video in videos]
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    stems = [folder / path.relative_to(common).with_suffix("") for path in paths]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        same = [video for video, stem in zip(videos, stems, strict=True) if stem == twice[0]]
        raise UserError(
            f"{' and '.join(same)} differ in the suffix only, so their results would have one name;"
            " run the command for each"
        )
    return stems
