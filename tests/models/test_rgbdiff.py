"""TSN on RGB differences: the differences, the start of its first convolution, the whole model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smnet.models import (
    ModelSpec,
    build_model,
    create_model,
    list_models,
    load_weights,
    multiply_adds,
    parameter_count,
)
from smnet.models.differences import DifferenceResNet, FrameAndDifferenceResNet
from smnet.models.options import option_fields
from smnet.models.registry import option_types

from .reference import assert_all_parameters_learn, noise, scramble, small


def refusal(name: str) -> str:
    """What a model says to the option, "" where it takes it."""
    try:
        with torch.device("meta"):
            create_model(name, 5, 4, width=8, modality="rgbdiff")
    except ValueError as error:
        return str(error)
    return ""


SEEING = [
    name
    for name in list_models("*_resnet18")
    if any("modality" in option_fields(declaration) for declaration in option_types(name))
]


def test_families_with_a_modality() -> None:
    known = {"smnet", "tsn", "tsm", "stm", "teinet", "action", "tam"}
    assert {f"{family}_resnet18" for family in known} <= set(SEEING)
    for name in set(list_models("*_resnet18")) - set(SEEING):
        assert "has no option 'modality'" in refusal(name)


def naive(model: DifferenceResNet, clips: Tensor) -> Tensor:
    """Segment after segment: the differences, the image network on each, the mean of scores."""
    rows = []
    for clip in clips:
        scores = []
        for start in range(0, len(clip), 6):
            frames = clip[start : start + 6]
            channels = [frames[k + 1, c] - frames[k, c] for k in range(5) for c in range(3)]
            x = torch.stack(channels)[None]
            x = F.conv2d(x, model.conv1.weight, stride=2, padding=3)
            x = model.stages(model.maxpool(torch.relu(model.bn1(x))), 1)
            scores.append(x.mean((2, 3)) @ model.fc.weight.T + model.fc.bias)
        rows.append(torch.cat(scores).mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("trunk", ["resnet18", "resnet50"])
def test_scores_are_the_equations(trunk: str, segments: int) -> None:
    model = small(f"rgbdiff_{trunk}", 3)
    assert isinstance(model, DifferenceResNet)
    results = []
    for function in (model, lambda a: naive(model, a)):
        clips = noise(2, 6 * segments, 3, 32, 32).requires_grad_()
        out = function(clips)
        grads = torch.autograd.grad(out.square().sum(), [clips, *model.parameters()])
        results.append((out, *grads))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_a_static_clip_equals_a_black_one() -> None:
    model = small("rgbdiff_resnet18", 2)
    still = noise(1, 1, 3, 32, 32).expand(-1, 12, -1, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(model(still), model(torch.zeros_like(still)))
        assert not torch.allclose(model(noise(1, 12, 3, 32, 32)), model(still), rtol=1e-3)


def test_order_counts_within_a_segment_only() -> None:
    model = small("rgbdiff_resnet18", 4)
    clips = noise(2, 24, 3, 32, 32)
    segments = clips.unflatten(1, (4, 6))
    with torch.no_grad():
        scores = model(clips)
        swapped = model(segments.flip(1).flatten(1, 2))
        assert not torch.allclose(model(segments.flip(2).flatten(1, 2)), scores, rtol=1e-3)
    torch.testing.assert_close(swapped, scores, rtol=1e-9, atol=1e-10)


def test_clips_stay_apart() -> None:
    model = small("rgbdiff_resnet18", 2)
    clips = noise(3, 12, 3, 32, 32)
    with torch.no_grad():
        alone = torch.cat([model(clip[None]) for clip in clips])
        torch.testing.assert_close(model(clips), alone, rtol=1e-9, atol=1e-10)


def test_first_convolution_starts_as_the_mean_over_rgb() -> None:
    donor = create_model("tsn_resnet18", 7, width=8)
    scramble(donor)
    model = create_model("rgbdiff_resnet18", 5, width=8, weights=donor.state_dict())
    weight = donor.state_dict()["conv1.weight"]
    for channel in range(15):
        torch.testing.assert_close(model.conv1.weight[:, channel], weight.mean(1))
    for name, tensor in model.state_dict().items():
        if name != "conv1.weight" and not name.startswith("fc."):
            assert torch.equal(tensor, donor.state_dict()[name]), name


def test_a_network_on_differences_starts_another() -> None:
    donor = create_model("rgbdiff_resnet18", 7, width=8)
    model = create_model("rgbdiff_resnet18", 5, width=8)
    load_weights(model, donor.state_dict())
    assert torch.equal(model.conv1.weight, donor.conv1.weight)
    flow = {k: v[:, :10] if k == "conv1.weight" else v for k, v in donor.state_dict().items()}
    with pytest.raises(ValueError, match=r"conv1\.weight: \(8, 10, 7, 7\) for \(8, 15, 7, 7\)"):
        load_weights(model, flow)


def test_specification() -> None:
    assert list_models("rgbdiff_*") == [f"rgbdiff_resnet{depth}" for depth in (101, 18, 34, 50)]
    spec = create_model("rgbdiff_resnet18", 5, 4, width=8).spec
    assert (spec.num_segments, spec.frames_per_segment, spec.frames_per_clip) == (4, 6, 24)
    # values in [0, 1], as the published networks on differences were trained
    assert (spec.mean, spec.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"needs frames_per_segment=6, .*frames_per_segment=1"):
        build_model(ModelSpec("rgbdiff_resnet18", 3))
    with pytest.raises(ValueError, match="expected 6 consecutive frames a segment, got clips of 8"):
        small("rgbdiff_resnet18", 2)(noise(1, 8, 3, 32, 32))


@pytest.mark.parametrize("name", [*SEEING, "smnet_res2net50"])
def test_every_family_on_differences(name: str) -> None:
    model = small(name, 4, modality="rgbdiff")
    assert model.spec.frames_per_clip == 24
    assert build_model(model.spec).state_dict().keys() == model.state_dict().keys()
    plain = create_model(name, 5, 4, width=8).double().eval()
    plain.load_state_dict({**model.state_dict(), "conv1.weight": plain.conv1.weight})
    clips = noise(2, 24, 3, 32, 32)
    frames = clips.view(8, 6, 3, 32, 32)
    with torch.no_grad():
        x = model.conv1((frames[:, 1:] - frames[:, :-1]).flatten(1, 2))
        x = plain.stages(plain.maxpool(plain.relu(plain.bn1(x))), 4)
        expected = plain.forward_head(x.unflatten(0, (2, 4)))
        torch.testing.assert_close(model(clips), expected)


def test_it_is_tsn_on_differences() -> None:
    model, tsn = small("rgbdiff_resnet18", 2), small("tsn_resnet18", 2, modality="rgbdiff")
    assert (tsn.spec.frames_per_segment, tsn.spec.mean) == (6, (0.0, 0.0, 0.0))
    clips = noise(2, 12, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(clips), tsn(clips))


# ---------------------------------------------------------------- a frame and the differences


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def in_steps(model: FrameAndDifferenceResNet, clips: Tensor) -> Tensor:
    """The equations of a clip (B, 20, 3, 32, 32), of which differences weigh 1/4."""
    frames = clips.reshape(-1, 5, 3, 32, 32)
    channels = [frames[:, k + 1, c] - frames[:, k, c] for k in range(4) for c in range(3)]
    halves = F.avg_pool2d(torch.stack(channels, 1), 2)
    around = F.conv2d(halves, model.difference.conv1.weight, stride=2, padding=3)
    around = F.max_pool2d(torch.relu(model.difference.bn1(around)), 3, 2, 1)
    x = model.maxpool(torch.relu(model.bn1(model.conv1(frames[:, 2]))))
    x = 0.75 * x + 0.25 * doubled(around)
    for block in model.layer1:
        x = block(x, 4)
    for block in model.difference.layer1:
        around = block(around, 1)
    x = 0.75 * x + 0.25 * doubled(around)
    for block in [*model.layer2, *model.layer3, *model.layer4]:
        x = block(x, 4)
    return model.forward_head(x.unflatten(0, (-1, 4)))


@pytest.mark.parametrize("name", [*SEEING, "smnet_res2net50"])
def test_every_family_on_frames_and_differences(name: str) -> None:
    model = small(name, 4, modality="rgb+rgbdiff")
    assert isinstance(model, FrameAndDifferenceResNet)
    assert not any(".temporal." in key for key in model.difference.state_dict())
    assert (model.spec.frames_per_clip, model.spec.mean) == (20, (0.485, 0.456, 0.406))
    assert build_model(model.spec).state_dict().keys() == model.state_dict().keys()
    results = []
    for scores_of in (model, lambda clips: in_steps(model, clips)):
        clips = noise(2, 20, 3, 32, 32).requires_grad_()
        out = scores_of(clips)
        grads = torch.autograd.grad(out.square().sum(), [clips, *model.parameters()])
        results.append((out, *grads))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_tdn_reads_frames_and_differences() -> None:
    tdn, smnet = small("tdn_resnet18", 4), small("smnet_resnet18", 4, modality="rgb+rgbdiff")
    assert isinstance(tdn, FrameAndDifferenceResNet)
    shapes = [
        {k: v.shape for k, v in m.difference.state_dict().items() if not k.endswith(".bias")}
        for m in (tdn, smnet)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("segments", "weight"), [(8, 0.5), (4, 0.25), (16, 0.25)])
def test_the_share_of_differences(segments: int, weight: float) -> None:
    model = small("smnet_resnet18", segments, modality="rgb+rgbdiff")
    assert model.difference_weight == weight
    given = small("smnet_resnet18", segments, modality="rgb+rgbdiff", difference_weight=0)
    clips = noise(1, 5 * segments, 3, 32, 32)
    frames = create_model("smnet_resnet18", 5, segments, width=8).double().eval()
    state = given.state_dict()
    frames.load_state_dict({k: v for k, v in state.items() if not k.startswith("difference.")})
    with torch.no_grad():
        torch.testing.assert_close(given(clips), frames(clips[:, 2::5]))
    with pytest.raises(ValueError, match="a number from 0 to 1, or null, not 2"):
        create_model("tsm_resnet18", 5, modality="rgb+rgbdiff", difference_weight=2)
    with pytest.raises(ValueError, match="difference_weight"):
        create_model("tsm_resnet18", 5, difference_weight=0.5)


def test_a_replaced_convolution_stays_in_the_difference_branch() -> None:
    options = {"width": 8, "modality": "rgb+rgbdiff", "place": "instead_of_conv2"}
    donor = create_model("tsn_resnet50", 5, 4, width=8).state_dict()
    model = create_model("smnet_resnet50", 5, 4, **options, weights=donor)
    assert "layer1.0.conv2.weight" not in model.state_dict()
    assert torch.equal(
        model.state_dict()["difference.layer1.0.conv2.weight"], donor["layer1.0.conv2.weight"]
    )


@pytest.mark.parametrize("size", [33, 34, 35, 47])
def test_odd_sizes_of_frames_and_differences(size: int) -> None:
    model = small("smnet_resnet18", 2, modality="rgb+rgbdiff")
    assert model(noise(1, 10, 3, size, size)).shape == (1, 5)


def test_both_start_from_an_image_network() -> None:
    donor = create_model("tsn_resnet18", 7, width=8)
    scramble(donor)
    state = donor.state_dict()
    model = create_model("smnet_resnet18", 5, width=8, modality="rgb+rgbdiff", weights=state)
    fresh = create_model("smnet_resnet18", 5, width=8, modality="rgb+rgbdiff")
    assert isinstance(model, FrameAndDifferenceResNet)
    for channel in range(12):
        torch.testing.assert_close(
            model.difference.conv1.weight[:, channel], state["conv1.weight"].mean(1)
        )
    for name, tensor in model.state_dict().items():
        origin = name.removeprefix("difference.")
        if origin.startswith("layer1.") and ".temporal." not in name:
            assert torch.equal(tensor, state[origin]), name
        elif name in state and not name.startswith("fc."):
            assert torch.equal(tensor, state[name]), name
    new = model.difference.bn1.state_dict()
    assert all(torch.equal(v, fresh.difference.bn1.state_dict()[k]) for k, v in new.items())
    again = create_model("smnet_resnet18", 5, width=8, modality="rgb+rgbdiff")
    scramble(model)
    load_weights(again, model.state_dict())
    assert torch.equal(again.difference.conv1.weight, model.difference.conv1.weight)


def test_size_of_both() -> None:
    with torch.device("meta"):
        options = {"modality": "rgb+rgbdiff"}
        model, plain = (create_model("smnet_resnet18", 101, **o) for o in (options, {}))
    stem, layer1 = 64 * 12 * 49, 4 * 64 * 64 * 9
    norms = 2 * (64 + 4 * 64)
    assert parameter_count(model) == parameter_count(plain) + stem + layer1 + norms
    added = stem * 56 * 56 + layer1 * 28 * 28
    assert multiply_adds(model, 8) == multiply_adds(plain, 8) + 8 * added


def test_all_parameters_of_both_learn() -> None:
    model = small("tsm_resnet18", 2, training=True, modality="rgb+rgbdiff")
    assert_all_parameters_learn(model, 10)


@pytest.mark.parametrize(
    ("name", "modality", "says"),
    [
        ("tsm_resnet18", "flow", "modality must be rgb, rgbdiff or rgb.rgbdiff, not 'flow'"),
        ("tsm_mobilenetv2", "rgb+rgbdiff", "modality must be rgb, not"),
        ("tsm_mobilenetv2", "rgbdiff", "modality must be rgb, not"),
        ("tdn_resnet18", "rgbdiff", "tdn_resnet18 has no option 'modality'"),
        ("rgbdiff_resnet18", "rgb", "rgbdiff_resnet18 has no option 'modality'"),
    ],
)
def test_impossible_modalities(name: str, modality: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create_model(name, 5, modality=modality)


def test_size() -> None:
    with torch.device("meta"):
        model, plain = (create_model(f"{n}_resnet50", 101) for n in ("rgbdiff", "tsn"))
    assert parameter_count(model) == parameter_count(plain) + 64 * 12 * 49
    assert multiply_adds(model, 8) == multiply_adds(plain, 8) + 8 * 64 * 12 * 49 * 112 * 112


def test_all_parameters_learn() -> None:
    model = small("rgbdiff_resnet18", 2, training=True)
    assert_all_parameters_learn(model, 12)
