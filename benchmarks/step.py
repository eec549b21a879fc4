"""The cost of one step of a causal model against a forward pass of its clip, in one run.

    python benchmarks/step.py [MODEL]... [--engine torch,onnx,openvino] [--size 224] [--rounds 15]

Steps and clips take turns on one thread. The last column should be at most 1.1 / T. The state is
what a stream keeps between two frames.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from smnet.export.stream import STREAMS, write_step
from smnet.export.writers import ENGINES, quiet_exporter
from smnet.inference.exported import onnx_metadata
from smnet.inference.streams import Stream, TorchStream
from smnet.inference.torch_backend import TorchBackend
from smnet.measure import clock_for, in_turns
from smnet.models import VideoModel, create_model

SEGMENTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of a step against that of a clip.")
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    print("| model | engine | state, MiB | step, ms | clip, ms | step / clip | at most |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in given.models or ["smnet_resnet50", "smnet_mobilenetv2"]:
        options = {} if name.startswith("tsn_") else {"causal": True}
        model = create_model(name, 174, SEGMENTS, **options).eval()
        model.spec = replace(model.spec, input_size=given.size, short_side=given.size)
        for engine in given.engine.split(","):
            print(row(model, engine, given.rounds), flush=True)


def row(model: VideoModel, engine: str, rounds: int) -> str:
    """A row of the table."""
    side = model.spec.input_size
    clip = np.random.default_rng(0).integers(0, 256, (SEGMENTS, 3, side, side), np.uint8)
    with tempfile.TemporaryDirectory() as folder, quiet_exporter():
        stream, whole = opened(model, engine, Path(folder))
        timings = in_turns(
            [lambda: stream.step(clip[0]), lambda: whole(clip[None])],
            rounds,
            clock=clock_for(1),
            limit=120,
        )
    ratio = timings.ratio(0, 1)
    return (
        f"| {model.spec.name} | {engine} | {stream.state_bytes / 2**20:.1f} |"
        f" {1000 * timings.median(0):.1f} | {1000 * timings.median(1):.1f} |"
        f" {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) | {1.1 / SEGMENTS:.3f} |"
    )


def opened(
    model: VideoModel, engine: str, folder: Path
) -> tuple[Stream, Callable[[np.ndarray], np.ndarray]]:
    """A stream of the model under an engine, and what scores its clips."""
    if engine == "torch":
        backend = TorchBackend(model, "cpu")
        return TorchStream(backend), lambda clips: backend.score(clips[:, None])
    form = ENGINES[engine]
    metadata = onnx_metadata(model.spec, precision="fp32")
    step, clip = (folder / f"{name}{form.suffix}" for name in ("step", "clip"))
    write_step(form, model, step, metadata)
    form.write(model, clip, metadata, False, None)
    return STREAMS[form.suffix](step, "cpu", 1), form.run(clip, 1)


if __name__ == "__main__":
    main()
