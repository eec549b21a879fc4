"""Calibration at the end of a run: on the validation clips, stored in the best checkpoint."""

from __future__ import annotations

from dataclasses import replace

from smnet.checkpoints.file import Checkpoint
from smnet.evaluation.calibration import Calibration


def calibrated(checkpoint: Checkpoint, calibration: Calibration) -> Checkpoint:
    """A checkpoint with the decision that was calibrated on held-out clips."""
    return replace(
        checkpoint,
        spec=replace(checkpoint.spec, decision=calibration.decision),
        metrics={**checkpoint.metrics, "calibration": calibration.summary()},
    )
