"""The compiled passes against those in PyTorch, which test_fused.py holds to the equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smnet.models import VideoModel, create_model, native, to_channels_last
from smnet.models.passes import CompiledPasses, Passes
from smnet.models.smnet import SMNetModule

from .test_native import compiled, features


def all_of(kind: type[Passes], x: Tensor, segments: int) -> dict[str, Tensor]:
    """Everything that passes are asked for, from the same random surroundings."""
    random = torch.Generator().manual_seed(1)
    frames, channels, height, width = x.shape

    def of(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    made = kind(x, of(channels, 3), segments)
    scale, gate = of(frames, 1, height, width), of(frames, channels, 1, 1)
    grad = of(frames, channels, height, width).contiguous(memory_format=torch.channels_last)
    everywhere, at_top = of(frames, 1, height, width), of(frames, 1, height, width)
    seen = made.seen()
    excited = made.excited(scale, gate)
    of_scale, of_gate, ties = made.excitation_gradient(grad, seen)
    of_x, of_taps = made.input_gradient(grad, scale, gate, seen, everywhere, at_top)
    last = kind(x, made.taps, segments).excited(scale, gate, last=True)
    return {
        "seen": seen,
        "excited": excited,
        "last": last,
        "of_scale": of_scale,
        "of_gate": of_gate,
        "ties": ties,
        "of_x": of_x,
        "of_taps": of_taps,
    }


@compiled
@settings(deadline=None, max_examples=60)
@given(
    clips=st.integers(1, 3),
    segments=st.integers(1, 9),
    channels=st.integers(1, 70),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_compiled_equals_pytorch(
    clips: int, segments: int, channels: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = features(clips, segments, channels, height, width)
    assert native.knows(x)
    expected = all_of(Passes, x, segments)
    for name, found in all_of(CompiledPasses, x, segments).items():
        assert found.shape == expected[name].shape, name
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-4, msg=name)


@compiled
def test_large_maps_that_are_worked_on_in_pieces() -> None:
    torch.manual_seed(0)
    x = features(2, 3, 160, 33, 31)
    expected = all_of(Passes, x, 3)
    for name, found in all_of(CompiledPasses, x, 3).items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(found, expected[name], rtol=0, atol=1e-5 * scale, msg=name)


@compiled
def test_channels_that_share_the_maximum_are_counted() -> None:
    x = torch.zeros(2, 5, 3, 3).contiguous(memory_format=torch.channels_last)
    x[:, 1:3, 0] = 1
    made = CompiledPasses(x, torch.tensor([[0.0, 1.0, 0.0]]).expand(5, 3), 2)
    ties = made.excitation_gradient(torch.ones_like(x), made.seen())[2]
    assert ties[:, 0, 0].unique().tolist() == [2]
    assert ties[:, 0, 1:].unique().tolist() == [5]


@compiled
def test_the_number_of_threads_changes_no_bit() -> None:
    torch.manual_seed(0)
    x = features(3, 4, 24, 9, 11)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = all_of(CompiledPasses, x, 4)
        torch.set_num_threads(3)
        together = all_of(CompiledPasses, x, 4)
    finally:
        torch.set_num_threads(threads)
    for name, value in alone.items():
        assert torch.equal(value, together[name]), name


@compiled
def test_gradients_that_come_in_another_layout() -> None:
    x = features(1, 4, 8, 5, 5)
    made = CompiledPasses(x, torch.randn(8, 3), 4)
    grad, seen = torch.randn(4, 8, 5, 5), made.seen()
    there = made.excitation_gradient(grad, seen)
    same = made.excitation_gradient(grad.contiguous(memory_format=torch.channels_last), seen)
    for a, b in zip(there, same, strict=True):
        assert torch.equal(a, b)


def test_a_network_gives_the_same_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = create_model("smnet_resnet18", 5, 4, width=16).eval()
    to_channels_last(model)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    clips = torch.randn(2, 4, 3, 32, 32)

    def scores_and_gradients() -> list[Tensor]:
        with torch.inference_mode():
            scores = model.eval()(clips).clone()
        model.zero_grad()
        torch.manual_seed(0)  # of dropout
        model.train()(clips).square().sum().backward()
        return [scores, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = scores_and_gradients()
    model.load_state_dict(before)
    monkeypatch.setattr(native, "library", lambda: None)
    for a, b in zip(first, scores_and_gradients(), strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * scale + 1e-6)


@compiled
def test_it_is_what_a_network_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    run = CompiledPasses._run

    def counted(self: CompiledPasses, name: str, *tensors: Tensor) -> int:
        asked.append(name)
        return run(self, name, *tensors)

    monkeypatch.setattr(CompiledPasses, "_run", counted)
    model = create_model("smnet_resnet18", 5, 4, width=16)
    to_channels_last(model)
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        model.eval()(clips)
        assert not asked  # answer.c does it all
        model.train()(clips)
    assert asked == ["pool", "excite"] * 8
    asked.clear()
    model.train()(clips).sum().backward()
    assert asked.count("input_gradient") == 8


@compiled
@pytest.mark.parametrize("segments", [1, 4])
def test_operators_are_as_pytorch_wants_them(segments: int) -> None:
    torch.manual_seed(0)
    x = features(2, segments, 5, 3, 4)
    taps, scale, gate = (
        torch.randn(5, 3),
        torch.randn(len(x), 1, 3, 4),
        torch.randn(len(x), 5, 1, 1),
    )
    torch.library.opcheck(torch.ops.smnet.seen.default, (x, taps, segments))
    torch.library.opcheck(torch.ops.smnet.excited.default, (x, taps, scale, gate, segments))


def random_smnet() -> VideoModel:
    torch.manual_seed(0)
    model = create_model("smnet_resnet18", 5, 4, width=8).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, SMNetModule):  # a fresh one's masks and gates are even
                module.se.attention.conv.weight.normal_()  # type: ignore[union-attr]
                module.me.expand.weight.normal_()  # type: ignore[union-attr]
    to_channels_last(model)
    return model


OLD = not hasattr(torch.compiler, "is_exporting")
"""PyTorch 2.6."""


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@compiled
def test_a_compiled_network_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clips = random_smnet(), torch.randn(3, 4, 3, 32, 32)
    calls: list[str] = []
    run = native.run

    def watched(name: str, *rest: Any) -> int:
        calls.append(name)
        return run(name, *rest)

    monkeypatch.setattr(native, "run", watched)
    torch._dynamo.reset()
    network = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        for count in (1, 2, 3):  # the second has it compiled for any number
            del calls[:]
            close(network(clips[:count]), model(clips[:count]))
            assert calls.count("answer") == 8  # of the other, which is not compiled
            assert calls.count("pool") == calls.count("excite")
            if OLD and count > 1:  # with any number of clips it does not see every layout
                assert 0 < calls.count("pool") <= 8
            else:
                assert calls.count("pool") == 8


@compiled
def test_where_the_compiler_is_given_the_equations() -> None:
    model, clips = random_smnet(), torch.randn(1, 4, 3, 32, 32)
    with torch.inference_mode():
        expected = model(clips)
    x = features(1, 4, 8, 4, 4)
    assert not native.has_operators_for(x)  # nobody compiles
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    for name, grad, hook in (("", False, False), ("to learn", True, False), ("hook", False, True)):
        torch._dynamo.reset()
        del seen[:]
        handles = [m.register_forward_hook(lambda *_: None) for m in model.modules() if hook]
        with torch.set_grad_enabled(grad):
            found = torch.compile(model, backend=backend)(clips)
        for handle in handles:
            handle.remove()
        close(found.detach(), expected)
        assert any("smnet.seen" in target for target in seen) == (not name), name
    for strict in (False,) if OLD else (False, True):  # see native.py
        with torch.no_grad():
            program = torch.export.export(model, (clips,), strict=strict)
        assert not [n for n in program.graph.nodes if "smnet." in str(n.target)]
