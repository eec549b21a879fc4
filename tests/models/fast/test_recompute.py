"""SMNet's step in training against the plain module: equal in everything but memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune

from smnet.models import accelerate, create_model, to_channels_last
from smnet.models.fast import modules
from smnet.models.fast.acceleration import TWINS, obstacle
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


def fast(module: SMNetModule) -> SMNetModule:
    """A copy with its twins, as :func:`accelerate` makes them in a model."""
    module = copy.deepcopy(module)
    for part in module.modules():
        if type(part) in TWINS["training"] and obstacle(part) is None:
            part.__class__ = TWINS["training"][type(part)]
    return module


def run(module: SMNetModule, conv: nn.Module, x: Tensor) -> Tensor:
    """What a block computes."""
    if hasattr(module, "around"):
        return module.around(conv, x, SEGMENTS)  # type: ignore[operator,no-any-return]
    return conv(module(x, SEGMENTS))  # type: ignore[no-any-return]


def learn(module: SMNetModule, conv: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradients of everything that has one."""
    both = nn.ModuleDict({"module": module, "conv": conv})
    out = run(module, conv, x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    names, asked = zip(
        *[(n, p) for n, p in both.named_parameters() if p.requires_grad], strict=True
    )
    grads = torch.autograd.grad((out * weights).sum(), [x, *asked], retain_graph=True)
    return out.detach(), dict(zip(("x", *names), grads, strict=True))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one entry per step that keeps one feature map."""
    calls: list[str] = []
    take = modules.observe

    def counted(*args: Any) -> Any:
        calls.append("step")
        return take(*args)

    monkeypatch.setattr(modules, "observe", counted)
    return calls


def assert_equal(module: SMNetModule, conv: nn.Module, x: Tensor, tolerance: float = 1e-10) -> None:
    """Output, gradients and running statistics of a module and its twin."""
    twin = fast(module)
    out, grads = learn(twin, copy.deepcopy(conv), x)
    expected, expected_grads = learn(module, conv, x)
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    assert grads.keys() == expected_grads.keys()
    for name, grad in expected_grads.items():
        scale = float(grad.abs().max())
        assert scale > 0, name
        if name.endswith("squeeze.parametrizations.weight.original0"):
            continue  # rounding alone: the normalisation takes the scale out again
        torch.testing.assert_close(grads[name], grad, rtol=0, atol=tolerance * scale, msg=name)
    for (name, held), (_, expected_held) in zip(
        twin.named_buffers(), module.named_buffers(), strict=True
    ):
        torch.testing.assert_close(held, expected_held, msg=name)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 4, 1, bias=False),
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(16, 8, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(16, 8, 3, padding=1, padding_mode="circular"),
        nn.Sequential(nn.Conv2d(16, 8, 1)),
    ],
    ids=["1x1", "1x1 stride 2", "3x3 stride 2", "grouped, dilated", "circular", "other module"],
)
def test_it_equals_module_and_convolution(conv: nn.Module, steps: list[str]) -> None:
    module, _, x = make()
    assert_equal(module, conv.double(), x)
    assert len(steps) == 1


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
def test_it_equals_the_options_that_it_knows(options: dict[str, Any], steps: list[str]) -> None:
    assert_equal(*make(**options))
    assert len(steps) == 1


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
def test_options_that_it_does_not_know_are_left_plain(
    options: dict[str, Any], steps: list[str]
) -> None:
    assert_equal(*make(**options))
    assert not steps
    name = "groups" if "groups" in options or "temporal_space" in options else next(iter(options))
    assert name in str(obstacle(make(**options)[0]))


def test_it_runs_the_plain_module_where_it_would_skip_something(steps: list[str]) -> None:
    module, conv, x = make()
    twin = fast(module)

    def is_step(conv: nn.Module = conv, x: Tensor = x) -> bool:
        steps.clear()
        run(twin, conv, x)
        return bool(steps)

    assert is_step()
    with torch.no_grad():
        assert not is_step()
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_step()  # the features are not of the type that autocast computes in
    assert not is_step(x=x.contiguous())
    for watched in (twin, twin.me, twin.me.norm, twin.se.temporal):
        called = []
        hook = watched.register_forward_hook(lambda *_, called=called: called.append(1))
        run(twin, conv, x)
        hook.remove()
        assert called, watched
    hook = register_module_forward_hook(lambda *_: None)
    assert not is_step()
    hook.remove()
    assert not is_step(x=x[:0])
    twin.eval()
    assert not is_step()


def test_no_clip_at_all() -> None:
    module, conv, x = make()
    out = run(fast(module), conv, x[:0])
    out.sum().backward()
    assert out.shape == (0, 12, 3, 3)


def test_one_value_a_channel_has_no_statistics() -> None:
    module, conv, x = make()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fast(module).around(conv, x[:1, :, :1, :1], 1)


@pytest.mark.parametrize("part", ["squeeze", "expand"])
def test_parametrised_layers(part: str) -> None:
    module, conv, x = make()
    parametrizations.weight_norm(getattr(module.me, part))
    assert_equal(module, conv, x)


def test_backward_under_autocast_is_backward_without() -> None:
    module, conv, x = make(dtype=torch.float32)
    module = fast(module)
    out = run(module, conv, x).square().sum()
    everything = [x, *module.parameters()]
    expected = torch.autograd.grad(out, everything, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(out, everything)
    for a, b in zip(found, expected, strict=True):  # the small modules compute in bfloat16
        torch.testing.assert_close(a, b, rtol=0, atol=1e-2 * float(b.abs().max()))


def test_it_stores_one_map_where_the_plain_form_stores_three() -> None:
    module, conv, x = make(channels=64)

    def stored(plain: bool) -> float:
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = run(module if plain else fast(module), conv, x)
        assert out.requires_grad
        return sum(size for size in kept.values() if size >= x.nbytes) / x.nbytes

    assert stored(plain=True) >= 3
    assert stored(plain=False) == 1


def test_parts_that_do_not_learn_get_no_gradient() -> None:
    module, conv, x = make()
    assert module.me is not None
    for frozen in (*module.me.norm.parameters(), conv.weight):
        frozen.requires_grad_(False)
    assert_equal(module, conv, x)


def test_backward_may_be_taken_twice() -> None:
    module, conv, x = make()
    module = fast(module)
    out = run(module, conv, x).square().sum()
    first = torch.autograd.grad(out, [x, *module.parameters()], retain_graph=True)
    second = torch.autograd.grad(out, [x, *module.parameters()])
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("fusion", ["sum", "mean"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_second_derivatives(mode: str, fusion: str) -> None:
    module, _, _ = make(channels=4, fusion=fusion)
    module = fast(module.train(mode == "train"))
    conv = nn.Conv2d(4, 2, 1).double()
    x = torch.randn(SEGMENTS, 4, 3, 3, dtype=torch.float64, requires_grad=True)

    def innermost(x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    assert torch.autograd.gradgradcheck(
        lambda x: run(module, conv, innermost(x)), x, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(lambda x: module(innermost(x), SEGMENTS), x, fast_mode=True)


@pytest.mark.parametrize("part", ["transform", "squeeze", "expand"])
@pytest.mark.parametrize("training", [True, False])
def test_pruned_layers_are_those_that_were_loaded(part: str, training: bool) -> None:
    """The mask is put on the weight by a hook, before each call."""
    one, other = (fast(make()[0].train(training)) for _ in range(2))
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    for module in (one, other):
        prune.l1_unstructured(getattr(module.me, part), "weight", 0.5)
    other.load_state_dict(one.state_dict())
    _, conv, x = make()
    found, expected = (run(m, conv, x) for m in (other, one))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("part", ["se.temporal", "me.squeeze", "me.transform"])
def test_what_learns_in_place_of_a_parameter_gets_its_gradient(part: str) -> None:
    """As the parts of one long parameter under FSDP."""
    module, conv, x = make()
    expected = learn(module, conv, x)[1][f"module.{part}.weight"]
    module = fast(module)
    layer = module.get_submodule(part)
    long = layer.weight.detach().flatten().requires_grad_()
    shape = layer.weight.shape
    del layer.weight
    layer.weight = long.view(shape)
    out = run(module, conv, x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    assert long.grad is not None
    torch.testing.assert_close(long.grad.view(shape), expected)


def test_under_autocast_it_works_in_the_type_of_the_features(steps: list[str]) -> None:
    module, conv, x = make(dtype=torch.float32)
    expected, expected_grads = learn(module, conv, x)
    module = fast(module)
    half = x.detach().to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = run(module, conv, half)
    assert steps
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1 * float(expected.std()))
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    named = dict(module.named_parameters(prefix="module")) | {"x": half}
    grads = torch.autograd.grad((out * weights).sum(), list(named.values()))
    for name, grad in zip(named, grads, strict=True):
        assert grad.dtype == named[name].dtype
        wanted = expected_grads[name]
        off = (grad.float() - wanted).norm() / wanted.norm()
        assert float(off) < 0.1, (name, float(off))


@pytest.mark.parametrize("place", ["before_conv1", "after_conv1"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2"])
def test_every_block_of_the_network_takes_it(name: str, place: str, steps: list[str]) -> None:
    model = create_model(f"smnet_{name}", 5, SEGMENTS, width=8, place=place)
    to_channels_last(accelerate(model, "training"))
    model.train()(torch.randn(1, SEGMENTS, 3, 32, 32)).sum().backward()
    assert len(steps) == {"resnet18": 8, "resnet50": 16, "mobilenetv2": 10}[name]
    assert all(p.grad is not None for p in model.parameters())


def test_compilers_see_one_graph() -> None:
    model = accelerate(create_model("smnet_resnet18", 5, SEGMENTS, width=8).train(), "training")
    to_channels_last(model)
    clips = torch.randn(1, SEGMENTS, 3, 32, 32)
    torch._dynamo.reset()
    compiled = torch.compile(model.layer1[0], backend="eager", fullgraph=True)
    x = model.stem(clips[0]).detach().contiguous(memory_format=torch.channels_last)
    assert compiled(x.requires_grad_(), SEGMENTS).requires_grad
