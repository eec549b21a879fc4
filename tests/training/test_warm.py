"""Warm starts of causal models: frames of another clip go before each clip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smnet.checkpoints.file import load
from smnet.errors import UserError
from smnet.training.loop import train
from smnet.training.step import warmed
from tests.conftest import tiny


def test_the_clip_stays_at_the_end() -> None:
    clips = torch.arange(12.0).reshape(3, 4, 1)
    generator = torch.Generator().manual_seed(0)
    counts = set()
    for _ in range(60):
        longer = warmed(clips, 3, generator)
        count = longer.shape[1] - 4
        counts.add(count)
        assert torch.equal(longer[:, count:], clips)
        assert torch.equal(longer[:, :count], clips.roll(1, 0)[:, 4 - count :])
    assert counts == {0, 1, 2, 3}
    assert {warmed(clips, 3, generator, 2).shape[1] for _ in range(60)} == {4, 6, 8}
    assert warmed(clips, 0, generator) is clips


def test_at_most_a_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = {warmed(torch.zeros(2, 2, 1), 100, generator).shape[1] for _ in range(40)}
    assert sizes == {2, 3, 4}


def test_a_run_at_a_fixed_rate_with_a_warm_start(clips: Path, tmp_path: Path) -> None:
    options = {"width": 8, "causal": True}
    recipe = tiny(clips, options=options, warm=2, rate=12.5, epochs=1, warmup=0.1)
    assert train(recipe, tmp_path / "run").finished
    model = load(tmp_path / "run" / "last.safetensors")
    assert model.spec.rate == 12.5
    assert model.spec.causal


def test_only_causal_models_have_a_state(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set options\.causal=true"):
        train(tiny(clips, warm=2), tmp_path / "run")
