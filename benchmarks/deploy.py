"""What exporting buys: backends x precisions, by latency, throughput, share of peak and accuracy.

    python benchmarks/deploy.py                                        # TSN-R50 and SMNet-R50
    python benchmarks/deploy.py --checkpoint runs/mine --data clips/   # and the top-1 each costs

All backends of a model take turns in one process with the same number of threads. With one thread
times are CPU seconds, so that other work on the machine hits all alike, else wall seconds. The peak
is that of a large matrix product in the same run, in int8 for the int8 rows; fp16 rows are measured
against the fp32 peak, which a CPU that computes in 16 bits exceeds. Without --data int8 takes its
ranges from random clips, and no accuracy is given. Results go to benchmarks/results/deploy.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from common import RESULTS, keep, table
from smnet.checkpoints.file import load
from smnet.errors import UserError
from smnet.export.parity import Scorer, Trial, drop_of, score, trial_clips
from smnet.export.writers import (
    quiet_exporter,
    run_onnx,
    run_openvino,
    trace,
    write_onnx,
    write_openvino,
)
from smnet.inference.exported import onnx_metadata
from smnet.inference.torch_backend import TorchBackend
from smnet.models import VideoModel, create_model, multiply_adds, to_channels_last
from smnet.system import keep_freed_memory

UNIT = "torch eager fp32"
"""The model as training validates it; ``smnet predict`` and ``evaluate`` fold its normalisation."""
SIDES = (512, 1024, 2048)
"""Of the matrices whose product gives the peak."""


def random_model(name: str, size: int) -> VideoModel:
    """A model away from the start, at which gates are even and scores equal."""
    torch.manual_seed(0)
    model = create_model(name, 174)
    model.spec = replace(model.spec, input_size=size, short_side=max(size, model.spec.short_side))
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, 0, 0.1)
    return model.eval()


def torch_networks(model: VideoModel) -> dict[str, Callable[[], Scorer]]:
    def eager() -> Scorer:
        to_channels_last(model)
        backend = TorchBackend.live(model.eval())
        return lambda clips: backend.score(clips[:, None])

    def predicting(compiled: bool) -> Scorer:
        backend = TorchBackend(model, "cpu", compiled)
        return lambda clips: backend.score(clips[:, None])

    return {
        UNIT: eager,
        "torch folded fp32": lambda: predicting(False),
        "torch compile fp32": lambda: predicting(True),
    }


def exported_networks(
    model: VideoModel, folder: Path, ranges: np.ndarray, threads: int
) -> dict[str, Callable[[], Scorer]]:
    def onnx(precision: str, engine: str) -> Path:
        """The ONNX file that an engine runs or is given to convert."""
        plain = engine == "onnxruntime" and precision != "int8"
        form = None if plain else "films" if engine == "onnxruntime" else "shifts"
        path = folder / f"{engine}-{precision}.onnx"
        metadata = onnx_metadata(model.spec, precision=precision)
        half = precision == "fp16" and plain
        with quiet_exporter():
            write_onnx(trace(model, half, form), path, metadata, form=form)
        if precision != "int8":
            return path
        from smnet.export.quantise import quantise

        small = path.with_suffix(".int8.onnx")
        quantise(path, small, ranges, lambda file: 0.0, lambda line: None, engine)
        return small

    def openvino(precision: str) -> Scorer:
        path = folder / f"{precision}.xml"
        metadata = onnx_metadata(model.spec, precision=precision)
        write_openvino(onnx(precision, "openvino"), path, metadata, precision == "fp16")
        return run_openvino(path, threads)

    made: dict[str, Callable[[], Scorer]] = {}
    for precision in ("fp32", "fp16", "int8"):
        made[f"onnxruntime {precision}"] = lambda p=precision: run_onnx(
            onnx(p, "onnxruntime"), threads
        )
        made[f"openvino {precision}"] = lambda p=precision: openvino(p)
    return dict(sorted(made.items(), key=lambda row: row[0].split()[0]))


def clock(threads: int) -> float:
    return time.process_time() if threads == 1 else time.perf_counter()


def medians(
    networks: dict[str, Scorer], clips: np.ndarray, rounds: int, threads: int
) -> dict[str, float]:
    """Median seconds for ``clips``, the networks taking turns after one round of warming up."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(rounds + 1):
        for name, network in networks.items():
            began = clock(threads)
            network(clips)
            if turn:
                times[name].append(clock(threads) - began)
    return {name: statistics.median(taken) for name, taken in times.items()}


def peaks(threads: int) -> dict[str, float]:
    """Operations a second of a large matrix product, by number format: the best of several sizes,
    libraries and turns, for none of them is the fastest on every processor."""
    found: dict[str, float] = {}
    for side in SIDES:
        a, b = (np.random.default_rng(k).random((side, side), np.float32) for k in range(2))
        one, other = torch.from_numpy(a), torch.from_numpy(b)
        products = {"fp32": [lambda a=a, b=b: a @ b, lambda a=one, b=other: a @ b]}
        try:
            products["fp32"].append(_engine_product(side, "fp32", threads))
            products["int8"] = [_engine_product(side, "int8", threads)]
        except ImportError:
            print("no int8 peak: onnx and onnxruntime are not installed")
        for kind, rows in products.items():
            rates = [2 * side**3 / _best(product, threads) for product in rows]
            found[kind] = max(found.get(kind, 0.0), *rates)
    return found


def _best(product: Callable[[], object], threads: int) -> float:
    taken = []
    for _ in range(8):
        began = clock(threads)
        product()
        taken.append(clock(threads) - began)
    return min(taken)


def _engine_product(side: int, kind: str, threads: int) -> Callable[[], object]:
    """A product of square matrices in ONNX Runtime, the second one constant as weights are."""
    import onnxruntime
    from onnx import TensorProto as Kind
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    if kind == "int8":
        operator, types = "MatMulInteger", (Kind.UINT8, Kind.INT32)
        given = rng.integers(0, 256, (side, side), np.uint8)
        weight = rng.integers(-127, 128, (side, side), np.int8)
    else:
        operator, types = "MatMul", (Kind.FLOAT, Kind.FLOAT)
        given, weight = (rng.random((side, side), np.float32) for _ in range(2))
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", types[0], [side, side])],
        [helper.make_tensor_value_info("c", types[1], [side, side])],
        [numpy_helper.from_array(weight, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda: session.run(None, {"a": given})


def measure(
    name: str, model: VideoModel, trial: Trial, ranges: Trial, given: argparse.Namespace
) -> list[dict[str, object]]:
    networks: dict[str, Scorer] = {}
    clips = np.ascontiguousarray(trial.clips[np.arange(given.batch) % len(trial.clips)])
    with TemporaryDirectory(prefix="smnet-") as folder:
        found = torch_networks(model)
        found |= exported_networks(model, Path(folder), ranges.clips[: given.ranges], given.threads)
        for label, build in found.items():
            if {label, label.split()[0]} & set(given.skip) and label != UNIT:
                continue
            try:
                network = build()
                network(clips[:1])
            except (UserError, ImportError) as error:
                print(f"{label}: left out ({error})")
                continue
            networks[label] = network
            print(f"{name}, {label}: ready", flush=True)
        one = medians(networks, clips[:1], given.rounds, given.threads)
        many = medians(networks, clips, max(given.rounds // 2, 1), given.threads)
        drops: dict[str, float] = {}
        if given.data is not None:
            expected = score(networks[UNIT], trial)
            drops = {
                label: drop_of(expected, network, trial) for label, network in networks.items()
            }
    operations = 2 * multiply_adds(model, size=model.spec.input_size)
    first = one[UNIT]
    rows: list[dict[str, object]] = []
    for label, seconds in one.items():
        peak = given.peaks.get("int8" if label.endswith("int8") else "fp32")
        rows.append(
            {
                "model": name,
                "backend": label,
                "latency_ms": 1000 * seconds,
                "speedup": first / seconds,
                "clips_per_second": given.batch / many[label],
                "of_peak": operations / seconds / peak if peak else None,
                "drop": drops.get(label),
            }
        )
    return rows


def print_rows(rows: list[dict[str, object]], batch: int) -> None:
    header = ("model", "backend", "1 clip, ms", "faster", f"clips/s at {batch}", "of peak", "drop")
    lines = []
    for row in rows:
        share, drop = row["of_peak"], row["drop"]
        lines.append(
            (
                str(row["model"]),
                str(row["backend"]),
                f"{row['latency_ms']:.0f}",
                f"{row['speedup']:.2f}",
                f"{row['clips_per_second']:.2f}",
                "-" if share is None else f"{share:.0%}",
                "-" if drop is None else f"{drop:.1f}",
            )
        )
    print(table(header, lines))


def versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "onnx", "onnxruntime", "openvino"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["tsn_resnet50", "smnet_resnet50"])
    parser.add_argument("--checkpoint", help="measure this instead of random weights")
    parser.add_argument("--data", help="its data set: ranges of int8, drop of top-1 in points")
    parser.add_argument("--size", type=int, default=224, help="of crops, for random weights")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4, help="clips for the throughput")
    parser.add_argument("--ranges", type=int, default=16, help="clips for the ranges of int8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--skip", nargs="*", default=[], help="such as openvino 'torch compile fp32'"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "deploy.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # as smnet evaluate and predict do
    given.peaks = peaks(given.threads)
    rows = []
    for name in [given.checkpoint] if given.checkpoint else given.models:
        model = load(name) if given.checkpoint else random_model(name, given.size)
        with ExitStack() as stack:
            trial, ranges = (
                stack.enter_context(trial_clips(model.spec, given.data, split, most))
                for split, most in (("val", 500), ("train", given.ranges))
            )
            rows += measure(
                Path(name).stem if given.checkpoint else name, model, trial, ranges, given
            )
    print("\npeaks: " + ", ".join(f"{k} {v / 1e9:.0f} Gop/s" for k, v in given.peaks.items()))
    print_rows(rows, given.batch)
    keep(
        given.out,
        {"peaks": given.peaks, "versions": versions(), "batch": given.batch, "rows": rows},
    )


if __name__ == "__main__":
    main()
