"""Few clips and little time: train, adapt, and two programs written by hand.

    python benchmarks/few_clips.py SET.csv --weights resnet50.safetensors --minutes 10 --seeds 2
    python benchmarks/few_clips.py SET.csv ... --table

The clips of a set are divided by its column ``group`` (or ``fold``), a third for the test, anew for
each seed. Every method gets the rest, with the groups, and the same CPU time on one thread.

train   smnet train --minutes M, which chooses a preset
nano    smnet train nano --minutes M, from the network motion
random  the same from random weights
adapt   smnet adapt --from WEIGHTS --minutes M
probe   by hand: mean features of the image network, logistic regression with C = 1
tune    by hand: the image network and a mean over the frames, SGD until the time is over

Results are lines of JSON in ``--out``. What is there already is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from common import HERE, provenance, table
from smnet.data.annotations.read import Clip, ClipSet, read_clips
from smnet.data.annotations.source import ClipSource
from smnet.data.annotations.splits import draw_folds
from smnet.data.open import open_video
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.files import temporary_folder
from smnet.models.imagenet import load_weights
from smnet.models.registry import new_model

PARTS = 3
"""One of them is the test."""
SEGMENTS, SIZE, SHORT_SIDE, KEPT = 8, 112, 128, 16
MEAN, STD = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
WORDS = {
    "train": ["train"],
    "nano": ["train", "nano"],
    "random": ["train", "nano"],
    "adapt": ["adapt"],
}
"""Methods that are verbs of smnet, and their first words."""
CLOCK = "import time; time.monotonic = time.process_time; from smnet.cli.main import main; main()"
"""The command line with its clock of CPU time, so that a busy machine costs no method anything."""


def main() -> None:
    """Measure what is missing, or print the table."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("sets", nargs="+", type=Path)
    arguments.add_argument("--weights", type=Path, required=True)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--methods", default="probe,train,adapt,tune")
    arguments.add_argument("--out", type=Path, default=HERE / "results" / "few-clips.jsonl")
    arguments.add_argument("--table", action="store_true")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    done = read(given.out)
    if given.table:
        print(summary(done), provenance(), sep="\n\n")
        return
    for seed in range(given.seeds):
        for data in given.sets:
            for method in given.methods.split(","):
                key = {"set": data.stem, "method": method, "seed": seed, "minutes": given.minutes}
                if not any(key.items() <= row.items() for row in done):
                    row = {**key, **measure(method, data, seed, given.weights, given.minutes)}
                    done.append(row)
                    with given.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)


def read(out: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def measure(method: str, data: Path, seed: int, weights: Path, minutes: float) -> dict[str, Any]:
    """Top-1 of a method on the test clips of a seed, and its CPU seconds."""
    clips = read_clips(ClipSource(data, groups="off"))
    also = {}
    train, test = divide(clips, seed)
    torch.manual_seed(seed)
    began = cpu_seconds()
    if method in WORDS:
        with temporary_folder() as folder:
            data, both = folder / "own.csv", folder / "both.csv"
            write(data, clips, {"": train})
            write(both, clips, {"train": train, "val": test})
            run_verb(method, data, folder / "run", seed, weights, minutes)
            used = cpu_seconds() - began
            found = {
                file.stem: accuracy(file, both)
                for file in (folder / "run").glob("*.safetensors")
                if file.stem != "probe"
            }
            right = found.pop("best")
            also = (
                found  # the last epoch; and "measured", where "best" is trained again on all clips
            )
    else:
        by_hand = {"probe": probe, "tune": tune}[method]
        deadline = time.process_time() + 60 * minutes
        predicted = by_hand(train, test, len(clips.classes), weights, deadline, mirrored(clips))
        used = cpu_seconds() - began
        right = float(np.mean(predicted == np.array([clip.label for clip in test])))

    return {"top1": right, **also, "clips": len(test), "seconds": round(used, 1)}


def accuracy(checkpoint: Path, data: Path) -> float:
    """Top-1 of a checkpoint on the clips of a csv that are "val"."""
    result = evaluate_checkpoints([str(checkpoint)], str(data), split="val", workers=0)
    assert result is not None
    return float(result.top(1).value)


def divide(clips: ClipSet, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Clips for training and for the test, with the fold as the group where there is none."""
    listed = [
        replace(clip, group=clip.group if clip.group is not None else clip.fold, fold=None)
        for side in clips.splits.values()
        for clip in side
    ]
    folds = draw_folds(listed, PARTS, seed)
    train = [clip for clip, fold in zip(listed, folds, strict=True) if fold]
    return train, [clip for clip, fold in zip(listed, folds, strict=True) if not fold]


def write(path: Path, clips: ClipSet, chosen: Mapping[str, Sequence[Clip]]) -> None:
    """A csv of the clips of each split; without the column split if its name is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", *(["split"] if all(chosen) else [])])
        for split, side in chosen.items():
            for clip in side:
                row = [clip.path, clips.classes[clip.label], clip.group or clip.path]
                writer.writerow([*row, *([split] if split else [])])


def run_verb(method: str, data: Path, run: Path, seed: int, weights: Path, minutes: float) -> None:
    """Run a verb of smnet, timed by its CPU time."""
    place = [data, "--from", weights] if method == "adapt" else ["--data", data]
    words, keys = [*WORDS[method], *place], [f"seed={seed}", "workers=0"]
    if method == "adapt":
        keys += [f"size={SIZE}", f"short_side={SHORT_SIDE}", f"segments={SEGMENTS}"]
    if method == "random":
        keys.append("weights=none")
    command = [*words, *keys, "--minutes", minutes, "--out", run, "--no-report"]
    text = [sys.executable, "-c", CLOCK, *map(str, command)]
    subprocess.run(text, check=True, stdout=sys.stderr)


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def mirrored(clips: ClipSet) -> bool:
    """Whether a mirrored clip keeps its label."""
    return not any(word in name.lower() for name in clips.classes for word in ("left", "right"))


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A row per set and time, a column per method: mean, spread and number of seeds."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for name, minutes in dict.fromkeys((row["set"], row["minutes"]) for row in rows):
        cells = []
        for method in methods:
            key = {"set": name, "minutes": minutes, "method": method}
            values = [100 * row["top1"] for row in rows if key.items() <= row.items()]
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.1f}{spread} ({len(values)})" if values else "-")
        lines.append([name, f"{minutes:g}", *cells])
    return table(["set", "CPU minutes", *methods], lines)


# --- by hand -----------------------------------------------------------------------------------


def frames_of(clip: Clip, count: int) -> Tensor:
    """(count, 3, h, w) uint8, evenly spread over the clip, with a short side of 128 pixels."""
    with open_video(clip.path, part=clip.part) as video:
        places = [int((k + 0.5) * video.num_frames / count) for k in range(count)]
        frames = torch.from_numpy(video.read(places, short_side=SHORT_SIDE)).permute(0, 3, 1, 2)
    scale = SHORT_SIDE / min(frames.shape[2:])
    size = [round(scale * side) for side in frames.shape[2:]]
    scaled = F.interpolate(frames.float(), size, mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).byte()


def cropped(frames: Tensor, top: int, left: int, flip: bool) -> Tensor:
    """A normalised crop (T, 3, 112, 112)."""
    crop = frames[:, :, top : top + SIZE, left : left + SIZE].float() / 255
    return ((crop.flip(-1) if flip else crop) - MEAN) / STD


def centre(frames: Tensor) -> Tensor:
    height, width = frames.shape[2:]
    return cropped(frames, (height - SIZE) // 2, (width - SIZE) // 2, False)


def probe(
    train: Sequence[Clip],
    test: Sequence[Clip],
    classes: int,
    weights: Path,
    deadline: float,
    flip: bool,
) -> NDArray[np.int64]:
    """Logistic regression on mean features, as scikit-learn has it by default."""
    del deadline, flip
    network = new_model("tsn_resnet50", classes, SEGMENTS, {})
    load_weights(network, weights)
    network.eval()
    with torch.inference_mode():
        rows = [
            network.forward_features(centre(frames_of(clip, SEGMENTS))[None]).mean((1, 3, 4))[0]
            for clip in (*train, *test)
        ]
    x = torch.stack(rows).clone().double()
    known = x[: len(train)]
    x = (x - known.mean(0)) / known.std(0).clamp(min=1e-6)
    labels = torch.tensor([clip.label for clip in train])
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        logits = x[: len(train)] @ weight.T + bias
        value = F.cross_entropy(logits, labels, reduction="sum") + weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(objective)
    with torch.no_grad():
        return (x[len(train) :] @ weight.T + bias).argmax(1).numpy()


def tune(
    train: Sequence[Clip],
    test: Sequence[Clip],
    classes: int,
    weights: Path,
    deadline: float,
    flip: bool,
) -> NDArray[np.int64]:
    """The whole network by SGD, with a cosine over the time that is left."""
    network = new_model("tsn_resnet50", classes, SEGMENTS, {})
    load_weights(network, weights)
    network.train()
    clips = [frames_of(clip, KEPT) for clip in train]
    labels = torch.tensor([clip.label for clip in train])
    optimizer = torch.optim.SGD(network.parameters(), 0.005, momentum=0.9, weight_decay=1e-4)
    began, batch = time.process_time(), 8

    def views(index: int) -> Tensor:
        frames = clips[index]
        chosen = torch.arange(SEGMENTS) * KEPT // SEGMENTS
        chosen = chosen + torch.randint(KEPT // SEGMENTS, (SEGMENTS,))
        top, left = (int(torch.randint(side - SIZE + 1, ())) for side in frames.shape[2:])
        return cropped(frames[chosen], top, left, flip and bool(torch.rand(()) < 0.5))

    over = False
    while not over:
        for part in torch.randperm(len(clips)).split(batch):
            share = (time.process_time() - began) / max(deadline - began, 1e-9)
            over = share >= 1
            if over or len(part) < 2:
                break
            optimizer.param_groups[0]["lr"] = 0.005 * (1 + np.cos(np.pi * share)) / 2
            optimizer.zero_grad()
            logits = network(torch.stack([views(int(i)) for i in part]))
            F.cross_entropy(logits, labels[part]).backward()
            optimizer.step()
    network.eval()
    with torch.inference_mode():
        rows = [network(centre(frames_of(clip, SEGMENTS))[None]).argmax() for clip in test]
    return torch.stack(rows).numpy()


if __name__ == "__main__":
    main()
