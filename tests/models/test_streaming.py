"""Causal models: no frame depends on a later one, and steps are the whole sequence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import smnet
from smnet.models import VideoModel, accelerate, create_model, to_channels_last
from smnet.models.layers import CausalSum, FrameDifference, TemporalConv, TemporalInit
from smnet.models.streaming import state_bytes

from .reference import noise, scramble

SEGMENTS, SIZE = 3, 32
FAMILIES = {"tsn": {}, "tsm": {"causal": True}, "tam": {"causal": True}, "smnet": {"causal": True}}
CAUSAL: dict[str, dict[str, Any]] = {
    f"{family}_{trunk}": options
    for family, options in FAMILIES.items()
    for trunk in ("resnet18", "resnet50", "mobilenetv2", "res2net50")
}
SMNETS: list[dict[str, Any]] = [
    {"groups": 4, "temporal_space": 3},
    {"attention": "3d", "gate": "centred"},
    {"fusion": "se_me", "repeat": 2},
    {"trunk": "resnet50", "place": "instead_of_conv2"},
]
DIFFERENCES: list[tuple[str, dict[str, Any]]] = [
    ("smnet_resnet18", {"causal": True, "modality": "rgb+rgbdiff"}),
    ("smnet_resnet18", {"causal": True, "modality": "rgbdiff"}),
    ("tsn_resnet18", {"modality": "rgbdiff"}),
]


def causal(name: str, **options: Any) -> VideoModel:
    """A small model with weights as after training, in evaluation mode."""
    model = create_model(name, 5, SEGMENTS, width=8, dropout=0.0, **options).eval()
    scramble(model)
    return model


def videos(length: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 3, SIZE, SIZE, generator=generator)


@torch.no_grad()
def steps(model: VideoModel, frames: Tensor) -> Tensor:
    """The logits of each segment of (B, T*L, 3, H, W), (B, T, K)."""
    state = model.initial_state(len(frames), frames.shape[-1])
    logits, length = [], model.spec.frames_per_segment
    for frame in frames.unbind(1) if length == 1 else frames.split(length, 1):
        before = {name: tensor.clone() for name, tensor in state.items()}
        logit, after = model.step(frame, state)
        assert all(torch.equal(state[name], before[name]) for name in before)  # pure
        assert {n: x.shape for n, x in after.items()} == {n: x.shape for n, x in state.items()}
        logits.append(logit)
        state = after
    return torch.stack(logits, 1)


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))


@torch.no_grad()
def check(model: VideoModel) -> None:
    """Steps equal the whole sequence, at every length; batches and clips stay apart."""
    run = model.spec.frames_per_segment
    frames = videos((SEGMENTS + 2) * run).to(next(model.parameters()).device)
    each = steps(model, frames)
    for length in (1, SEGMENTS):
        assert_near(each[:, :length].mean(1), model(frames[:, : length * run]))
    if model.spec.options.get("causal"):  # the consensus is over the last T frames
        assert_near(each[:, 2:].mean(1), model(frames))
    state = model.initial_state(1, SIZE)
    assert all(1 < tensor.dim() <= 4 for tensor in state.values())
    assert state_bytes(state) == sum(4 * tensor.numel() for tensor in state.values())


@pytest.fixture
def plain_only() -> Iterator[None]:
    smnet.models.set_fast(False)
    yield
    smnet.models.set_fast(True)


@pytest.mark.parametrize("name", CAUSAL)
def test_steps_are_the_whole_sequence(name: str, device: torch.device) -> None:
    check(causal(name, **CAUSAL[name]).to(device))


@pytest.mark.parametrize("options", SMNETS, ids=str)
def test_every_choice_of_smnet(options: dict[str, Any]) -> None:
    chosen = {"trunk": "resnet18", **options}
    check(causal(f"smnet_{chosen.pop('trunk')}", causal=True, **chosen))


@pytest.mark.parametrize(("name", "options"), DIFFERENCES, ids=str)
def test_segments_of_several_frames(name: str, options: dict[str, Any]) -> None:
    check(causal(name, **options))


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("smnet_resnet18", "inference"),
        ("smnet_resnet18", "openvino"),
        ("tsm_resnet18", "inference"),
        ("tam_resnet18", "onnxruntime"),
    ],
)
def test_accelerated_models_step_alike(name: str, purpose: Any) -> None:
    plain = causal(name, causal=True)
    fast = accelerate(plain, purpose)
    to_channels_last(fast)
    check(fast)
    assert_near(steps(fast, videos(4)), steps(plain, videos(4)))


@pytest.mark.parametrize(
    "options", [{}, {"attention_norm": True, "gate": "centred"}, {"place": "after_conv1"}], ids=str
)
def test_steps_in_few_operators(options: dict[str, Any]) -> None:
    """Frames of 80 pixels: the masks of the first stage are convolutions, the others products."""
    plain = causal("smnet_resnet18", causal=True, **options)
    fast = accelerate(plain, "inference")
    to_channels_last(fast)
    frames = torch.randn(2, SEGMENTS + 1, 3, 80, 80, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = steps(fast, frames)
    assert_near(found, steps(plain, frames))


@pytest.mark.usefixtures("plain_only")
def test_without_fast_code() -> None:
    check(accelerate(causal("smnet_resnet18", causal=True), "inference"))


@pytest.mark.parametrize("name", ["smnet_resnet18", "tsm_resnet18", "tam_resnet18"])
def test_no_frame_depends_on_a_later_one(name: str) -> None:
    model = causal(name, causal=True)
    frames = videos(SEGMENTS)
    changed = frames.clone()
    changed[:, -1] += 1
    with torch.no_grad():
        found, expected = (model.forward_features(x)[:, :-1] for x in (changed, frames))
    assert torch.equal(found, expected)


def test_a_training_step_reaches_every_weight() -> None:
    model = create_model("smnet_resnet18", 5, SEGMENTS, width=8, causal=True, dropout=0.0)
    scramble(model)
    model.train()(videos(SEGMENTS + 2)).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_causal_sum_is_its_equation(segments: int) -> None:
    x, taps = noise(2 * segments, 6, 3, 2), noise(6, 3)
    clips = x.unflatten(0, (2, segments))
    expected = torch.zeros_like(clips)
    for t in range(segments):
        for k in range(3):
            if t + k - 2 >= 0:
                expected[:, t] += taps[:, k, None, None] * clips[:, t + k - 2]
    torch.testing.assert_close(CausalSum()(x, taps, segments), expected.flatten(0, 1))


def test_causal_difference_is_its_equation() -> None:
    g, f = noise(6, 4, 3, 2), noise(6, 4, 3, 2)
    d = FrameDifference("causal")(g, f, 3)
    for n in range(6):
        expected = (g[n] - f[n - 1]).mean((1, 2)) if n % 3 else torch.zeros(4, dtype=g.dtype)
        torch.testing.assert_close(d[n, :, 0, 0], expected)


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("identity", lambda x: x[2]),
        ("motion", lambda x: x[2] - x[1]),
        ("difference", lambda x: x[2] + (x[2] - x[0]) * torch.tensor([0.5, -0.5])[:, None, None]),
        ("shift", lambda x: torch.stack([x[1, 0], x[2, 1]])),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_start_of_the_causal_convolution(init: TemporalInit, expected: Any, share: float) -> None:
    """With a X added the module starts as 1 + a times its start, ``motion`` as once."""
    x = noise(3, 2, 3, 3).float()
    conv = TemporalConv(2, init=init, shift_div=2, input_share=share, causal=True)
    total = conv(x, 3)[2] + share * x[2]
    scale = 1.0 if init == "motion" else 1 + share
    torch.testing.assert_close(total, scale * expected(x))


def test_what_cannot_be_causal() -> None:
    with pytest.raises(ValueError, match="looks at later frames and has no step"):
        create_model("tsm_resnet18", 5, width=8).initial_state()
    with pytest.raises(ValueError, match="leave out both"):
        create_model("smnet_resnet18", 5, causal=True, difference="both")


def test_a_state_of_another_size_is_refused() -> None:
    model = causal("tsm_resnet18", causal=True)
    with pytest.raises(ValueError, match=r"begin\s+with initial_state"):
        model.step(torch.zeros(1, 3, SIZE, SIZE), model.initial_state(2, SIZE))
    with pytest.raises(ValueError, match="missing"):
        model.step(torch.zeros(1, 3, SIZE, SIZE), {})
