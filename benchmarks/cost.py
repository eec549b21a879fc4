"""What the temporal modules cost in seconds and bytes, not only in multiply-adds.

    python benchmarks/cost.py                       # the family on ResNet-50, 8 frames of 224
    python benchmarks/cost.py tsn_resnet18 smnet_resnet18 --size 112 --rounds 5
    python benchmarks/cost.py tsn_resnet50 tsn_resnet50+compile smnet_resnet50+compile

Every figure is a ratio to the first model, measured in the same run: the models take turns, medians
of CPU time are compared, so that other work on the machine hits all alike. Peak memory is that of a
training step in a fresh process, less what the same process needs before it; the median of five.
What runs under torch.compile has none, for the compiler's own cannot be told from it.
The table goes to standard output, the figures to benchmarks/results/cost.json.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import RESULTS, keep, table
from smnet.models import VideoModel, create_model, multiply_adds, parameter_count, to_channels_last
from smnet.system import keep_freed_memory

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
    """``name`` or ``name:option=value`` -> the model, channels innermost."""
    name, _, option = word.removesuffix(COMPILED).partition(":")
    key, _, value = option.partition("=")
    model = create_model(name, 174, **({key: value} if option else {}))
    to_channels_last(model)
    return model


def clip_for(model: Any, size: int) -> torch.Tensor:
    return torch.randn(1, model.spec.frames_per_clip, 3, size, size)


def forward(model: nn.Module, clip: torch.Tensor) -> None:
    model.eval()
    with torch.inference_mode():
        model(clip)


def train_step(model: nn.Module, clip: torch.Tensor) -> None:
    model.train()
    labels = torch.zeros(len(clip), dtype=torch.long)
    torch.nn.functional.cross_entropy(model(clip), labels).backward()
    model.zero_grad(set_to_none=True)


def medians(
    networks: list[nn.Module],
    clips: list[torch.Tensor],
    rounds: int,
    do: Callable[[nn.Module, torch.Tensor], None],
) -> list[float]:
    """Median CPU seconds of ``do`` for each network and its clip, the networks taking turns."""
    times: list[list[float]] = [[] for _ in networks]
    for turn in range(rounds + 1):
        for k, (network, clip) in enumerate(zip(networks, clips, strict=True)):
            began = time.process_time()
            do(network, clip)
            if turn:  # the first round warms up
                times[k].append(time.process_time() - began)
    return [statistics.median(t) for t in times]


def peak_bytes(word: str, size: int, make: Callable[[str], nn.Module] = build) -> float:
    """Memory that a training step adds to a process that holds the model and its gradients: the
    median of fresh processes, for how the C library lays it out varies by a tenth."""
    if word.endswith(COMPILED):
        return math.nan
    found = []
    for _ in range(PEAKS):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(_peak, (make, word, size)))
    return statistics.median(found)


def _peak(make: Callable[[str], nn.Module], word: str, size: int) -> int:
    torch.set_num_threads(1)
    keep_freed_memory()
    model = make(word)
    train_step(model, clip_for(model, 48))  # what libraries allocate once is there before
    before = resident("VmRSS")
    train_step(model, clip_for(model, size))
    return resident("VmHWM") - before


def resident(what: str) -> int:
    """Bytes of memory that this process has now (``VmRSS``) or had at the most (``VmHWM``).

    Not ``getrusage``: its maximum begins with that of the process which started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=FAMILY)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "cost.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # as smnet train does
    models = [build(word) for word in given.models]
    networks: list[nn.Module] = [
        torch.compile(model) if word.endswith(COMPILED) else model  # type: ignore[misc]
        for word, model in zip(given.models, models, strict=True)
    ]
    clips = [clip_for(model, given.size) for model in models]
    fast = medians(networks, clips, given.rounds, forward)
    slow = medians(networks, clips, given.rounds, train_step)
    memory = [peak_bytes(word, given.size) for word in given.models]
    rows = [
        {
            "model": word,
            "parameters": parameter_count(model),
            "gmacs": multiply_adds(model, size=given.size) / 1e9,
            "forward": fast[k] / fast[0],
            "train": slow[k] / slow[0],
            "memory": None if math.isnan(memory[k]) else memory[k] / memory[0],
        }
        for k, (word, model) in enumerate(zip(given.models, models, strict=True))
    ]
    print(f"ratios to {rows[0]['model']}\n")
    header = ["model", "parameters", "GMAC", "forward", "train step", "peak memory"]
    columns = ("gmacs", "forward", "train", "memory")
    cells = [
        [
            str(row["model"]),
            f"{row['parameters'] / 1e6:.2f} M",
            *("-" if row[k] is None else f"{row[k]:.2f}" for k in columns),
        ]
        for row in rows
    ]
    print(table(header, cells))
    keep(given.out, {"seconds": {"forward": fast[0], "train": slow[0]}, "rows": rows})


if __name__ == "__main__":
    main()
