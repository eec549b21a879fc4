"""What a user could pick, in one table: networks, engines and readers, on the same clips.

    python benchmarks/bench.py                   # make bench: about ten minutes on two quiet cores
    python benchmarks/bench.py --size 112 --rounds 3 --models tsn_resnet50 smnet_resnet50

Three parts. Forward pass: each network in PyTorch and as exported files, beside 3D networks and
VideoMAE-S of transformers if that is installed. Training step: the family in PyTorch. Decoding:
each installed reader of video files, 8 frames of one file. All candidates of a part take turns. A
ratio is the median over the rounds, with quartiles, to the first row of its part; the last column
is the ratio to the first row of the same engine. Weights are random: the table says what a clip
costs, not how good the answer is. For more, see cost.py, deploy.py and decode.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

import cost
import decode
from common import parse, parser, publish, table
from deploy import exported_networks, random_model, versions
from readers import installed
from sample_videos import make_videos
from smnet.errors import UserError
from smnet.experiments.profile import time_models
from smnet.export.parity import trial_clips
from smnet.inference.torch_backend import TorchBackend
from smnet.measure import Timings, clock_for, in_turns
from smnet.models import parameter_count
from smnet.system import keep_freed_memory

MODELS = ("tsn_resnet50", "tsm_resnet50", "smnet_resnet50", "smnet_resnet50:place=after_conv1")
ENGINES = ("onnxruntime fp32", "openvino fp32", "onnxruntime int8", "openvino int8")
IN_INT8 = ("tsn_resnet50", "smnet_resnet50")
"""Networks that are also quantised, which takes longest."""
IN_3D = ("slow_resnet50", "i3d_resnet50")
KINDS = 2
"""Drawn videos that are decoded."""


@dataclass(frozen=True)
class Candidate:
    """A network and how it runs: the frames that it sees, its parameters, the timed call."""

    name: str
    how: str
    frames: int
    parameters: int
    run: Callable[[], object]


def our_networks(
    word: str, engines: tuple[str, ...], folder: Path, given: argparse.Namespace
) -> list[Candidate]:
    """A model of ours in PyTorch, as predict runs it, and as exported files."""
    model = random_model(word, given.size)
    count, frames = parameter_count(model), model.spec.frames_per_clip
    with trial_clips(model.spec, None, "train", given.ranges) as trial:
        clip, ranges = trial.clips[:1].copy(), trial.clips[: given.ranges].copy()
    backend = TorchBackend(model, "cpu")
    rows = [Candidate(word, "PyTorch", frames, count, lambda: backend.score(clip[:, None]))]
    folder.mkdir()
    found = exported_networks(model, folder, ranges, given.threads)
    for label in engines:
        if label.endswith("int8") and word not in given.in_int8:
            continue
        try:
            network = found[label]()
        except (UserError, ImportError) as error:
            print(f"{word}, {label}: left out ({error})")
            continue
        rows.append(Candidate(word, label, frames, count, lambda run=network: run(clip)))
        print(f"{word}, {label}: ready", flush=True)
    return rows


def videomae(size: int) -> list[Candidate]:
    """VideoMAE-S (Tong et al., NeurIPS 2022) by transformers, with random weights."""
    try:
        from transformers import VideoMAEConfig, VideoMAEForVideoClassification
    except ImportError:
        print("VideoMAE-S: left out (pip install transformers)")
        return []
    settings = VideoMAEConfig(
        image_size=size,
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        intermediate_size=1536,
        num_labels=174,
    )
    network = VideoMAEForVideoClassification(settings).eval()
    clip = torch.randn(1, settings.num_frames, 3, size, size)

    def run() -> None:
        with torch.inference_mode():
            network(clip)

    how = f"transformers {version('transformers')}"
    return [Candidate("VideoMAE-S", how, settings.num_frames, parameter_count(network), run)]


def forward_rows(given: argparse.Namespace, folder: Path) -> tuple[list[list[str]], str]:
    """The part of the forward pass, and a warning if the machine was busy."""
    candidates: list[Candidate] = []
    for number, word in enumerate([*given.models, *given.in_3d]):
        engines = given.engines if number < len(given.models) else ()
        candidates += our_networks(word, tuple(engines), folder / str(number), given)
    candidates += videomae(given.size)
    calls = [candidate.run for candidate in candidates]
    timings = in_turns(calls, given.rounds, clock=clock_for(given.threads), limit=given.seconds)
    first = {one.how: k for k, one in reversed(list(enumerate(candidates)))}
    rows = [
        [
            f"forward, {one.name}",
            one.how,
            str(one.frames),
            f"{one.parameters / 1e6:.1f} M",
            *figures(timings, k),
            str(timings.ratio(k, first[one.how])),
        ]
        for k, one in enumerate(candidates)
    ]
    return rows, timings.warning


def training_rows(given: argparse.Namespace) -> list[list[str]]:
    """The part of the training step."""
    models = [cost.build(word) for word in given.models]
    timings = time_models(models, given.size, 1, torch.device("cpu"), min(given.rounds, 3))
    return [
        [
            f"training step, {word}",
            "PyTorch",
            str(model.spec.frames_per_clip),
            f"{parameter_count(model) / 1e6:.1f} M",
            *figures(timings, 2 * k + 1, 1),
            str(timings.ratio(2 * k + 1, 1)),
        ]
        for k, (word, model) in enumerate(zip(given.models, models, strict=True))
    ]


def decoding_rows(given: argparse.Namespace, folder: Path) -> list[list[str]]:
    """The part of decoding: medians of CPU time for 8 frames of a drawn video."""
    numbers = installed()
    videos = dict(list(make_videos(folder).items())[:KINDS])
    rows = []
    for found in decode.compare(videos, ["8 segments"], given.rounds, numbers):
        for name, result in found["readers"].items():
            if "seconds" not in result:
                continue
            ratio = f"{1 / result['ratio']:.2f}" if result.get("ratio") else "-"
            exact = "" if result["exact"] else ", wrong frames"
            how = f"{name} {numbers[name]}{exact}"
            milliseconds = f"{1000 * result['seconds']:.0f}"
            rows.append([f"decoding, {found['video']}", how, "8", "-", milliseconds, ratio, "-"])
    return rows


def figures(timings: Timings, k: int, reference: int = 0) -> list[str]:
    return [f"{1000 * timings.median(k):.0f}", str(timings.ratio(k, reference))]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", nargs="*", default=list(MODELS))
    arguments.add_argument("--in-3d", nargs="*", default=list(IN_3D), metavar="MODEL")
    arguments.add_argument("--engines", nargs="*", default=list(ENGINES))
    arguments.add_argument("--in-int8", nargs="*", default=list(IN_INT8), metavar="MODEL")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--ranges", type=int, default=4, help="clips for the ranges of int8")
    arguments.add_argument(
        "--seconds", type=float, default=180, help="after which no further round of networks starts"
    )
    arguments.add_argument("--parts", nargs="*", default=["forward", "training", "decoding"])
    given = parse(arguments)
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    rows: list[list[str]] = []
    warning = ""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smnet-")))
        if "forward" in given.parts:
            made, warning = forward_rows(given, folder)
            rows += made
        if "training" in given.parts:
            rows += training_rows(given)
        if "decoding" in given.parts:
            (folder / "videos").mkdir()
            rows += decoding_rows(given, folder / "videos")
    header = ["what", "by", "frames", "parameters", "ms", "ratio", "in its engine"]
    libraries = ", ".join(f"{name} {number}" for name, number in versions().items())
    clock = clock_for(given.threads)
    note = f"Crops of {given.size} pixels, {given.threads} threads, {clock} time. {libraries}."
    publish(given, "bench", "Networks, engines and readers", table(header, rows), note, warning)


if __name__ == "__main__":
    main()
