"""The fused step against the plain formulation, which it must equal in everything but memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune

from smnet.models import create_model, fused, to_channels_last
from smnet.models.smnet import SMNetModule
from smnet.models.smnet_options import SMNetOptions

SEGMENTS = 4


def make(
    channels: int = 16, dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[SMNetModule, nn.Conv2d, Tensor]:
    """A module with nothing at a special value, a convolution for it, and features of two clips."""
    torch.manual_seed(0)
    module = SMNetModule(channels, SMNetOptions(reduction=4, **options)).to(dtype)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    conv = nn.Conv2d(channels, 12, 3, stride=2, padding=1, bias=True).to(dtype)
    x = torch.randn(2 * SEGMENTS, channels, 6, 5, dtype=dtype).relu()
    return module, conv, x.contiguous(memory_format=torch.channels_last).requires_grad_()


def learn(
    module: SMNetModule, conv: nn.Module, x: Tensor, plain: bool
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The output, and the gradients of everything that has one."""
    both = nn.ModuleDict({"module": module, "conv": conv})
    if plain:
        out = conv(module(x, SEGMENTS))
    else:
        out = module.before(conv, x, SEGMENTS)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    names, asked = zip(
        *[(n, p) for n, p in both.named_parameters() if p.requires_grad], strict=True
    )
    grads = torch.autograd.grad((out * weights).sum(), [x, *asked], retain_graph=True)
    return out.detach(), dict(zip(("x", *names), grads, strict=True))


def assert_equal(module: SMNetModule, conv: nn.Module, x: Tensor, tolerance: float = 1e-10) -> None:
    """Output, gradients and running statistics of the two forms on copies of a module."""
    other, other_conv = copy.deepcopy(module), copy.deepcopy(conv)
    assert fused.applies(module, conv, x)
    out, grads = learn(module, conv, x, plain=False)
    expected, expected_grads = learn(other, other_conv, x, plain=True)
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    assert grads.keys() == expected_grads.keys()
    for name, grad in expected_grads.items():
        scale = float(grad.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(grads[name], grad, rtol=0, atol=tolerance * scale, msg=name)
    for (name, held), (_, expected_held) in zip(
        module.named_buffers(), other.named_buffers(), strict=True
    ):
        torch.testing.assert_close(held, expected_held, msg=name)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 4, 1, bias=False),
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(16, 8, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4),
    ],
    ids=["1x1", "1x1 stride 2", "3x3 stride 2", "grouped, dilated"],
)
def test_it_equals_module_and_convolution(conv: nn.Conv2d) -> None:
    module, _, x = make()
    assert_equal(module, conv.double(), x)


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "centred"},
        {"motion_init": "difference"},
        {"difference": "both"},
        {"attention_norm": True},
        {"attention_kernel": 3},
        {"temporal_init": "identity"},
    ],
    ids=str,
)
def test_it_equals_the_options_that_it_knows(options: dict[str, Any]) -> None:
    assert_equal(*make(**options))


def test_in_single_precision_too() -> None:
    assert_equal(*make(dtype=torch.float32), tolerance=1e-5)


def test_channels_that_share_the_maximum_share_its_gradient() -> None:
    module, conv, x = make()
    with torch.no_grad():
        x[:, :, 1:4] = 0  # there Z is zero in every channel
    assert_equal(module, conv, x)


@pytest.mark.parametrize(
    "options",
    [
        {"parts": "se"},
        {"parts": "me"},
        {"groups": 2},
        {"temporal_space": 3},
        {"attention": "mean"},
        {"attention": "none"},
        {"order": "parallel"},
        {"residual": "x"},
        {"motion_input": "z"},
        {"fusion": "mean"},
        {"fusion": "se_me"},
        {"temporal": False},
    ],
    ids=str,
)
def test_options_that_it_does_not_know_take_the_plain_form(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the fused step was taken")

    monkeypatch.setattr(fused, "excite_and_convolve", never)
    module, conv, x = make(**options)
    out, _ = learn(module, conv, x, plain=False)
    torch.testing.assert_close(out, learn(module, conv, x, plain=True)[0])


def test_it_stands_back_where_it_would_hide_something() -> None:
    module, conv, x = make()
    assert fused.applies(module, conv, x)
    with torch.no_grad():
        assert not fused.applies(module, conv, x)
    assert not fused.applies(module, nn.Sequential(conv), x)
    assert not fused.applies(module, conv, x.contiguous())
    assert not fused.applies(module, conv, x.to("meta"))
    assert not fused.applies(copy.deepcopy(module).eval(), conv, x)
    circular = nn.Conv2d(16, 12, 3, padding=1, padding_mode="circular")
    assert not fused.applies(module, circular, x)
    for watched in (conv, module, module.me):
        hook = watched.register_forward_hook(lambda *_: None)
        assert not fused.applies(module, conv, x)
        hook.remove()
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.applies(module, conv, x)  # the features are not what autocast makes
    hook = register_module_forward_hook(lambda *_: None)
    assert not fused.applies(module, conv, x)
    hook.remove()
    assert not fused.applies(module, conv, x[:0])
    torch.func.grad(lambda y: y.sum() * (not fused.applies(module, conv, y) or torch.nan))(x)
    assert fused.applies(module, conv, x)


def test_no_clip_at_all() -> None:
    module, conv, x = make()
    out = module.before(conv, x[:0], SEGMENTS)
    out.sum().backward()
    assert out.shape == (0, 12, 3, 3)


def test_one_value_a_channel_has_no_statistics() -> None:
    module, conv, x = make()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module.before(conv, x[:1, :, :1, :1], 1)


@pytest.mark.parametrize("part", ["squeeze", "expand"])
def test_parametrised_layers(part: str) -> None:
    module, conv, x = make()
    parametrizations.weight_norm(getattr(module.me, part))
    assert_equal(module, conv, x)


def test_backward_under_autocast_is_backward_without() -> None:
    module, conv, x = make(dtype=torch.float32)
    out = module.before(conv, x, SEGMENTS).square().sum()
    everything = [x, *module.parameters()]
    expected = torch.autograd.grad(out, everything, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(out, everything)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_it_stores_one_map_where_the_plain_form_stores_three() -> None:
    module, conv, x = make(channels=64)

    def stored(plain: bool) -> float:
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = conv(module(x, SEGMENTS)) if plain else module.before(conv, x, SEGMENTS)
        assert out.requires_grad
        weights = sum(p.nbytes for p in (*module.parameters(), *conv.parameters()))
        return (sum(kept.values()) - weights) / x.nbytes

    assert stored(plain=True) > 2.9
    assert stored(plain=False) < 1.8  # the squeezed maps are large beside so narrow features


def test_parts_that_do_not_learn_get_no_gradient() -> None:
    module, conv, x = make()
    assert module.me is not None
    for frozen in (*module.me.norm.parameters(), conv.weight):
        frozen.requires_grad_(False)
    assert_equal(module, conv, x)


def test_backward_may_be_taken_twice() -> None:
    module, conv, x = make()
    out = module.before(conv, x, SEGMENTS).square().sum()
    first = torch.autograd.grad(out, [x, *module.parameters()], retain_graph=True)
    second = torch.autograd.grad(out, [x, *module.parameters()])
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("fusion", ["sum", "mean"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_module_alone_has_a_second_derivative(mode: str, fusion: str) -> None:
    module, _, _ = make(channels=4, fusion=fusion)
    x = torch.randn(SEGMENTS, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    module.train(mode == "train")
    assert torch.autograd.gradgradcheck(lambda x: module(x, SEGMENTS), x)


def test_the_step_says_that_it_has_no_second_derivative() -> None:
    module, conv, x = make()
    out = module.before(conv, x, SEGMENTS).square().sum()
    with pytest.raises(RuntimeError, match="set fusable = False on every SMNetModule"):
        torch.autograd.grad(out, x, create_graph=True)
    module.fusable = False
    out = module.before(conv, x, SEGMENTS).square().sum()
    assert torch.autograd.grad(out, x, create_graph=True)[0].requires_grad


@pytest.mark.parametrize("part", ["transform", "squeeze", "expand"])
@pytest.mark.parametrize("training", [True, False])
def test_pruned_layers_are_those_that_were_loaded(part: str, training: bool) -> None:
    """The mask is put on the weight by a hook, before each call."""
    one, other = make()[0].train(training), make()[0].train(training)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    for module in (one, other):
        prune.l1_unstructured(getattr(module.me, part), "weight", 0.5)
    other.load_state_dict(one.state_dict())
    _, conv, x = make()
    found, expected = (m.before(conv, x, SEGMENTS) for m in (other, one))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("part", ["se.temporal", "me.squeeze", "me.transform"])
def test_what_learns_in_place_of_a_parameter_gets_its_gradient(part: str) -> None:
    """As the parts of one long parameter under FSDP."""
    module, conv, x = make()
    layer = module.get_submodule(part)
    long = layer.weight.detach().flatten().requires_grad_()
    shape = layer.weight.shape
    del layer.weight
    layer.weight = long.view(shape)
    assert not fused.applies(module, conv, x)
    module.before(conv, x, SEGMENTS).square().sum().backward()
    assert long.grad is not None
    assert float(long.grad.abs().max()) > 0


def test_under_autocast_it_works_in_the_type_of_the_features() -> None:
    module, conv, x = make(dtype=torch.float32)
    expected, expected_grads = learn(module, conv, x, plain=True)
    half = x.detach().to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert fused.applies(module, conv, half)
        out = module.before(conv, half, SEGMENTS)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1 * float(expected.std()))
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    named = dict(module.named_parameters(prefix="module")) | {"x": half}
    grads = torch.autograd.grad((out * weights).sum(), list(named.values()))
    for name, grad in zip(named, grads, strict=True):
        assert grad.dtype == named[name].dtype
        wanted = expected_grads[name]
        assert wanted is not None
        off = (grad.float() - wanted).norm() / wanted.norm()
        assert float(off) < 0.1, (name, float(off))


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
@pytest.mark.parametrize("trunk", ["resnet18", "resnet50"])
def test_every_block_of_the_network_takes_it(
    trunk: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create_model(f"smnet_{trunk}", 5, SEGMENTS, width=8, place=place)
    to_channels_last(model)
    calls = []
    take = fused.excite_and_convolve

    def counted(*args: Any) -> Tensor:
        calls.append(args)
        return take(*args)

    monkeypatch.setattr(fused, "excite_and_convolve", counted)
    model.train()(torch.randn(1, SEGMENTS, 3, 32, 32)).sum().backward()
    assert len(calls) == {"resnet18": 8, "resnet50": 16}[trunk]
    assert all(p.grad is not None for p in model.parameters())


def test_compilers_see_one_graph() -> None:
    model = create_model("smnet_resnet18", 5, SEGMENTS, width=8).train()
    to_channels_last(model)
    clips = torch.randn(1, SEGMENTS, 3, 32, 32)
    torch._dynamo.reset()
    compiled = torch.compile(model.layer1[0], backend="eager", fullgraph=True)
    x = model.stem(clips[0]).detach().contiguous(memory_format=torch.channels_last)
    assert compiled(x.requires_grad_(), SEGMENTS).requires_grad
