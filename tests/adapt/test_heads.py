"""What a probe sees, and the network that it becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smnet.adapt import selection
from smnet.adapt.checkpoints import channels_below, probe_checkpoint
from smnet.adapt.probe import Probe
from smnet.adapt.selection import HEADS, Samples
from smnet.data.clips import Clip
from smnet.evaluation.results import Evaluation
from smnet.models import create_model
from smnet.models.base import over_phases
from smnet.recipes.recipe import read_recipe


@pytest.mark.parametrize("features", ["res5", "res4+res5"])
@pytest.mark.parametrize("head", HEADS)
def test_the_network_gives_the_logits_of_the_probe(head: str, features: str) -> None:
    options = {"width": 8, "features": features}
    model = create_model("tsn_resnet18", 3, 4, **options).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        moments = over_phases(model.forward_features(clips)).numpy()[:, None]
    targets = np.eye(3)[[0, 1]][:, None]
    rows = [Clip("a", 0, ""), Clip("b", 1, "")]
    samples = Samples(moments, targets, rows, below=channels_below(model))
    rng, seen = np.random.default_rng(0), samples.seen(head)
    probe = Probe(rng.normal(size=(3, seen.shape[-1])), rng.normal(size=3), 0.1)
    expected = probe.logits(seen[:, 0])
    scores = np.full((2, 3), 1 / 3, np.float32)
    result = Evaluation(scores, np.array([0, 1]), ("x", "y", "z"), ("a", "b"), "1x1")
    recipe = read_recipe(None, [], {"data": "d", "model": "tsn_resnet18", "options": options})
    network = probe_checkpoint(model, samples, probe, head, recipe, result).build().eval()
    with torch.no_grad():
        assert np.allclose(network(clips).numpy(), expected, atol=1e-4)


def test_many_samples_see_the_last_stage_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples(np.zeros((4, 1, 18), np.float32), np.zeros((4, 1, 2)), [Clip("a", 0, "")] * 4)
    assert samples.heads == list(HEADS)
    monkeypatch.setattr(selection, "MOST_VALUES", 71)
    assert samples.heads == ["mean", "motion", "change"]
