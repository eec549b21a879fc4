"""TAM: the module against its two branches written out, sizes, names and the fixed length."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smnet.models import create_model, load_weights, multiply_adds, parameter_count
from smnet.models.tam import TemporalAdaptive

from .reference import (
    assert_all_parameters_learn,
    assert_clips_stay_apart,
    assert_order_counts,
    assert_same,
    naive_norm,
    noise,
    scramble,
    small,
)

# Channels after conv1 in the 16 blocks of ResNet-50.
CHANNELS = [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3


def naive_tam(x: Tensor, m: TemporalAdaptive, segments: int) -> Tensor:
    """Clip by clip, channel by channel: the gated signal of every pixel under its own kernel."""
    clips = x.unflatten(0, (-1, segments)).transpose(1, 2)  # (B, C, T, H, W)
    z = clips.mean((3, 4))
    hidden = naive_norm(F.linear(z.reshape(-1, segments), m.G[0].weight), m.G[1])
    kernels = torch.softmax(F.linear(torch.relu(hidden), m.G[3].weight), dim=1)
    local = torch.relu(naive_norm(F.conv1d(z, m.L[0].weight, padding=1), m.L[1]))
    gates = torch.sigmoid(F.conv1d(local, m.L[3].weight))  # (B, C, T)
    out = torch.empty_like(clips)
    for b in range(clips.shape[0]):
        for c in range(clips.shape[1]):
            signal = clips[b, c] * gates[b, c, :, None, None]  # (T, H, W)
            lines = signal.permute(1, 2, 0).reshape(-1, 1, segments)
            kernel = kernels[b * clips.shape[1] + c].reshape(1, 1, 3)
            y = F.conv1d(lines, kernel, padding=1)
            out[b, c] = y.reshape(*signal.shape[1:], segments).permute(2, 0, 1)
    return out.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_module_is_its_equations(segments: int, training: bool) -> None:
    module = TemporalAdaptive(12, segments).double().train(training)
    scramble(module)
    x = noise(3 * segments, 12, 3, 4)
    assert_same(module, lambda a: naive_tam(a, module, segments), x, segments)


def test_single_precision() -> None:
    module = TemporalAdaptive(16, 8)
    scramble(module)
    x = noise(16, 16, 7, 7).float()
    y = naive_tam(x, module, 8)
    torch.testing.assert_close(module(x, 8), y, rtol=1e-5, atol=1e-5)


def test_exported_graph_computes_the_same() -> None:
    model = small("tam_resnet18", 4)
    clips = noise(2, 4, 3, 32, 32)
    graph = torch.export.export(model, (clips,)).module()
    torch.testing.assert_close(graph(clips), model(clips), rtol=1e-9, atol=1e-9)


def test_size_is_the_published_one() -> None:
    model = create_model("tam_resnet50", 174, 8)
    added = 0
    for c in CHANNELS:
        kernel = 8 * 16 + 2 * 16 + 16 * 3
        gate = 3 * c * (c // 4) + 2 * (c // 4) + (c // 4) * c
        added += kernel + gate
    assert parameter_count(model) == 23_864_558 + added == 25_127_246  # 25.13 M
    assert multiply_adds(model) == pytest.approx(32.8e9, rel=0.005)


def test_multiply_adds_beside_the_image_network() -> None:
    """K_3, K_1, W_1, W_2 and three products a value, in every block."""
    expected, t, side, c = 0, 4, 16, 8  # 64 x 64 pixels, width 8
    for _ in range(4):  # stages; conv1 of the first block has the stride
        values = t * c * side * side
        generated = t * (3 * c * (c // 4) + (c // 4) * c) + c * (t * 2 * t + 2 * t * 3)
        expected += 2 * (3 * values + generated)
        side, c = side // 2, 2 * c
    counts = [
        multiply_adds(create_model(f"{n}_resnet18", 5, t, width=8), size=64) for n in ("tam", "tsn")
    ]
    assert counts[0] - counts[1] == expected


@pytest.mark.parametrize("segments", [8, 16])
def test_every_published_tensor_has_a_counterpart(segments: int) -> None:
    state = create_model("tam_resnet50", 174, segments).state_dict()
    assert len(state) == 544
    homes = set()
    blocks = [(s, b) for s, n in enumerate((3, 4, 6, 3), start=1) for b in range(n)]
    for (stage, block), c in zip(blocks, CHANNELS, strict=True):
        shapes = {
            "G.0.weight": (2 * segments, segments),
            "G.3.weight": (3, 2 * segments),
            "L.0.weight": (c // 4, c, 3),
            "L.3.weight": (c, c // 4, 1),
            "G.1.num_batches_tracked": (),
            "L.1.num_batches_tracked": (),
        }
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes |= {f"G.1.{part}": (2 * segments,), f"L.1.{part}": (c // 4,)}
        for name, shape in shapes.items():
            home = f"layer{stage}.{block}.temporal.{name}"
            assert tuple(state[home].shape) == shape
            homes.add(home)
    assert state.keys() - homes == create_model("tsn_resnet50", 174).state_dict().keys()


def test_another_length_is_refused() -> None:
    model = create_model("tam_resnet18", 5, 8, width=8)
    with pytest.raises(ValueError, match=r"built for 8 segments and got clips of 16; sample 8"):
        model(torch.zeros(1, 16, 3, 32, 32))


def test_starts_from_the_image_network() -> None:
    donor = create_model("tsn_resnet18", 7, width=8)
    scramble(donor)
    model = create_model("tam_resnet18", 5, width=8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load_weights(model, donor.state_dict())
    for name, tensor in model.state_dict().items():
        own = name.startswith("fc.") or ".temporal." in name
        assert torch.equal(tensor, before[name] if own else donor.state_dict()[name]), name


@pytest.mark.parametrize("segments", [1, 2, 8, 16])
def test_clips_stay_apart(segments: int) -> None:
    assert_clips_stay_apart(small("tam_resnet18", segments), segments)


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50", "mobilenetv2"])
def test_order_counts(trunk: str) -> None:
    assert_order_counts(small(f"tam_{trunk}", 8), 8)


def test_all_parameters_learn() -> None:
    assert_all_parameters_learn(small("tam_resnet18", 4, training=True), 4)
