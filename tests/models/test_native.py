"""When the compiled code is used, and that it computes what PyTorch does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad

from smnet.models import native
from smnet.models.excitation import edge_means
from smnet.models.native import library
from smnet.models.smnet import SMNetModule

compiled = pytest.mark.skipif(
    library() is None, reason="installed without a C compiler: native.c is not compiled"
)


def features(clips: int, segments: int, channels: int, height: int, width: int) -> Tensor:
    x = torch.randn(clips * segments, channels, height, width).relu()
    return x.contiguous(memory_format=torch.channels_last)


@compiled
@settings(deadline=None, max_examples=40)
@given(
    frames=st.integers(1, 5),
    channels=st.integers(1, 70),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_means_over_edges(frames: int, channels: int, height: int, width: int) -> None:
    torch.manual_seed(frames + channels + height + width)
    x = features(1, frames, channels, height, width)
    assert native.knows(x)
    torch.testing.assert_close(edge_means(x), edge_means(x.double()).float())


@compiled
def test_it_stands_back_from_what_it_does_not_know() -> None:
    x = features(1, 2, 8, 4, 4)
    assert native.knows(x)
    assert not native.knows(x.double())
    assert not native.knows(x.contiguous())
    assert not native.knows(x.to("meta"))
    assert not native.knows(x[:0])
    assert not native.knows(torch._neg_view(x))
    assert not native.knows(x.as_subclass(type("Own", (Tensor,), {})))
    with torch.autocast("cpu", torch.bfloat16):
        assert not native.knows(x)
    with forward_ad.dual_level():
        assert not native.knows(x)
    torch.func.vmap(lambda y: (y, pytest.fail("compiled"))[0] if native.knows(y) else y)(x[None])


@compiled
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, "meta"])
def test_weights_of_another_kind_are_not_read_as_if_they_were_not(kind: Any) -> None:
    """Their memory is of another size, or none."""
    module, x = SMNetModule(16).eval(), features(2, 4, 16, 5, 4)
    nn.init.normal_(module.se.temporal.weight)
    with torch.no_grad():
        expected = module(x, 4)
        module.se.temporal.to(kind)
        if kind == "meta":
            with pytest.raises(TypeError, match=r"meet a tensor of another kind: .* on meta"):
                module(x, 4)
        else:
            torch.testing.assert_close(module(x, 4), expected, rtol=0.02, atol=0.05)


@compiled
def test_a_library_of_another_source_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.cache_clear()
    try:
        for path in native.FOLDER.glob("*native.*"):
            shutil.copy(path, tmp_path)
        shutil.copy(native.FOLDER / "answer.c", tmp_path)
        monkeypatch.setattr(native, "FOLDER", tmp_path)
        assert library() is not None
        library.cache_clear()
        with (tmp_path / "answer.c").open("ab") as source:
            source.write(b"\n")
        assert library() is None
        library.cache_clear()
        (tmp_path / "libnative.so").unlink()
        assert library() is None
    finally:
        library.cache_clear()
