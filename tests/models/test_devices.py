"""Every family on every device: forward, backward, and the same scores as on the CPU."""

from __future__ import annotations

import copy

import pytest
import torch

from smnet.models import create_model
from tests.families import ONE_OF_EACH

SMALL = {"num_classes": 3, "num_segments": 4, "width": 8}


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_forward_and_backward(name: str, device: torch.device) -> None:
    torch.manual_seed(0)
    model = create_model(name, **SMALL)
    spec = model.spec
    clips = torch.rand(2, spec.num_segments * spec.frames_per_segment, 3, 32, 32)
    expected = copy.deepcopy(model).eval()(clips)
    model.to(device)
    scores = model.eval()(clips.to(device))
    assert scores.device.type == device.type
    assert torch.allclose(scores.cpu(), expected, rtol=1e-3, atol=1e-4)
    model.train()(clips.to(device)).square().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.device.type == device.type and g.isfinite().all() for g in gradients)
