"""The demo: draw the motion data set, train SMNet and TSN on it, and write a report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from smnet.checkpoints.file import load
from smnet.console import clip_progress, clock, console
from smnet.data.annotations.read import ClipSet, read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.synthetic.motion import write_motion
from smnet.data.synthetic.recordings import write_recordings
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.files import check_outputs, write_text
from smnet.inference.backends import open_backend
from smnet.inference.recognizer import Recognizer
from smnet.models import multiply_adds, parameter_count
from smnet.recipes.recipe import read_recipe
from smnet.report import kit
from smnet.report.page import Sample, Trained, report_page
from smnet.timeline.curves import RecordingUse
from smnet.timeline.page import STYLE, describe, timeline_sections
from smnet.timeline.run import (
    calibrate_on,
    evaluate_recordings,
    read_recordings,
    settings,
    with_calibration,
)
from smnet.training.loop import train

FAMILIES = ("smnet", "tsn")
TRUNK = "resnet18"
DRAWN = (800, 200)
"""Numbers of training and validation clips."""


def run_demo(out: Path, quick: bool = False) -> Path:
    """Run the demo in ``out`` and return the path of its ``report.html``. An interrupted demo is
    resumed. ``quick`` takes few clips and two epochs, which checks that everything works."""
    began = time.monotonic()
    report = out / "report.html"
    check_outputs({"report": report}, ())
    clips = draw(out / "motion-quick", 60, 20) if quick else draw(out / "motion", *DRAWN)
    changes = ["epochs=2", "warmup=0.5"] if quick else []
    trained = []
    for family in FAMILIES:
        folder = out / f"{family}-quick" if quick else out / family
        recipe = read_recipe(
            "motion", [f"model={family}_{TRUNK}", *changes], {"data": str(clips.root)}
        )
        console.rule(f"{family}, {recipe.epochs} epochs")
        outcome = train(recipe, folder, resume=(folder / "resume.pt").exists())
        if outcome.stop_requested:
            console.print("the same command resumes the demo")
            raise KeyboardInterrupt
        trained.append(examine(family, folder, clips))
    samples = predict_samples(out, clips, quick)
    recordings = show_recordings(out, quick)
    for model in trained:
        console.print(f"{model.name:16} top-1 {model.result.top(1)} on validation clips")
    console.print(f"the demo took {clock(time.monotonic() - began)}")
    page = report_page(
        "SMNet and TSN on the motion data set",
        f"Both networks have the same trunk ({TRUNK}), the same clips, and the same budget; the"
        " classes come in pairs that differ only in the direction of time, so no single frame and"
        " no unordered set of frames tells them apart.",
        trained,
        samples,
        recordings,
        STYLE,
    )
    write_text(report, page)
    return report.resolve()


def draw(root: Path, train_clips: int, val_clips: int, size: int = 72) -> ClipSet:
    """Draw the data set ``motion`` in ``root`` unless it exists."""
    with clip_progress("drawing", "") as progress:
        write_motion(
            root,
            train=train_clips,
            val=val_clips,
            size=size,
            progress=lambda done, total: progress(done, total, 0),
        )
    return read_clips(root)


def examine(family: str, folder: Path, clips: ClipSet) -> Trained:
    """Evaluate the last checkpoint of a run on the validation clips, and read its curves.

    The best checkpoint was chosen on these clips, so its accuracy would be biased.
    """
    checkpoint = folder / "last.safetensors"
    result = evaluate_checkpoints([str(checkpoint)], clips.root, batch=16)
    assert result is not None  # only None on other processes than the first
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    loss = {row["epoch"]: row["loss"] for row in rows if row["kind"] == "train"}
    top1 = {row["epoch"]: row["top1"] for row in rows if row["kind"] == "val"}
    seconds = sum(row["seconds"] for row in rows if row["kind"] == "train")
    model = load(checkpoint)
    gmacs = multiply_adds(model, size=model.spec.input_size) / 1e9
    cost: dict[str, Any] = {
        "parameters": f"{parameter_count(model) / 1e6:.2f} M",
        "GMAC per clip": f"{gmacs:.2f}",
        "training": clock(seconds),
    }
    curve = [(epoch, loss[epoch], top1[epoch]) for epoch in sorted(top1)]
    return Trained(f"{family}_{TRUNK}", result, curve, cost)


def predict_samples(out: Path, clips: ClipSet, quick: bool) -> list[Sample]:
    """One validation clip of each class, with the predictions of both models."""
    chosen = {clip.label: clip for clip in reversed(clips.splits["val"])}
    samples = [chosen[label] for label in sorted(chosen)]
    predictions = {}
    for family in FAMILIES:
        folder = out / f"{family}-quick" if quick else out / family
        recognizer = Recognizer.load(folder / "last.safetensors")
        paths = [clip.path for clip in samples]
        predictions[f"{family}_{TRUNK}"] = list(recognizer.predict_many(paths))
    return [
        Sample(
            Path(clip.path),
            clips.classes[clip.label],
            {name: rows[k] for name, rows in predictions.items()},
        )
        for k, clip in enumerate(samples)
    ]


def show_recordings(out: Path, quick: bool) -> list[str]:
    """Sections of the report: how well the timelines of a long recording agree with its marks, and
    the timeline of the first network. The thresholds are calibrated on another recording."""
    marks = write_recordings(out / "recordings", train=1, val=1, scenes=10, size=72)
    source, used = ClipSource(marks), RecordingUse()
    rows, shown = [], []
    for family in FAMILIES:
        folder = out / f"{family}-quick" if quick else out / family
        backend = open_backend(folder / "last.safetensors")
        chosen = settings(
            backend, every=backend.spec.clip_seconds and backend.spec.clip_seconds / 3
        )
        limits = calibrate_on(chosen, read_recordings(source, "train", backend), str(marks), used)
        chosen = with_calibration(chosen, limits)
        result, timelines = evaluate_recordings(
            chosen, read_recordings(source, "val", backend), used
        )
        shares = (result.mean_average_precision([0.5]), result.f1(0.25), result.accuracy)
        rows.append([f"{family}_{TRUNK}", *(f"{share.value:.1%}" for share in shares)])
        shown += timelines
    console.print(f"timelines: {used}", soft_wrap=True)
    table = kit.table(["model", "mAP@0.5", "F1@25", "accuracy in time"], rows)
    note = (
        f"Ten scenes with pauses between them ({describe(shown[0])}). The lanes are those of"
        f" {FAMILIES[0]}_{TRUNK}. Neither network has seen a pause in training."
    )
    return [kit.section("A long recording", table, note=note), *timeline_sections(shown[0])]
