"""Gradient checkpointing changes nothing but memory and time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from smnet.models import VideoModel, accelerate, create_model
from smnet.training.checkpointing import checkpoint_gradients
from smnet.training.loop import train
from tests.conftest import tiny
from tests.families import ONE_OF_EACH


def gradients(model: VideoModel, clips: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)  # of dropout
    model(clips).square().sum().backward()
    return {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradients_and_statistics_are_equal(name: str) -> None:
    torch.manual_seed(0)
    plain = accelerate(create_model(name, 3, 2, width=8), "training").train()
    again = accelerate(create_model(name, 3, 2, width=8), "training").train()
    again.load_state_dict(plain.state_dict())
    assert checkpoint_gradients(again) >= 5
    clips = torch.randn(2, plain.spec.frames_per_clip, 3, 33, 33)
    expected, found = gradients(plain, clips), gradients(again, clips)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key
    for key, value in plain.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_activations_inside_of_blocks_are_not_kept() -> None:
    def kept(model: nn.Module) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(clips)
        return sum(sizes.values())

    model = create_model("tsm_resnet18", 3, 2, width=16).train()
    clips = torch.randn(2, 2, 3, 64, 64)
    before = kept(model)
    checkpoint_gradients(model)
    assert kept(model) < 0.7 * before


def test_a_run_has_the_same_weights(clips: Path, tmp_path: Path) -> None:
    for name, on in (("plain", False), ("again", True)):
        train(tiny(clips, gradient_checkpointing=on, ema=0.5), tmp_path / name)
    plain, again = (load_file(tmp_path / n / "last.safetensors") for n in ("plain", "again"))
    assert all(torch.equal(plain[key], again[key]) for key in plain)
