"""Timelines of recordings, one after another, and their evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from smnet.console import printable, progress_bar
from smnet.data.annotations.classes import match
from smnet.data.annotations.read import read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.clips import Clip, ClipSet
from smnet.data.loading.views import ViewPlan
from smnet.data.loading.windows import frame_times, recording_end
from smnet.data.open import open_video
from smnet.errors import UserError
from smnet.evaluation.detection import Detection, Recording, Segment
from smnet.inference.backends import Backend, plan_views
from smnet.inference.decision import BACKGROUND
from smnet.inference.recognizer import Prediction
from smnet.models.spec import ModelSpec
from smnet.timeline.calibrate import Calibration, calibrate
from smnet.timeline.curves import Curves, RecordingUse, score_recording, window_and_step
from smnet.timeline.segments import Rule, Timeline, find_segments, make_rule


@dataclass(frozen=True)
class Settings:
    """How recordings become timelines.

    Attributes:
        backend, plan: the network and its views.
        window, every: seconds, see :func:`smnet.timeline.curves.window_and_step`.
        rule: from curves to segments.
        batch: windows per batch.
    """

    backend: Backend
    plan: ViewPlan
    window: float
    every: float
    rule: Rule
    batch: int = 8


def settings(
    backend: Backend,
    *,
    views: tuple[int, int] = (1, 1),
    window: float | None = None,
    every: float | None = None,
    calibration: Calibration | None = None,
    batch: int = 8,
    **rule: Any,
) -> Settings:
    """The settings of a network.

    Args:
        backend: the network.
        views: clips x crops that are averaged per window.
        window, every: seconds; None takes those of the calibration, else the network's.
        calibration: limits per class.
        batch: windows per batch.
        rule: see :func:`smnet.timeline.segments.make_rule`. Labels overlap if the network was
            trained on clips with several labels.
    """
    if calibration is not None:
        window, every = window or calibration.window, every or calibration.every
        rule["by_class"] = calibration.limits
    window, every = window_and_step(backend.spec, window, every)
    rule["overlap"] = rule.get("overlap") or backend.spec.several
    made = make_rule(window, **rule)
    return Settings(backend, plan_views(backend, *views), window, every, made, batch)


def make_curves(chosen: Settings, path: str, used: RecordingUse, task: str = "") -> Curves:
    """The curves of one recording, with a progress bar.

    Raises:
        UserError: see :func:`smnet.timeline.curves.score_recording`.
    """
    with progress_bar() as bar:
        row = bar.add_task(task or printable(Path(path).name), total=None, note="")

        def update(done: float, duration: float) -> None:
            speed = f"s, {used.speed:.0f} times real time"
            bar.update(row, completed=int(done), total=int(duration), note=speed)

        return score_recording(
            chosen.backend,
            chosen.plan,
            path,
            chosen.window,
            chosen.every,
            batch=chosen.batch,
            used=used,
            progress=update,
        )


def make_timeline(curves: Curves, rule: Rule) -> Timeline:
    """The timeline of a recording's curves."""
    return Timeline(curves, rule, tuple(find_segments(curves, rule)))


def label_at(timeline: Timeline) -> Callable[[float], Prediction]:
    """The labels of a moment, for :func:`smnet.inference.overlay.write_annotated`."""

    def at(time: float) -> Prediction:
        now = [s for s in timeline.segments if s.start <= time < s.end]
        now.sort(key=lambda s: -s.score)
        labels, scores = tuple(s.label for s in now), tuple(s.score for s in now)
        return Prediction(timeline.curves.path, labels, scores)

    return at


@dataclass(frozen=True)
class Labelled:
    """Recordings with labelled parts.

    Attributes:
        classes: names in the spelling of the network, without the background.
        parts: labelled parts of each recording, by its path.
    """

    classes: tuple[str, ...]
    parts: dict[str, tuple[Segment, ...]]


class Network(Protocol):
    """What recordings are read for: class names, and the split of the training."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def recipe(self) -> Mapping[str, Any]: ...


def read_recordings(source: ClipSource, split: str, network: Network) -> Labelled:
    """The recordings of one split, with their parts.

    Args:
        source: a data set whose clips are parts of recordings.
        split: train, val, test or all.
        network: its class names are used.

    Raises:
        UserError: no parts in this split, or other class names than the network's.
    """
    clip_set = read_clips(source.with_split(network.recipe))
    clips = _clips_of(clip_set, split)
    known = [n for n in network.spec.class_names or () if n != BACKGROUND]
    names = [n for n in clip_set.classes if n != BACKGROUND]
    order = match(known, names).order
    spelled = {name: known[index] for name, index in zip(names, order, strict=True)}
    parts: dict[str, list[Segment]] = {}
    for clip in clips:
        found = parts.setdefault(clip.path, [])
        start, end = _seconds(clip)
        labels = [clip_set.classes[label] for label in clip.labels]
        found += [Segment(start, end, spelled[name]) for name in labels if name != BACKGROUND]
    return Labelled(tuple(spelled.values()), {path: tuple(s) for path, s in parts.items()})


def calibrate_on(chosen: Settings, data: Labelled, name: str, used: RecordingUse) -> Calibration:
    """Thresholds per class from labelled recordings; see :func:`smnet.timeline.calibrate`."""
    curves = [make_curves(chosen, path, used) for path in data.parts]
    return calibrate(curves, list(data.parts.values()), chosen.rule, name)


def evaluate_recordings(
    chosen: Settings, data: Labelled, used: RecordingUse
) -> tuple[Detection, list[Timeline]]:
    """Make the timeline of every recording and measure it."""
    timelines, recordings = [], []
    for path, truth in data.parts.items():
        timeline = make_timeline(make_curves(chosen, path, used), chosen.rule)
        timelines.append(timeline)
        recordings.append(Recording(path, timeline.curves.duration, truth, timeline.segments))
    return Detection(recordings, data.classes), timelines


def with_calibration(chosen: Settings, calibration: Calibration) -> Settings:
    """The same settings with calibrated limits."""
    return replace(chosen, rule=replace(chosen.rule, by_class=calibration.limits))


def _clips_of(clip_set: ClipSet, split: str) -> Sequence[Clip]:
    names = ("train", "val", "test") if split == "all" else (split,)
    clips = [clip for name in names for clip in clip_set.splits.get(name, ())]
    if not any(clip.part for clip in clips):
        there = ", ".join(
            f"{name} ({sum(clip.part is not None for clip in rows)})"
            for name, rows in clip_set.splits.items()
        )
        raise UserError(
            f"{clip_set.root}: no labelled parts of recordings in split {split!r}; parts by split:"
            f" {there}"
        )
    return clips


def _seconds(clip: Clip) -> tuple[float, float]:
    """Start and end of the part of a clip, seconds from the first frame of the recording."""
    part = clip.part
    if part is not None and part.unit == "s" and part.end is not None:
        return part.start or 0.0, part.end
    with open_video(clip.path, clip.template) as video:
        times = frame_times(video)
        duration = recording_end(times, video.fps)
    if part is None or part.unit == "s":
        return (part.start or 0.0) if part else 0.0, duration
    border = [*times.tolist(), duration]
    last = len(times)
    first = min(int(part.start or 0), last)
    return border[first], border[min(last if part.end is None else int(part.end), last)]
