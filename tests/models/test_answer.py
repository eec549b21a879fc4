"""The module as one compiled call against its equations, and where it may not stand for them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations
from torch.utils._pytree import tree_map_only

from smnet.models import create_model, fold_norms, native, to_channels_last
from smnet.models.answer import answer
from smnet.models.smnet import MotionExcitation, SMNetModule
from smnet.models.smnet_options import SMNetOptions

from .test_native import compiled, features


def make(channels: int = 16, **options: Any) -> SMNetModule:
    """A module that only answers, with nothing at a special value."""
    module = SMNetModule(channels, SMNetOptions(**{"reduction": 4, **options})).eval()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2)
        elif tensor.is_floating_point():
            nn.init.normal_(tensor, std=0.5)
    return module


def by_equations(module: SMNetModule, x: Tensor, segments: int) -> Tensor:
    """In double precision, where nothing is compiled."""
    with torch.no_grad():
        return copy.deepcopy(module).double()(x.double(), segments).float()


@torch.no_grad()
def assert_equal(module: SMNetModule, x: Tensor, segments: int) -> None:
    answered = answer(module, x, segments)
    assert answered is not None
    torch.testing.assert_close(
        answered, by_equations(module, x, segments), rtol=1e-5, atol=1e-5 * float(x.abs().max() + 1)
    )
    assert torch.equal(module(x, segments), answered)  # it is what the module runs on


@compiled
@settings(deadline=None, max_examples=80)
@given(
    clips=st.integers(1, 3),
    segments=st.integers(1, 5),
    channels=st.integers(4, 40),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    reduction=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, 7, 11]),
    gate=st.sampled_from(["sigmoid", "centred"]),
    difference=st.sampled_from(["forward", "both"]),
    norm=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_it_equals_the_equations(
    clips: int,
    segments: int,
    channels: int,
    height: int,
    width: int,
    reduction: int,
    kernel: int,
    gate: Any,
    difference: Any,
    norm: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    module = make(
        channels,
        reduction=reduction,
        attention_kernel=kernel,
        attention_norm=norm,
        gate=gate,
        difference=difference,
    )
    assert_equal(module, features(clips, segments, channels, height, width), segments)


@compiled
@pytest.mark.parametrize("size", [(1, 31), (2, 32), (3, 33), (5, 64), (2, 65)])
def test_rows_longer_than_what_is_done_at_a_time(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    assert_equal(make(), features(1, 2, 16, *size), 2)


@compiled
@pytest.mark.parametrize("channels", [511, 512, 513, 1100])
def test_more_channels_than_what_is_done_at_a_time(channels: int) -> None:
    torch.manual_seed(0)
    module = make(channels, reduction=64)
    with torch.no_grad():  # else the gates of so many channels are all 0 or 1
        module.me.squeeze.weight /= channels**0.5
    assert_equal(module, features(2, 3, channels, 2, 3), 3)


@compiled
def test_the_number_of_threads_changes_no_bit() -> None:
    torch.manual_seed(0)
    module, x = make(24), features(3, 4, 24, 9, 11)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = answer(module, x, 4)
        torch.set_num_threads(3)
        together = answer(module, x, 4)
    finally:
        torch.set_num_threads(threads)
    assert alone is not None
    assert together is not None
    assert torch.equal(alone, together)


@compiled
@torch.no_grad()
def test_a_clip_keeps_its_nan() -> None:
    torch.manual_seed(0)
    module, x = make(), features(3, 2, 16, 6, 5)
    expected = answer(module, x, 2)
    x[2, 3, 1, 1] = float("nan")
    answered = answer(module, x, 2)
    assert answered is not None
    assert expected is not None
    assert answered[2].isnan().any()
    for clip in (slice(0, 2), slice(4, 6)):
        assert torch.equal(answered[clip], expected[clip])


@compiled
def test_a_network_runs_on_it_folded_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = create_model("smnet_resnet18", 5, 4, width=16).eval()
    to_channels_last(model)  # the kernels of the masks among them
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    folded = fold_norms(model)
    assert folded.layer1[0].temporal.me.squeeze.bias is not None
    clips = torch.randn(2, 4, 3, 32, 32)
    asked: list[str] = []
    run = native.run

    def counted(name: str, *arguments: Any) -> int:
        asked.append(name)
        return run(name, *arguments)

    monkeypatch.setattr(native, "run", counted)
    with torch.inference_mode():
        answered = [net(clips) for net in (model, folded)]
        assert asked == ["answer"] * 16
        monkeypatch.setattr(native, "library", lambda: None)
        expected = model(clips)
    for scores in answered:
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


@compiled
@torch.no_grad()
def test_weights_that_are_put_in_for_one_call() -> None:
    torch.manual_seed(0)
    module, other, x = make(), make(), features(1, 4, 16, 5, 5)
    held = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    swapped = functional_call(module, held, (x, 4))
    assert torch.equal(swapped, other(x, 4))


@compiled
@torch.no_grad()
def test_it_stands_back_from_what_it_does_not_know() -> None:
    torch.manual_seed(0)
    x = features(1, 4, 16, 5, 5)
    assert answer(make(), x, 4) is not None
    assert answer(make(), x.contiguous(), 4) is None
    assert answer(make().double(), x.double(), 4) is None

    learning = make()
    learning.me.norm.train()
    assert answer(learning, x, 4) is None
    plain = make()
    plain.me.norm = nn.BatchNorm2d(4, affine=False).eval()
    assert answer(plain, x, 4) is None
    plain.me.norm = nn.GroupNorm(2, 4)
    assert answer(plain, x, 4) is None
    half = make()
    half.me.expand.bfloat16()
    assert answer(half, x, 4) is None
    parametrised = make()
    parametrizations.spectral_norm(parametrised.me.squeeze)
    assert answer(parametrised, x, 4) is None


@compiled
@torch.no_grad()
@pytest.mark.parametrize("shape", [(4, 32, 5, 5), (4, 8, 5, 5), (7, 16, 5, 5), (3, 16, 5, 5)])
def test_features_of_another_size(shape: tuple[int, ...]) -> None:
    """The equations refuse them; to answer would be to read what is not there."""
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    module = make()
    assert answer(module, x, 4) is None
    with pytest.raises(RuntimeError):
        module(x, 4)


@compiled
@torch.no_grad()
@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("me.squeeze", nn.Conv2d(16, 4, 1, groups=4, bias=False)),
        ("me.squeeze", nn.Conv2d(16, 8, 1, bias=False)),
        ("me.transform", nn.Conv2d(4, 4, 1, groups=4, bias=False)),
        ("me.transform", nn.Conv2d(4, 4, 3, padding=1, bias=False)),
        ("me.expand", nn.Conv2d(4, 16, 1, groups=2, bias=False)),
        ("me.norm", nn.BatchNorm2d(2)),
        ("me.norm", nn.BatchNorm2d(8)),
        ("se.attention.conv", nn.Conv2d(2, 1, (3, 7), padding=(1, 3), bias=False)),
        ("se.attention.conv", nn.Conv2d(2, 1, 3, padding=2, dilation=2, bias=False)),
        ("se.attention.conv", nn.Conv2d(2, 1, 3, padding=1, padding_mode="circular")),
        ("se.attention.norm", nn.BatchNorm2d(3)),
    ],
    ids=str,
)
def test_layers_of_other_sizes(path: str, layer: nn.Module) -> None:
    module, x = make(), features(1, 4, 16, 5, 5)
    assert answer(module, x, 4) is not None
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer.eval())
    assert answer(module, x, 4) is None


class Elsewhere(Tensor):
    """A tensor without memory of its own, as quantisers make them."""

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype)  # type: ignore[attr-defined]
        made.held = held  # type: ignore[attr-defined]
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(Elsewhere, lambda t: t.held, (args, kwargs or {}))
        return func(*args, **kwargs)


@compiled
@torch.no_grad()
def test_weights_that_have_no_memory_of_their_own() -> None:
    torch.manual_seed(0)
    module, x = make(), features(1, 4, 16, 5, 5)
    expected = module(x, 4)
    held = module.me.expand._parameters
    held["weight"] = Elsewhere(held["weight"].detach())
    assert answer(module, x, 4) is None
    torch.testing.assert_close(module(x, 4), expected)


@compiled
@torch.no_grad()
def test_who_watches_operators_sees_them() -> None:
    torch.manual_seed(0)
    module, x = make(), features(1, 4, 16, 5, 5)
    graph = make_fx(lambda y: module(y, 4))(x)
    other = features(1, 4, 16, 5, 5)
    torch.testing.assert_close(graph(other), module(other, 4), rtol=1e-4, atol=1e-4)


@compiled
@torch.no_grad()
@pytest.mark.parametrize(("name", "value"), [("residual", "none"), ("residual", "x")])
def test_what_is_asked_of_its_parts_later(name: str, value: str) -> None:
    torch.manual_seed(0)
    module, x = make(), features(1, 4, 16, 5, 5)
    setattr(module.se, name, value)
    torch.testing.assert_close(
        module(x, 4), by_equations(module, x, 4), rtol=1e-4, atol=1e-4 * float(x.max())
    )


class Shut(MotionExcitation):
    """Somebody's own."""

    def excitation(self, x: Tensor, num_segments: int) -> Tensor:
        return torch.zeros_like(super().excitation(x, num_segments))


@compiled
@torch.no_grad()
def test_parts_that_somebody_put_in_are_asked() -> None:
    torch.manual_seed(0)
    module, x = make(), features(2, 4, 16, 5, 5)
    module.me = Shut(16, module.options).eval()
    torch.testing.assert_close(module(x, 4), module.se(x, 4))

    module = make()
    parametrizations.weight_norm(module.se.temporal)
    torch.testing.assert_close(
        module(x, 4), by_equations(module, x, 4), rtol=1e-4, atol=1e-4 * float(x.max())
    )


@compiled
@torch.no_grad()
def test_weights_that_lie_in_another_order() -> None:
    torch.manual_seed(0)
    module, x = make(), features(2, 4, 16, 5, 5)
    expected = module(x, 4)
    taps = module.se.temporal.weight
    taps.data = taps.data.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    expand = module.me.expand.weight
    expand.data = expand.data.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3)
    assert answer(module, x, 4) is None
    torch.testing.assert_close(module(x, 4), expected, rtol=1e-5, atol=1e-5)
