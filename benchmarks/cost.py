"""The cost of the temporal modules in seconds and bytes, beside their multiply-adds.

    python benchmarks/cost.py                       # the family on ResNet-50, 8 frames of 224
    python benchmarks/cost.py tsn_resnet18 smnet_resnet18 --size 112 --rounds 5
    python benchmarks/cost.py tsn_resnet50 tsn_resnet50+compile smnet_resnet50+compile

Every figure is a ratio to the first model of the same run. The models take turns; a ratio is the
median over rounds, with its quartiles in the table. Peak memory is that of a training step in a
fresh process, less what the process needs before it; the median of five. Models under torch.compile
have none, since the compiler's own memory cannot be separated.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import parse, parser, publish, table
from smnet.experiments.profile import time_models, training_step
from smnet.experiments.study import read_models
from smnet.models import (
    VideoModel,
    accelerate,
    create_model,
    multiply_adds,
    parameter_count,
    to_channels_last,
)
from smnet.system import MERGED_MEMORY, keep_freed_memory

FAMILY = (
    "tsn_resnet50",
    "tsm_resnet50",
    "stm_resnet50",
    "teinet_resnet50",
    "tam_resnet50",
    "action_resnet50",
    "tdn_resnet50",
    "smnet_resnet50",
    "smnet_resnet50:place=after_conv1",
)
PEAKS = 5
COMPILED = "+compile"


def build(word: str) -> VideoModel:
    """The model of ``name:option=value`` as it is trained."""
    (row,) = read_models(word.removesuffix(COMPILED))
    model = accelerate(create_model(row.model, 174, **row.options), "training")
    to_channels_last(model)
    return model


def clip_for(model: Any, size: int) -> torch.Tensor:
    return torch.randn(1, model.spec.frames_per_clip, 3, size, size)


def step(network: nn.Module, clip: torch.Tensor) -> None:
    """One training step."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
    labels = torch.zeros(len(clip), dtype=torch.long)
    training_step(network, clip, labels, optimizer)


def peak_bytes(word: str, size: int, make: Callable[[str], nn.Module] = build) -> float:
    """Bytes that a training step adds to a process with the model and its gradients.

    The median of fresh processes, with the memory merged as ``smnet train`` does it.
    """
    if word.endswith(COMPILED):
        return math.nan
    os.environ.setdefault("GLIBC_TUNABLES", MERGED_MEMORY)  # read when a process starts
    peaks = []
    for _ in range(PEAKS):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(_peak, (make, word, size)))
    return statistics.median(peaks)


def _peak(make: Callable[[str], nn.Module], word: str, size: int) -> int:
    torch.set_num_threads(1)
    keep_freed_memory()
    model = make(word)
    step(model, clip_for(model, 48))  # libraries allocate their own memory in the first step
    before = resident("VmRSS")
    step(model, clip_for(model, size))
    return resident("VmHWM") - before


def resident(key: str) -> int:
    """Current (``VmRSS``) or peak (``VmHWM``) memory of this process in bytes.

    ``getrusage`` does not serve: its maximum starts with that of the parent process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("models", nargs="*", default=FAMILY)
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--title", default="The family on ResNet-50, 8 segments of 224 x 224")
    given = parse(arguments)
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # as in training
    models = [build(word) for word in given.models]
    networks: list[nn.Module] = [
        torch.compile(model) if word.endswith(COMPILED) else model  # type: ignore[misc]
        for word, model in zip(given.models, models, strict=True)
    ]
    timings = time_models(models, given.size, 1, torch.device("cpu"), given.rounds, networks)
    memory = [peak_bytes(word, given.size) for word in given.models]
    cells = [
        [
            word,
            f"{parameter_count(model) / 1e6:.2f} M",
            f"{multiply_adds(model, size=given.size) / 1e9:.2f}",
            str(timings.ratio(2 * k)),
            str(timings.ratio(2 * k + 1, 1)),
            "-" if math.isnan(memory[k]) else f"{memory[k] / memory[0]:.2f}",
        ]
        for k, (word, model) in enumerate(zip(given.models, models, strict=True))
    ]
    header = ["model", "parameters", "GMAC", "forward", "training step", "peak memory"]
    note = (
        f"Ratios to the first row, {given.rounds} rounds of {timings.clock} time, with quartiles."
        f" {timings.median(0):.2f} s forward and {timings.median(1):.2f} s per step there."
    )
    publish(given, "cost", given.title, table(header, cells), note, timings.warning)


if __name__ == "__main__":
    main()
