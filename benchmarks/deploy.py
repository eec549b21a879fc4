"""Exported models: engines and precisions, by latency, throughput, share of peak and accuracy.

    python benchmarks/deploy.py                                        # TSN-R50 and SMNet-R50
    python benchmarks/deploy.py --checkpoint runs/mine --data clips/   # and the top-1 each costs

All backends of a model take turns in one process with the same number of threads. With one thread
times are CPU time, else wall time. The peak is that of a large matrix product in the same run, in
int8 for the int8 rows; fp16 rows are compared with the fp32 peak, which a CPU that computes in 16
bits exceeds. Without --data int8 takes its ranges from random clips, and no accuracy is measured.
"""

from __future__ import annotations

import argparse
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

from common import parse, parser, publish, table
from smnet.checkpoints.file import load
from smnet.errors import UserError
from smnet.experiments.study import read_models
from smnet.export.parity import Scorer, Trial, drop_of, score, trial_clips
from smnet.export.writers import ENGINES, quiet_exporter, run_onnx
from smnet.inference.exported import onnx_metadata
from smnet.inference.torch_backend import TorchBackend
from smnet.measure import Timings, clock_for, in_turns
from smnet.models import VideoModel, create_model, multiply_adds, to_channels_last
from smnet.system import keep_freed_memory

UNIT = "torch eager fp32"
"""The model as training validates it; ``smnet predict`` and ``evaluate`` fold its normalisation."""
SIDES = (512, 1024, 2048)
"""Of the matrices whose product gives the peak."""


def random_model(word: str, size: int) -> VideoModel:
    """The model of ``name:option=value``, away from the start, at which gates are even and scores
    equal."""
    torch.manual_seed(0)
    (row,) = read_models(word)
    model = create_model(row.model, 174, **row.options)
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
    def written(to: str, precision: str) -> Scorer:
        """A file as ``smnet export`` writes it, opened; int8 without its check of the accuracy."""
        engine = ENGINES[to]
        path = folder / f"{to}-{precision}{engine.suffix}"
        metadata = onnx_metadata(model.spec, precision=precision)
        with quiet_exporter():
            if precision == "int8":
                from smnet.export.quantise import quantise, whole_clips

                whole = engine.write_fp32_onnx(model, path, metadata, None)
                small = path.with_suffix(".int8.onnx")
                purpose, ignore = engine.purpose, lambda line: None
                quantise(
                    whole, small, ranges, lambda file: 0.0, ignore, purpose, whole_clips, run_onnx
                )
                engine.finish(small, path, metadata)
            else:
                engine.write(model, path, metadata, precision == "fp16", None)
        return engine.run(path, threads)

    made: dict[str, Callable[[], Scorer]] = {}
    for precision in ("fp32", "fp16", "int8"):
        made[f"onnxruntime {precision}"] = lambda p=precision: written("onnx", p)
        made[f"openvino {precision}"] = lambda p=precision: written("openvino", p)
    return dict(sorted(made.items(), key=lambda row: row[0].split()[0]))


def timed(networks: dict[str, Scorer], clips: np.ndarray, rounds: int, threads: int) -> Timings:
    """Time the networks on ``clips`` in turns."""
    calls = [lambda network=network: network(clips) for network in networks.values()]
    return in_turns(calls, rounds, clock=clock_for(threads))


def peaks(threads: int) -> dict[str, float]:
    """Operations per second of a large matrix product, by number format.

    The best of several sizes, libraries and rounds: none is the fastest on every processor.
    """
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
    now = time.process_time if threads == 1 else time.perf_counter
    taken = []
    for _ in range(8):
        began = now()
        product()
        taken.append(now() - began)
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
) -> list[list[str]]:
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
        one = timed(networks, clips[:1], given.rounds, given.threads)
        many = timed(networks, clips, max(given.rounds // 2, 1), given.threads)
        drops: dict[str, float] = {}
        if given.data is not None:
            expected = score(networks[UNIT], trial)
            drops = {
                label: drop_of(expected, network, trial) for label, network in networks.items()
            }
    operations = 2 * multiply_adds(model, size=model.spec.input_size)
    unit = list(networks).index(UNIT)
    rows: list[list[str]] = []
    for k, label in enumerate(networks):
        seconds = one.median(k)
        peak = given.peaks.get("int8" if label.endswith("int8") else "fp32")
        rows.append(
            [
                name,
                label,
                f"{1000 * seconds:.0f}",
                str(one.ratio(unit, k)),
                f"{given.batch / many.median(k):.2f}",
                f"{operations / seconds / peak:.0%}" if peak else "-",
                f"{drops[label]:.1f}" if label in drops else "-",
            ]
        )
    if one.warning:
        print(one.warning)
    return rows


def versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "onnx", "onnxruntime", "openvino"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("models", nargs="*", default=["tsn_resnet50", "smnet_resnet50"])
    arguments.add_argument("--checkpoint", help="measure this instead of random weights")
    arguments.add_argument("--data", help="its data set: ranges of int8, drop of top-1 in points")
    arguments.add_argument("--size", type=int, default=224, help="of crops, for random weights")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--batch", type=int, default=4, help="clips for the throughput")
    arguments.add_argument("--ranges", type=int, default=16, help="clips for the ranges of int8")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument(
        "--skip", nargs="*", default=[], help="such as openvino 'torch compile fp32'"
    )
    arguments.add_argument("--title", default="ResNet-50, 8 segments of 224 x 224")
    given = parse(arguments)
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
    header = ["model", "backend", "ms per clip", "speedup", "clips/s", "of peak", "points lost"]
    peaks_line = ", ".join(f"{k} {v / 1e9:.0f} Gop/s" for k, v in given.peaks.items())
    libraries = ", ".join(f"{name} {number}" for name, number in versions().items())
    note = f"Clips/s in batches of {given.batch}. Peaks: {peaks_line}. {libraries}."
    publish(given, "deploy", given.title, table(header, rows), note)


if __name__ == "__main__":
    main()
