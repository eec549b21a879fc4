"""Timelines of marked recordings against plain sliding windows, on the features of an adaptation.

    smnet adapt segments.csv --from CHECKPOINT --minutes 0 --out RUN
    python benchmarks/recordings.py RUN [--leave split|recording]

Plain windows: the best class of each window; equal neighbours are one segment. The timeline
smooths, has two thresholds, and fills gaps. Thresholds are calibrated on training recordings, each
scored by a probe that has not seen it. ``--leave split`` tests the validation recordings,
``--leave recording`` leaves out one recording at a time and measures all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from smnet.adapt.checkpoints import with_two_stages
from smnet.adapt.features import FeatureCache, clip_features
from smnet.adapt.run import joined, read_samples
from smnet.adapt.selection import Choice, Samples, choose
from smnet.data.clips import Clip
from smnet.data.loading.windows import frame_times, recording_end, window_starts
from smnet.data.open import open_video
from smnet.evaluation.detection import Detection, Recording, Segment
from smnet.inference.backends import plan_views
from smnet.inference.torch_backend import TorchBackend
from smnet.recipes.recipe import read_recipe
from smnet.timeline.calibrate import calibrate
from smnet.timeline.curves import STEPS, Curves
from smnet.timeline.segments import find_segments, make_rule, step_edges
from smnet.training.setup import build_model, read_training_clips
from smnet.training.start_weights import start_from

HOWS = ("plain sliding windows", "timeline, default thresholds", "timeline, calibrated")


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run", type=Path, help="folder of smnet adapt")
    arguments.add_argument("--leave", choices=["split", "recording"], default="split")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    recipe = read_recipe(str(given.run / "recipe.yaml"))
    clips = read_training_clips(recipe)
    model = build_model(with_two_stages(recipe), clips)
    start_from(model, recipe.weights)
    samples = joined(*read_samples(recipe, clips, model, given.run, None))
    window = median((clip.end or 0.0) - (clip.start or 0.0) for clip in samples.clips)
    backend = TorchBackend(model, recipe.device)
    cache = FeatureCache(given.run / "windows.npz")
    blank = {
        path: blank_curves(path, window, clips.classes)
        for path in sorted({c.path for c in samples.clips})
    }
    features = {}
    for path, curves in blank.items():
        ends = np.minimum(curves.times + window / 2, curves.duration)
        parts = [Clip(path, 0, path, start=float(e - window), end=float(e)) for e in ends]
        features[path] = clip_features(
            backend, parts, plan_views(backend), cache, "windows", mirrored=False, workers=0
        )[0]
        print(f"{path}: {len(parts)} windows", flush=True)

    def curves_of(path: str, without: set[str], choice: Choice) -> Curves:
        """The curves of a recording by a probe that has not seen some recordings."""
        probe = leave_out(samples, without).fit(choice)
        rows = features[path]
        targets = np.zeros((len(rows), 1, len(clips.classes)))
        shown = replace(samples, features=rows, targets=targets)
        scores = shown.scores(probe, choice.head).astype(np.float32)
        return replace(blank[path], scores=scores)

    truth = {path: marks(samples, path, clips.classes) for path in blank}
    val = {clip.path for clip in clips.splits["val"]}
    tests = [val] if given.leave == "split" else [{path} for path in blank]
    rule = make_rule(window)
    found: dict[str, list[Recording]] = {how: [] for how in HOWS}
    for test in tests:
        train = [path for path in blank if path not in test]
        choice = choose(leave_out(samples, test))
        unseen = [curves_of(path, test | {path}, choice) for path in train]
        limits = calibrate(unseen, [truth[path] for path in train], rule, "train").limits
        for path in sorted(test):
            curves = curves_of(path, test, choice)
            segments = (
                plain(curves),
                find_segments(curves, rule),
                find_segments(curves, replace(rule, by_class=limits)),
            )
            for how, own in zip(HOWS, segments, strict=True):
                found[how].append(Recording(path, curves.duration, truth[path], tuple(own)))
        print(f"{choice.head}: {', '.join(Path(path).name for path in sorted(test))}", flush=True)
    print("| | mAP@0.3 | mAP@0.5 | F1@25 | accuracy |\n| --- | --- | --- | --- | --- |")
    for how, recordings in found.items():
        result = Detection(recordings, clips.classes)
        shares = [result.mean_average_precision([t]) for t in (0.3, 0.5)]
        cells = map(str, (*shares, result.f1(0.25), result.accuracy))
        print(f"| {how} | {' | '.join(cells)} |")


def leave_out(samples: Samples, recordings: set[str]) -> Samples:
    """The samples of all other recordings."""
    return samples[np.array([clip.path not in recordings for clip in samples.clips])]


def blank_curves(path: str, window: float, classes: Sequence[str]) -> Curves:
    """The windows of a recording, without scores."""
    with open_video(path) as video:
        duration, fps = recording_end(frame_times(video), video.fps), video.fps
    starts = window_starts(duration, window, window / STEPS)
    scores = np.zeros((len(starts), len(classes)), np.float32)
    return Curves(
        path, duration, fps, window, window / STEPS, tuple(classes), starts + window / 2, scores
    )


def marks(samples: Samples, path: str, classes: Sequence[str]) -> tuple[Segment, ...]:
    """The labelled parts of a recording."""
    return tuple(
        Segment(clip.start or 0.0, clip.end or 0.0, classes[clip.label])
        for clip in samples.clips
        if clip.path == path
    )


def plain(curves: Curves) -> list[Segment]:
    """Runs of windows with the same best class; the score of a run is its highest."""
    edges, best = step_edges(curves), curves.scores.argmax(1)
    found: list[Segment] = []
    for k, run in groupby(range(len(best)), key=lambda row: int(best[row])):
        rows: NDArray[np.int64] = np.array(list(run))
        score = float(curves.scores[rows, k].max())
        name = curves.classes[k]
        found.append(Segment(float(edges[rows[0]]), float(edges[rows[-1] + 1]), name, score))
    return found


if __name__ == "__main__":
    main()
