"""The choice of a probe against a naive cross-validation."""

from __future__ import annotations

import numpy as np

from smnet.adapt.probe import STRENGTHS, fit, probabilities
from smnet.adapt.selection import INNER, Samples, choose
from smnet.data.annotations.splits import draw_folds
from smnet.data.clips import Clip


def test_the_choice_has_the_least_loss_at_the_best_temperature() -> None:
    rng, labels = np.random.default_rng(0), np.arange(30) % 3
    features = rng.normal(size=(30, 1, 18)) + rng.normal(size=(3, 1, 18))[labels]
    clips = [Clip(f"{i}.mp4", int(k), "") for i, k in enumerate(labels)]
    samples = Samples(features.astype(np.float32), np.eye(3)[labels][:, None], clips)
    folds = np.array(draw_folds(clips, INNER, 0))
    losses = {}
    for strength in STRENGTHS:
        logits = np.zeros((30, 3))
        for fold in range(INNER):
            x, y = features[folds != fold, 0], np.eye(3)[labels[folds != fold]]
            logits[folds == fold] = fit(x, y, strength).logits(features[folds == fold, 0])
        target = np.where(np.eye(3)[labels] > 0, 31 / 32, 1 / 64)  # Platt's targets
        losses[strength] = min(
            -(target * np.log(probabilities(logits / t))).sum(1).mean()
            for t in np.exp(np.linspace(-3, 3, 600))
        )
    choice = choose(samples, ["phases"])
    assert np.isclose(choice.loss, min(losses.values()), rtol=1e-3)
    assert np.isclose(losses[choice.strength], min(losses.values()), rtol=1e-3)
