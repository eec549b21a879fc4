"""Calibration at the end of a run: on the validation clips, stored in the best checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from smnet.checkpoints.file import Checkpoint, read_checkpoint, save_checkpoint
from smnet.distributed import Processes
from smnet.evaluation.calibration import Calibration, at_temperature, calibrate
from smnet.evaluation.results import Evaluation
from smnet.models import VideoModel
from smnet.models.spec import Decision

MEASURED = "measured.safetensors"
"""The best network on held-out clips, where one of all clips took its place."""


def calibrate_best(
    folder: Path,
    held_out: Evaluation | None,
    score: Callable[[VideoModel], Evaluation | None],
    processes: Processes,
    say: Callable[[str], None],
) -> Evaluation:
    """Store temperature and thresholds in ``best.safetensors``, unless they are there already.

    Args:
        folder: of the run.
        held_out: the validation clips under the best checkpoint; None scores them, as after a
            resumed run.
        score: scores the validation clips.
        processes: this process among the others.
        say: prints a line.

    Returns:
        The validation clips with calibrated scores.
    """
    file = folder / MEASURED
    if not file.exists():
        file = folder / "best.safetensors"
    best = read_checkpoint(file)
    if held_out is None:
        plain = replace(best, spec=replace(best.spec, decision=Decision()))
        held_out = score(plain.build().to(processes.device))
        assert held_out is not None  # there are validation clips
    decision, several = best.spec.decision, best.spec.several
    if "calibration" not in best.metrics:
        calibration = calibrate(held_out.scores, held_out.labelled, several)
        decision = calibration.decision
        say(str(calibration))
        if processes.first:
            save_checkpoint(file, calibrated(best, calibration))
    scores = at_temperature(held_out.scores, decision.temperature, several)
    return replace(held_out, scores=scores.astype(np.float32), decision=decision)


def calibrated(checkpoint: Checkpoint, calibration: Calibration) -> Checkpoint:
    """A checkpoint with the decision that was calibrated on held-out clips."""
    return replace(
        checkpoint,
        spec=replace(checkpoint.spec, decision=calibration.decision),
        metrics={**checkpoint.metrics, "calibration": calibration.summary()},
    )
