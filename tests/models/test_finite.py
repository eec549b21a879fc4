"""Every model forward and backward at several sizes, widths and layouts, on every device."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from smnet.models import create_model, to_channels_last
from tests.families import ONE_OF_EACH

CASES = ((32, 8, True), (57, 24, True), (64, 8, False))
"""Side of the frames, width, and whether channels are innermost."""

MODELS = (
    *((name, {}) for name in ONE_OF_EACH),
    ("smnet_mobilenetv2", {}),
    ("smnet_resnet50", {"place": "instead_of_conv2"}),
    ("tsn_resnet50", {"stride_in": "conv1"}),
    ("tsm_resnet18", {"modality": "rgbdiff"}),
    ("tsm_resnet18", {"modality": "rgb+rgbdiff"}),
)


class Convolutions(TorchDispatchMode):
    """Fails at a convolution that PyTorch crashes in, see ``resnet.projection``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            weight, stride = args[1], args[3]
            pointwise = all(side == 1 for side in weight.shape[2:])
            assert not (pointwise and max(stride) > 1 and weight.shape[1] < 16), weight.shape
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("size", "width", "channels_last"), CASES)
@pytest.mark.parametrize(("name", "options"), MODELS)
def test_scores_and_gradients_are_finite(
    name: str,
    options: dict[str, Any],
    size: int,
    width: int,
    channels_last: bool,
    device: torch.device,
) -> None:
    """In both modes. In evaluation the scores are those of the CPU with contiguous tensors."""
    torch.manual_seed(0)
    model = create_model(name, 3, 2, width=width, **options)
    generator = torch.Generator().manual_seed(1)
    clips = torch.rand(2, model.spec.frames_per_clip, 3, size, size, generator=generator)
    with torch.no_grad():
        expected = model.eval()(clips)
        assert expected.isfinite().all()
    model.to(device)
    if channels_last:
        to_channels_last(model)
        frames = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        clips = frames.unflatten(0, clips.shape[:2])
    leaf = clips.to(device).requires_grad_()
    if channels_last or device.type != "cpu":
        with torch.no_grad():
            scores = model(leaf)
        assert scores.device.type == device.type
        torch.testing.assert_close(scores.cpu(), expected, rtol=1e-3, atol=1e-4)
    with Convolutions():
        scores = model.train()(leaf)
    scores.square().mean().backward()
    tensors: dict[str, Tensor | None] = {name: p.grad for name, p in model.named_parameters()}
    for name, tensor in {**tensors, "scores": scores, "clips": leaf.grad}.items():
        assert tensor is not None, name
        assert tensor.isfinite().all(), name


CODE = """
import torch
from smnet.models import create_model, resnet, resnet3d, to_channels_last

torch.set_num_threads(1)  # with more threads the fault of oneDNN may pass unseen
last, last_3d = torch.channels_last, torch.channels_last_3d
cases = [(torch.randn(32, 4, 32, 32).contiguous(memory_format=last), resnet._downsample(4, 8, 2)),
         (torch.randn(8, 4, 4, 32, 32).contiguous(memory_format=last_3d),
          resnet3d._downsample(4, 8, 2))]
model = create_model("tsn_resnet18", 3, 8, width=8)
to_channels_last(model)
cases.append((torch.randn(1, 8, 3, 224, 224), model))
for x, network in cases:
    network(x.requires_grad_()).sum().backward()
    assert x.grad.isfinite().all()
"""


def test_narrow_shortcuts_do_not_crash() -> None:
    """Four channels crash with AVX2 if ``resnet.projection`` is left out, eight with AVX-512."""
    code = [sys.executable, "-c", CODE]
    done = subprocess.run(code, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
