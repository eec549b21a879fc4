"""The specification, folding of frames, the head, and the two counters."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smnet.models import ModelSpec, VideoModel, create_model, multiply_adds, parameter_count
from smnet.models.base import (
    fold_frames,
    fold_segments,
    over_phases,
    over_time,
    unfold_frames,
)
from smnet.models.layers import TemporalConv


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Small(VideoModel):
    """One convolution on every frame."""

    def __init__(self, spec: ModelSpec, dropout: float = 0.0) -> None:
        super().__init__(spec, 6, dropout)
        self.conv = nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)

    def forward_features(self, clips: Tensor) -> Tensor:
        frames, num_segments = fold_frames(clips)
        return unfold_frames(self.conv(frames), num_segments)


def small(classes: int = 4, **options: Any) -> Small:
    return Small(ModelSpec("small", classes), **options)


# ---------------------------------------------------------------- ModelSpec


def test_spec_survives_json() -> None:
    spec = ModelSpec(
        "smnet_resnet50",
        2,
        16,
        {"stages": (4, 5), "groups": 2, "place": "after_conv1"},
        frames_per_segment=5,
        sampling="dense",
        input_size=112,
        short_side=128,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        class_names=("push", "pull"),
    )
    again = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert isinstance(again.mean, tuple)
    assert isinstance(again.class_names, tuple)
    assert again.options["stages"] == (4, 5)


def test_spec_from_little() -> None:
    spec = ModelSpec.from_dict({"name": "tsn_resnet18", "num_classes": 3})
    assert spec == ModelSpec("tsn_resnet18", 3)
    assert spec.class_names is None


def test_spec_is_its_own_copy() -> None:
    options = {"groups": 2}
    spec = ModelSpec("smnet_resnet18", 3, options=options)
    options["groups"] = 4
    assert spec.options == {"groups": 2}
    spec.to_dict()["options"]["groups"] = 8
    assert spec.options == {"groups": 2}
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.num_classes = 4  # type: ignore[misc]


def test_frames_per_clip() -> None:
    assert ModelSpec("x", 3, 8).frames_per_clip == 8
    assert ModelSpec("x", 3, 8, frames_per_segment=5).frames_per_clip == 40


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, not 0"),
        ({"num_segments": 0}, "num_segments must be at least 1, not 0"),
        ({"class_names": ("a", "b")}, "2 class names were given for 3 classes"),
        ({"colour": 1, "arch": 2}, "unknown keys in a model specification: arch, colour"),
    ],
)
def test_spec_refuses(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelSpec.from_dict({"name": "tsn_resnet18", "num_classes": 3} | values)


def test_spec_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="lacks name, num_classes"):
        ModelSpec.from_dict({})


# ---------------------------------------------------------------- frames


def test_fold_puts_time_fastest_and_unfold_undoes_it() -> None:
    clips = torch.randn(2, 3, 3, 4, 5)
    frames, segments = fold_frames(clips)
    assert segments == 3
    for clip in range(2):
        for step in range(3):
            assert torch.equal(frames[clip * 3 + step], clips[clip, step])
    assert torch.equal(unfold_frames(frames, segments), clips)


def test_segments_are_runs_of_frames() -> None:
    clips = torch.randn(2, 6, 3, 4, 5)
    segments, count = fold_segments(clips, 2)
    assert count == 3
    for clip in range(2):
        for step in range(3):
            assert torch.equal(segments[clip * 3 + step], clips[clip, 2 * step : 2 * step + 2])
    with pytest.raises(ValueError, match="expected 4 consecutive frames a segment, got clips of 6"):
        fold_segments(clips, 4)


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (2, 3, 4, 4, 5), (2, 3, 8, 3, 4, 5), (2, 3, 1, 4, 5), (3,)]
)
def test_clips_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected clips of shape \(B, T, 3, H, W\)"):
        fold_frames(torch.zeros(shape))
    with pytest.raises(ValueError, match="expected clips"):
        small()(torch.zeros(shape))


# ---------------------------------------------------------------- VideoModel


def test_head_is_pooling_linear_and_the_mean_over_time() -> None:
    model = small().double().eval()
    nn.init.normal_(model.fc.weight)
    nn.init.normal_(model.fc.bias)
    features = torch.randn(2, 5, 6, 3, 4, dtype=torch.float64)
    expected = torch.zeros(2, 4, dtype=torch.float64)
    for clip in range(2):
        for step in range(5):
            pooled = torch.stack([features[clip, step, c].sum() / 12 for c in range(6)])
            expected[clip] += (model.fc.weight @ pooled + model.fc.bias) / 5
    torch.testing.assert_close(model.forward_head(features), expected)


class Order(nn.Module):
    """A head of its own: scores from the first and the last frame of a clip together."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * features, classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(torch.cat([frames[:, 0], frames[:, -1]], dim=1))
        return out


def test_another_head_stands_where_the_linear_layer_does() -> None:
    model = create_model("tsm_resnet18", 4, 3, width=8).eval()
    model.fc = Order(model.num_features, 4)
    clips = torch.randn(2, 3, 3, 32, 32)
    pooled = model.forward_features(clips).mean((3, 4))
    expected = model.fc.linear(torch.cat([pooled[:, 0], pooled[:, 2]], dim=1))
    torch.testing.assert_close(model(clips), expected)
    assert not any(model.is_trunk_key(key) for key in model.state_dict() if "linear" in key)


def test_forward_is_features_then_head() -> None:
    model = small().eval()
    clips = torch.randn(2, 3, 3, 4, 5)
    assert torch.equal(model(clips), model.forward_head(model.forward_features(clips)))


def test_classifier_starts_near_chance() -> None:
    torch.manual_seed(0)
    model = create_model("tsn_resnet18", 174)
    assert model.fc.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert torch.equal(model.fc.bias, torch.zeros(174))


def test_dropout_acts_in_training_only() -> None:
    model = small(dropout=0.5)
    nn.init.normal_(model.fc.weight)
    features = torch.ones(1, 2, 6, 2, 2)
    assert len({model.forward_head(features).sum().item() for _ in range(20)}) > 1
    model.eval()
    assert len({model.forward_head(features).sum().item() for _ in range(20)}) == 1


def test_base_has_no_features() -> None:
    with pytest.raises(TypeError, match="VideoModel does not define forward_features"):
        VideoModel(ModelSpec("x", 2), 4)(torch.zeros(1, 2, 3, 4, 4))


def test_trunk_keys() -> None:
    model = small()
    assert model.is_trunk_key("layer1.0.conv1.weight")
    assert not model.is_trunk_key("layer1.0.temporal.se.temporal.weight")
    assert not model.is_trunk_key("fc.weight")
    state = {"conv.weight": torch.zeros(1), "fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}
    assert model.trunk_weights(state).keys() == {"conv.weight"}


# ---------------------------------------------------------------- counters


def test_parameter_count_leaves_statistics_out() -> None:
    assert parameter_count(nn.BatchNorm2d(7)) == 14
    assert parameter_count(nn.Linear(3, 5)) == 20
    assert parameter_count(small(4)) == 6 * 9 + 6 * 4 + 4


def test_multiply_adds_by_hand() -> None:
    # A grouped 3x3 convolution, 1 -> 2 channels in each of 3 groups, and the classifier a frame.
    assert multiply_adds(small(4), 5, size=10) == 5 * (6 * 1 * 9 * 100 + 6 * 4)


def test_multiply_adds_takes_segments_from_the_specification() -> None:
    model = small(4)
    assert multiply_adds(model, size=10) == multiply_adds(model, 8, size=10)
    wide = Small(ModelSpec("small", 4, 2, frames_per_segment=5))
    assert multiply_adds(wide, size=10) == multiply_adds(model, 10, size=10)


def test_multiply_adds_counts_what_operators_do_not_show() -> None:
    class Moving(Small):
        def __init__(self) -> None:
            super().__init__(ModelSpec("moving", 4))
            self.over_time = TemporalConv(6)

        def forward_features(self, clips: Tensor) -> Tensor:
            features = super().forward_features(clips)
            moved = self.over_time(features.flatten(0, 1), clips.shape[1])
            return unfold_frames(moved, clips.shape[1])

    more = multiply_adds(Moving(), 5, size=10) - multiply_adds(small(4), 5, size=10)
    assert more == 5 * 3 * 6 * 100


def test_multiply_adds_leaves_the_model_alone() -> None:
    model = create_model("smnet_resnet18", 3, 4, width=8).train()
    model(torch.randn(1, 4, 3, 32, 32)).sum().backward()
    before = copy.deepcopy(model.state_dict())
    grads = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    multiply_adds(model, size=64)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, grads[k]) for k, p in model.named_parameters() if k in grads)
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert {p.device.type for p in model.parameters()} == {"cpu"}


# ---------------------------------------------------------------- head=motion


def test_moments_over_time() -> None:
    features = torch.randn(2, 5, 3, 4, 4)
    mean, deviation, motion = over_time(features).chunk(3, dim=1)
    for b in range(2):
        for c in range(3):
            frames = [float(features[b, t, c].mean()) for t in range(5)]
            middle = sum(frames) / 5
            spread = (sum((f - middle) ** 2 for f in frames) / 5) ** 0.5
            steps = [(features[b, t + 1, c] - features[b, t, c]).abs().mean() for t in range(4)]
            assert float(mean[b, c]) == pytest.approx(middle, abs=1e-6)
            assert float(deviation[b, c]) == pytest.approx(spread, abs=1e-5)
            assert float(motion[b, c]) == pytest.approx(float(sum(steps)) / 4, abs=1e-6)


def test_a_single_frame_has_no_motion() -> None:
    mean, deviation, motion = over_time(torch.randn(2, 1, 3, 4, 4)).chunk(3, dim=1)
    assert mean.abs().sum() > 0
    assert float(deviation.abs().max()) < 1e-5
    assert not motion.any()


@pytest.mark.parametrize(("times", "thirds"), [(7, [2, 2, 3]), (3, [1, 1, 1])])
def test_moments_of_the_thirds(times: int, thirds: list[int]) -> None:
    features = torch.randn(2, times, 3, 4, 4)
    moments = over_phases(features)
    assert torch.equal(moments[:, :9], over_time(features))
    frames = features.mean((3, 4)).split(thirds, dim=1)
    expected = torch.cat([frame.mean(1) for frame in frames], 1)
    assert torch.allclose(moments[:, 9:18], expected, atol=1e-6)


def test_the_motion_of_the_thirds() -> None:
    features = torch.zeros(1, 7, 1, 1, 1)
    features[0, :, 0, 0, 0] = torch.tensor([0.0, 1, 1, 1, 3, 3, 4])  # steps 1 0 | 0 2 | 0 1
    assert over_phases(features)[0, 6:].tolist() == [0.5, 1.0, 0.5]


@pytest.mark.parametrize("times", [1, 2])
def test_thirds_of_short_clips(times: int) -> None:
    moments = over_phases(torch.randn(2, times, 3, 4, 4))
    assert moments.shape == (2, 27)
    assert torch.isfinite(moments).all()


@pytest.mark.parametrize("name", ["tsn_resnet18", "smnet_mobilenetv2"])
def test_the_head_of_phases(name: str) -> None:
    model = create_model(name, 3, 4, width=8, head="phases").eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    features = model.forward_features(clips)
    assert torch.allclose(model(clips), model.fc(over_phases(features)))
    assert not torch.allclose(model(clips), model(clips.flip(1)))  # the order counts


@pytest.mark.parametrize("name", ["tsn_resnet18", "smnet_mobilenetv2", "slow_resnet18"])
def test_the_motion_head(name: str) -> None:
    model = create_model(name, 3, 4, width=8, head="motion").eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    features = model.forward_features(clips)
    assert torch.allclose(model(clips), model.fc(over_time(features)))
    assert model.fc.in_features == 3 * model.num_features
