"""The compiled kernels: when they are used, and the version that they must have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smnet.models.fast import kernels

compiled = pytest.mark.skipif(
    not kernels.COMPILED, reason="installed without a C compiler: kernels.c is not compiled"
)


def features(clips: int, segments: int, channels: int, height: int, width: int) -> Tensor:
    x = torch.randn(clips * segments, channels, height, width).relu()
    return x.contiguous(memory_format=torch.channels_last)


@compiled
def test_they_support_float32_on_the_cpu_with_channels_innermost() -> None:
    x = features(1, 2, 8, 4, 4)
    assert kernels.support(x)
    assert not kernels.support(x.double())
    assert not kernels.support(x.contiguous())
    assert not kernels.support(x.to("meta"))
    assert not kernels.support(x[:0])


@compiled
@pytest.mark.parametrize("wrong", [torch.zeros(8).double(), torch.zeros(8, device="meta")])
def test_memory_of_another_kind_is_not_read(wrong: Tensor) -> None:
    x = features(1, 2, 8, 4, 4)
    with pytest.raises(TypeError, match="float32 on the CPU, not"):
        kernels.run("edge_means", x, 1, x, wrong)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the source and the library, which the package uses during the test."""
    for name in (kernels.SOURCE, kernels.LIBRARY):
        shutil.copy(kernels.FOLDER / name, tmp_path)
    monkeypatch.setattr(kernels, "FOLDER", tmp_path)
    kernels.library.cache_clear()
    yield tmp_path
    kernels.library.cache_clear()


@compiled
def test_a_library_of_another_version_is_not_used(folder: Path) -> None:
    assert kernels.library() is not None
    kernels.library.cache_clear()
    with (folder / kernels.SOURCE).open("ab") as source:
        source.write(b"\n")
    assert kernels.library() is None


@compiled
def test_there_may_be_no_library(folder: Path) -> None:
    (folder / kernels.LIBRARY).unlink()
    assert kernels.library() is None
