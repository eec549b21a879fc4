"""Training and inference on a GPU: clips per second, memory, and the share of the chip's peak.

    python benchmarks/gpu.py                        # SMNet and TSN on ResNet-50, 8 frames of 224
    python benchmarks/gpu.py tsm_resnet50 smnet_resnet50 --batches 32,64 --modes bf16,bf16+compile

The peak is that of a large matrix product of the same type in the same run. MFU is the operations
of the model (two per multiply-add; backward counts twice) per second over that peak. A mode is a
type (fp32, tf32, bf16, fp16), with ``+compile`` for torch.compile. Without a GPU the script ends
with a message.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F

from common import parse, parser, publish, table
from smnet.models import accelerate, create_model, multiply_adds, to_channels_last

CLASSES = 174
TYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def seconds(do: Callable[[], object], rounds: int, warmup: int = 3) -> float:
    """Median seconds of a call between two events of the device."""
    for _ in range(warmup):
        do()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        do()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def allow_tf32(kind: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    torch.backends.cudnn.allow_tf32 = kind == "tf32"


def peak(kind: str, side: int = 8192) -> float:
    """Operations per second of a square matrix product of a type."""
    allow_tf32(kind)
    a = torch.randn(side, side, device="cuda", dtype=TYPES[kind])
    b = torch.randn(side, side, device="cuda", dtype=TYPES[kind])
    return 2 * side**3 / seconds(lambda: a @ b, rounds=10)


def measure(name: str, option: str, mode: str, batch: int, size: int, rounds: int) -> dict:
    """One model in one mode: clips per second of training and inference, and peak memory."""
    kind, _, compiled = mode.partition("+")
    allow_tf32(kind)
    key, _, value = option.partition("=")
    model = accelerate(
        create_model(name, CLASSES, **({key: value} if option else {})), "training"
    ).cuda()
    to_channels_last(model)
    spec = model.spec
    run = torch.compile(model) if compiled else model
    clips = torch.randn(batch, spec.frames_per_clip, 3, size, size, device="cuda")
    labels = torch.arange(batch, device="cuda") % CLASSES
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=kind == "fp16")
    lower = TYPES[kind] in (torch.bfloat16, torch.float16)

    def cast() -> contextlib.AbstractContextManager[object]:
        return torch.autocast("cuda", TYPES[kind]) if lower else contextlib.nullcontext()

    def learn() -> None:
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = F.cross_entropy(run(clips), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def infer() -> None:
        with torch.inference_mode(), cast():
            run(clips)

    model.train()
    torch.cuda.reset_peak_memory_stats()
    step = seconds(learn, rounds)
    memory = torch.cuda.max_memory_allocated()
    model.eval()
    passed = seconds(infer, rounds)
    operations = 2 * multiply_adds(model, size=size)
    return {
        "model": f"{name}:{option}" if option else name,
        "mode": mode,
        "batch": batch,
        "train_clips_per_second": batch / step,
        "infer_clips_per_second": batch / passed,
        "train_operations_per_second": 3 * operations * batch / step,
        "infer_operations_per_second": operations * batch / passed,
        "peak_memory": memory,
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("models", nargs="*", default=["tsn_resnet50", "smnet_resnet50"])
    arguments.add_argument("--batches", default="8,32")
    arguments.add_argument("--modes", default="tf32,bf16,bf16+compile")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--rounds", type=int, default=10)
    given = parse(arguments)
    modes = given.modes.split(",")
    for mode in modes:
        if mode.partition("+")[0] not in TYPES:
            arguments.error(f"no mode {mode}: use {', '.join(TYPES)}, with +compile or without")
    if not torch.cuda.is_available():
        print("no GPU that PyTorch can use here; nothing measured")
        return
    torch.backends.cudnn.benchmark = True
    peaks = {kind: peak(kind) for kind in {mode.partition("+")[0] for mode in modes}}
    rows = []
    for mode in modes:
        for batch in map(int, given.batches.split(",")):
            for word in given.models:
                name, _, option = word.partition(":")
                try:
                    row = measure(name, option, mode, batch, given.size, given.rounds)
                except torch.OutOfMemoryError:
                    print(f"\n{word}, {mode}: {batch} clips do not fit into this GPU's memory")
                    torch.cuda.empty_cache()
                    continue
                limit = peaks[mode.partition("+")[0]]
                row["train_mfu"] = row.pop("train_operations_per_second") / limit
                row["infer_mfu"] = row.pop("infer_operations_per_second") / limit
                rows.append(row)
                print(".", end="", flush=True)
                torch.compiler.reset()
                torch.cuda.empty_cache()
    header = ["model", "mode", "batch", "train clips/s", "MFU", "infer clips/s", "MFU", "memory"]
    cells = [
        [
            row["model"],
            row["mode"],
            str(row["batch"]),
            f"{row['train_clips_per_second']:.1f}",
            f"{row['train_mfu']:.0%}",
            f"{row['infer_clips_per_second']:.1f}",
            f"{row['infer_mfu']:.0%}",
            f"{row['peak_memory'] / 2**30:.2f} GiB",
        ]
        for row in rows
    ]
    peaks_line = ", ".join(f"{kind} {peak / 1e12:.0f} Top/s" for kind, peak in peaks.items())
    title = f"Training and inference, crops of {given.size}"
    publish(given, "gpu", title, table(header, cells), f"Peaks: {peaks_line}.")


if __name__ == "__main__":
    main()
