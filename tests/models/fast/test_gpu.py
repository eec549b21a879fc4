"""The Triton kernels against PyTorch: on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is missing"),
]

COMPARE = """
import torch
from smnet.models.fast import gpu, operators

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
for segments, channels, height, width in [(1, 5, 3, 4), (3, 130, 3, 2)]:
    frames = 2 * segments
    x, g = (
        torch.randn(frames, channels, height, width, device=device).contiguous(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    )
    taps = torch.randn(channels, 3, device=device)
    a, everywhere, at_top = (torch.randn(frames, 1, height, width, device=device) for _ in "123")
    b = torch.randn(frames, channels, 1, 1, device=device)
    assert gpu.support(x)
    pooled = gpu.pool(x, taps, segments)
    z = operators.convolve_time(x, taps, segments)
    close = torch.testing.assert_close
    close(pooled, torch.cat([z.mean(1, keepdim=True), z.amax(1, keepdim=True)], 1))
    close(
        gpu.excite(x, taps, a, b, segments), operators.excite_in_pytorch(x, taps, a, b, segments)
    )
    of_a, of_b, ties = gpu.excite_gradients(g, x, taps, pooled, segments)
    close(of_a, (g * z).sum(1, keepdim=True), rtol=1e-4, atol=1e-4)
    close(of_b, (g * x).sum((2, 3), keepdim=True), rtol=1e-4, atol=1e-4)
    assert torch.equal(ties, torch.ones_like(ties))  # random maxima are unique
    small = (a, b, torch.cat([z.mean(1, keepdim=True), z.amax(1, keepdim=True)], 1))
    expected = operators.input_gradients_in_pytorch(
        g, x, taps, *small, everywhere, at_top, segments
    )
    found = gpu.input_gradients(g, x, taps, a, b, pooled, everywhere, at_top, segments)
    for one, other in zip(found, expected):
        close(one, other, rtol=1e-4, atol=1e-4)
"""


def test_the_triton_kernels_are_the_plain_formulas(tmp_path: Path) -> None:
    # The interpreter is chosen when the kernels are defined, so it takes a process of its own.
    script = tmp_path / "compare.py"  # Triton reads the source of what it compiles
    script.write_text(COMPARE)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
