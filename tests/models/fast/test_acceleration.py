"""Swapping, the report, and the switch; every model fast against plain."""

from __future__ import annotations

import copy
import pickle
import runpy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import smnet
from smnet.models import VideoModel, accelerate, create_model, to_channels_last
from smnet.models.fast import acceleration, kernels, modules, report, switch
from smnet.models.fast.volumes import VolumeResNet
from smnet.models.registry import FAMILIES
from smnet.models.smnet import SMNetModule

from ..reference import scramble
from .test_kernels import compiled, features

SEGMENTS = 4
OLD = not hasattr(torch.compiler, "is_exporting")  # PyTorch 2.6


@pytest.fixture
def switched_off() -> Iterator[None]:
    smnet.set_fast(False)
    yield
    smnet.set_fast(True)


def narrow(name: str, **options: object) -> VideoModel:
    model = create_model(name, 5, SEGMENTS, width=8, dropout=0.0, **options)
    scramble(model)
    to_channels_last(model)
    return model


def clips_for(model: VideoModel, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, model.spec.frames_per_clip, 3, 32, 32, generator=generator)


def gradients(model: VideoModel, clips: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    scores = model.train()(clips)
    weights = torch.linspace(-1, 1, scores.numel(), dtype=scores.dtype).view_as(scores)
    (scores * weights).sum().backward()
    return {"scores": scores.detach()} | {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def assert_near(found: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale + 1e-12, msg=name)


NAMES = [f"{family}_{f.trunks[0]}" for family, f in FAMILIES.items()]


@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("name", [*NAMES, "smnet_resnet50", "smnet_mobilenetv2"])
def test_fast_equals_plain(name: str, device: torch.device) -> None:
    plain = narrow(name).double().to(device)
    clips = clips_for(plain).double().to(device)
    fast = accelerate(copy.deepcopy(plain), "training")
    assert list(fast.state_dict()) == list(plain.state_dict())
    expected = gradients(plain, clips)
    for key, value in gradients(fast, clips).items():
        assert_near(value, expected[key], 1e-8, key)
    for key, value in fast.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], msg=key)
    with torch.inference_mode():
        scores = plain.eval()(clips)
        assert_near(fast.eval()(clips), scores, 1e-9)
        assert_near(accelerate(plain, "inference")(clips), scores, 1e-9)
        single = to_single(accelerate(plain, "inference"))
        assert_near(single(clips.float()).double(), scores, 1e-4)


def to_single(model: VideoModel) -> VideoModel:
    model = model.float()
    to_channels_last(model)
    return model


@compiled
def test_the_compiled_kernels_change_no_score_and_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = accelerate(narrow("smnet_resnet18"), "training")
    clips = clips_for(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = gradients(model, clips)
    model.load_state_dict(before)
    monkeypatch.setattr(kernels, "support", lambda x: False)
    for name, value in gradients(model, clips).items():
        assert_near(found[name], value, 1e-3, name)


def test_switched_off_nothing_is_fast(switched_off: None, monkeypatch: pytest.MonkeyPatch) -> None:
    smnet.set_fast(True)
    model = narrow("smnet_resnet18")
    fast = accelerate(copy.deepcopy(model), "training")
    smnet.set_fast(False)
    for name in ("observe", "pool", "edge_means"):
        monkeypatch.setattr(modules, name, lambda *_: pytest.fail("fast"))
    expected = gradients(copy.deepcopy(model), clips_for(model))
    for name, value in gradients(fast, clips_for(model)).items():
        assert torch.equal(value, expected[name]), name
    still_plain = accelerate(model, "training")
    assert type(still_plain.layer1[0].temporal) is SMNetModule
    assert {row.why for row in report(still_plain)} == {"switched off"}
    assert any(isinstance(m, nn.BatchNorm2d) for m in accelerate(model, "inference").modules())


@pytest.mark.parametrize(("value", "enabled"), [("0", False), ("1", True), ("", True)])
def test_the_environment_switches_it_off(
    value: str, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMNET_FAST", value)
    assert runpy.run_path(switch.__file__)["enabled"]() is enabled


def test_the_report_says_what_was_swapped_and_why_not() -> None:
    model = narrow("smnet_resnet18")
    assert {(row.fast, row.why) for row in report(model)} == {(False, "not accelerated")}
    model.layer1[0].temporal.me.norm.register_forward_hook(lambda *_: None)
    lines = {str(row) for row in report(accelerate(model, "training"))}
    assert "7 x SMNetModule: fast" in lines
    assert "1 x SMNetModule: plain: it has hooks" in lines
    model.layer1[1].temporal.register_forward_hook(lambda *_: None)  # is called as before
    model.layer1[1].temporal.se.register_forward_hook(lambda *_: None)
    assert "1 x SMNetModule: plain: a hook was registered" in map(str, report(model))
    series = accelerate(narrow("smnet_resnet18", fusion="se_me"), "training")
    assert "8 x SMNetModule: plain: no kernels for fusion=se_me" in map(str, report(series))
    assert report(accelerate(narrow("tsn_resnet18"), "training")) == []


@pytest.mark.parametrize(
    "purpose", ["inference", "export", "onnx", "onnxruntime", "openvino", "volumes"]
)
def test_a_copy_is_made_for_other_purposes_than_training(purpose: acceleration.Purpose) -> None:
    model = accelerate(narrow("smnet_resnet18"), "training").train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(m) for m in model.modules()]
    made = accelerate(model, purpose).double()
    assert [type(m) for m in model.modules()] == kinds
    assert model.training
    assert not made.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    expected = type(made.layer1[0].temporal)
    assert (expected is SMNetModule) == (purpose not in ("inference", "volumes"))


@pytest.mark.parametrize(
    ("name", "options", "fits"),
    [
        ("smnet_resnet18", {"difference": "both", "attention_norm": True}, True),
        ("smnet_resnet50", {"place": "after_conv1"}, True),
        ("tsm_resnet18", {}, True),
        ("tsn_resnet18", {}, True),  # shortcuts that sample rows and columns
        ("smnet_resnet18", {"fusion": "mean"}, False),
        ("smnet_resnet18", {"features": "res4+res5"}, False),
        ("action_resnet18", {}, False),
    ],
)
def test_models_on_volumes(name: str, options: dict[str, object], fits: bool) -> None:
    model = narrow(name, **options).eval()
    clips = torch.randn(2, SEGMENTS, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    made = accelerate(model, "volumes")
    assert isinstance(made, VolumeResNet) == fits
    with torch.inference_mode():
        assert_near(made(clips), model(clips), 1e-5)
    hooked = copy.deepcopy(model)
    hooked.layer1[0].register_forward_hook(lambda *_: None)
    if name == "tsm_resnet18":  # a hook would see other shapes
        assert not isinstance(accelerate(hooked, "volumes"), VolumeResNet)


def test_unknown_purposes_are_refused() -> None:
    with pytest.raises(ValueError, match="purpose must be one of training, inference"):
        accelerate(narrow("tsn_resnet18"), "serving")  # type: ignore[arg-type]


def test_copies_and_files_of_an_accelerated_model() -> None:
    model = accelerate(narrow("smnet_resnet18"), "training").eval()
    clips = clips_for(model)
    other = accelerate(create_model("smnet_resnet18", 5, SEGMENTS, width=8), "training")
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        scores = model(clips)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other.eval()):
            torch.testing.assert_close(copied(clips), scores)
            assert all(row.fast for row in report(copied))


@compiled
def test_a_compiled_network_calls_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    model = accelerate(narrow("smnet_resnet18", stages=[5]), "inference")
    to_channels_last(model)
    clips = clips_for(model, 3)
    calls: list[str] = []
    run = kernels.run

    def watched(name: str, *rest: object) -> int:
        calls.append(name)
        return run(name, *rest)  # type: ignore[arg-type]

    with torch.inference_mode():
        expected = [model(clips[:count]) for count in (1, 2, 3)]
        monkeypatch.setattr(kernels, "run", watched)
        torch._dynamo.reset()
        network = torch.compile(model, backend="aot_eager", fullgraph=True)
        for count in (1, 2, 3):  # the second compiles it for any number
            del calls[:]
            assert_near(network(clips[:count]), expected[count - 1], 1e-4)
            assert calls.count("pool") == calls.count("excite")
            if OLD and count > 1:  # with any number of clips it does not see every layout
                assert 0 < calls.count("pool") <= 2
            else:
                assert calls.count("pool") == 2


def test_an_exported_program_runs_without_the_package() -> None:
    model = accelerate(narrow("smnet_resnet18", stages=[5]), "export")
    for strict in (False,) if OLD else (False, True):
        with torch.no_grad():
            program = torch.export.export(model, (clips_for(model),), strict=strict)
        assert not [n for n in program.graph.nodes if "smnet." in str(n.target)]


@compiled
def test_transforms_of_torch_func_and_forward_derivatives() -> None:
    module = SMNetModule(8).eval()
    scramble(module)
    module.__class__ = modules.FastSMNetModule
    module.me.__class__ = modules.FastMotionExcitation
    x = features(1, 4, 8, 4, 4)
    expected = module(x, 4)
    torch.testing.assert_close(torch.func.vmap(lambda y: module(y, 4))(x[None])[0], expected)
    with torch.no_grad():
        value, tangent = torch.func.jvp(lambda y: module(y, 4), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(value, expected.detach())
    assert tangent.abs().sum() > 0
