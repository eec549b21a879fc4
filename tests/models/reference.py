"""What the tests of the families share: the articles' steps written naively, and comparisons.

Nothing here is fast: time is unfolded to (B*H*W, C, T), differences are taken frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smnet.models import create_model
from smnet.models.base import VideoModel
from smnet.models.smnet import MotionExcitation
from tests.conftest import DEVICES

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def with_difference(x: Tensor, segments: int) -> Tensor:
    """X[t] +- (X[t+1] - X[t-1]) / 2, frame by frame, plus in even channels."""
    out = x.clone()
    for clip in range(len(x) // segments):
        for t in range(segments):
            here = clip * segments + t
            ahead = x[here + 1] if t + 1 < segments else torch.zeros_like(x[0])
            behind = x[here - 1] if t > 0 else torch.zeros_like(x[0])
            out[here, 0::2] += (ahead - behind)[0::2] / 2
            out[here, 1::2] -= (ahead - behind)[1::2] / 2
    return out


def motion_alone(x: Tensor, segments: int) -> Tensor:
    """X[t+1] - X[t], frame by frame; after the last there is nothing."""
    out = -x
    for here in range(len(x)):
        if (here + 1) % segments:
            out[here] += x[here + 1]
    return out


def scramble(module: nn.Module, seed: int = 1) -> None:
    """Every tensor anywhere, as after training: no mistake hides behind zeros, ones and shifts."""
    generator = torch.Generator().manual_seed(seed)
    norms = {
        f"{name}.{part}".removeprefix(".")
        for name, m in module.named_modules()
        if isinstance(m, Norm)
        for part in ("weight", "running_var")
    }
    for name, tensor in module.state_dict().items():
        if name in norms:
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            fan_in = max(tensor[0].numel(), 4) if tensor.dim() > 1 else 4
            tensor.normal_(std=fan_in**-0.5, generator=generator)


def noise(*shape: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def naive_norm(x: Tensor, norm: nn.Module) -> Tensor:
    """Batch normalisation of (N, C, ...) that leaves the running statistics alone."""
    assert isinstance(norm, Norm), f"a {type(norm).__name__} is no batch normalisation"
    if norm.training:
        return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def naive_conv_over_time(x: Tensor, weight: Tensor, segments: int) -> Tensor:
    """Conv1d over T, zero padded; groups by the shape of ``weight``, (C, C/G, 3)."""
    lines = x.unflatten(0, (-1, segments)).permute(0, 3, 4, 2, 1)  # (B, H, W, C, T)
    groups = x.shape[1] // weight.shape[1]
    y = F.conv1d(lines.flatten(0, 2), weight, padding=1, groups=groups)
    return y.unflatten(0, lines.shape[:3]).permute(0, 4, 3, 1, 2).flatten(0, 1)


def naive_motion_gate(x: Tensor, gate: MotionExcitation, segments: int) -> Tensor:
    """s(BN(K_e GAP(D))) with D[t] = (K_3x3 F)[t+1] - F[t], D[T-1] = 0, F = BN(K_r X)."""
    f = naive_norm(torch.einsum("oi,nihw->nohw", gate.squeeze.weight[:, :, 0, 0], x), gate.norm)
    p = F.conv2d(f, gate.transform.weight, padding=1, groups=f.shape[1])
    d = torch.stack(
        [
            torch.zeros_like(f[n]) if n % segments == segments - 1 else p[n + 1] - f[n]
            for n in range(x.shape[0])
        ]
    )
    y = torch.einsum("oi,ni->no", gate.expand.weight[:, :, 0, 0], d.mean((2, 3)))[..., None, None]
    if not isinstance(gate.expand_norm, nn.Identity):
        y = naive_norm(y, gate.expand_norm)
    return 1 / (1 + torch.exp(-y))


def assert_same(
    module: nn.Module,
    naive: Callable[[Tensor], Tensor],
    x: Tensor,
    segments: int,
    rtol: float = 1e-9,
    atol: float = 1e-10,
) -> None:
    """The same values and gradients of the input and of every parameter, on every device."""
    for device in DEVICES:
        _assert_same(module.to(device), naive, x.to(device), segments, rtol, atol)


def _assert_same(
    module: nn.Module,
    naive: Callable[[Tensor], Tensor],
    x: Tensor,
    segments: int,
    rtol: float,
    atol: float,
) -> None:
    results = []
    for function in (lambda a: module(a, segments), naive):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        inputs = [leaf, *module.parameters()]
        weighting = noise(*out.shape, seed=7).to(out)
        grads = torch.autograd.grad((out * weighting).sum(), inputs, allow_unused=True)
        results.append((out.detach(), grads))
    (ours, our_grads), (theirs, their_grads) = results
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    for a, b in zip(our_grads, their_grads, strict=True):
        assert a is not None
        b = torch.zeros_like(a) if b is None else b  # a clip of one frame has no differences
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def small(name: str, segments: int, training: bool = False, **options: Any) -> VideoModel:
    """A narrow model of a family in double precision, its tensors anywhere."""
    model = create_model(name, 5, segments, width=8, dropout=0.0, **options)
    model = model.double().train(training)
    scramble(model)
    return model


def assert_clips_stay_apart(model: VideoModel, segments: int) -> None:
    """Scores of a clip depend on its own frames, whatever else is in the batch."""
    clips = noise(3, segments, 3, 32, 32)
    with torch.no_grad():
        together = model(clips)
        alone = torch.cat([model(clip[None]) for clip in clips])
    assert together.shape == (3, 5)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-10)


def assert_order_counts(model: VideoModel, segments: int) -> None:
    """Reversing time changes the scores."""
    clips = noise(2, segments, 3, 32, 32)
    with torch.no_grad():
        forwards, backwards = model(clips), model(clips.flip(1))
    assert torch.isfinite(forwards).all(), "scores that are not finite"
    assert not torch.allclose(forwards, backwards, rtol=1e-3), "the same scores backwards"


def assert_all_parameters_learn(model: VideoModel, segments: int) -> None:
    model(noise(2, segments, 3, 32, 32)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
