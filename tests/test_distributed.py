"""One process or two: the same clips, the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from smnet.checkpoints.file import load
from smnet.checkpoints.metadata import view_plan
from smnet.data.annotations.read import read_clips
from smnet.data.loading.dataset import TestBatches
from smnet.distributed import Processes, choose_device, join, says_first
from smnet.errors import UserError
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.evaluation.scoring import in_order, protocol_loader, score_clips
from smnet.inference.torch_backend import TorchBackend
from smnet.models import create_model
from smnet.recipes.recipe import Recipe
from smnet.training.loop import train
from smnet.training.step import blank_loss
from tests.conftest import tiny, write_clips

CPU = torch.device("cpu")
BY_TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SMALL = ("model=tsn_resnet18", "options.width=8", "weights=none", "device=cpu", "workers=0")


def by_two(script: str, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script under torchrun, in two processes."""
    (folder / "worker.py").write_text(script)
    done = subprocess.run(
        [*BY_TWO, str(folder / "worker.py"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def test_a_message_is_not_lost_where_nobody_keeps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def gone(rank: int, world: int) -> Any:
        raise RuntimeError("the client socket has failed to connect")

    monkeypatch.setattr("smnet.distributed._store", gone)
    assert says_first("it is wrong")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")
    assert says_first("it is wrong")


def test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join("cpu") as processes:
        assert processes == Processes(CPU, 0, 1)
        assert processes.first
        assert processes.gather("x") == ["x"]
        assert processes.any(True) is True
        assert processes.any(False) is False
        assert [processes.share_of(count) for count in (7, 1, 0)] == [1.0, 1.0, 0.0]
    assert not Processes(CPU, 1, 2).first


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpu", "no device is called 'gpu'; use auto, cpu, cuda or cuda:1"),
        ("", "no device is called ''"),
        ("cpu:x", "no device is called 'cpu:x'"),
        ("meta", "device=meta: cannot be used here .*; use device=cpu"),
    ],
)
def test_devices_that_are_none(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        choose_device(name)


def test_devices_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UserError, match=f"device={name}: this PyTorch sees no GPU"):
            choose_device(name)


def test_each_process_scores_its_share_and_the_rows_come_together(run: Path, clips: Path) -> None:
    """The gathering, with both processes played one after the other in this one."""
    backend = TorchBackend.live(load(run))
    rows = read_clips(clips).splits["val"][:5]  # does not divide by two
    plan = view_plan(backend.spec)

    class Played(Processes):
        def gather(self, item: Any) -> list[Any]:
            kept.append(item[0].copy())
            sizes = [len(range(rank, len(rows), self.world)) for rank in range(self.world)]
            return [
                (
                    np.zeros((size, 3)),
                    np.full(size, k),
                    {3 - k: f"problem of {k}"},
                    {k: f"damage of {k}"},
                )
                for k, size in enumerate(sizes)
            ]

    kept: list[np.ndarray] = []
    for rank in (0, 1):
        processes = Played(CPU, rank, 2)
        loader = protocol_loader(rows, plan, processes, batch=2, workers=0)
        scores, problems, damaged, distances = score_clips(backend, loader, processes)
        assert scores.shape == (5, 3)
        assert distances.tolist() == [0, 1, 0, 1, 0]
        assert in_order(problems) == ("problem of 1", "problem of 0")
        assert in_order(damaged) == ("damage of 0", "damage of 1")
    assert [len(share) for share in kept] == [3, 2]
    together = np.full((5, 3), np.nan)
    for rank, share in enumerate(kept):
        together[list(TestBatches(5, 2, rank, 2).mine)] = share
    alone, *_ = score_clips(
        backend, protocol_loader(rows, plan, Processes(CPU), workers=0), Processes(CPU)
    )
    assert np.allclose(together, alone, atol=1e-5)


IN_ONE_LINE = (
    ("predict run clip.mp4", "predict runs in one process: start it without torchrun"),
    (f"train --data nowhere {' '.join(SMALL)}", "data: cannot open"),
    (f"train --data clips --out clips/run {' '.join(SMALL)}", "clips/run: "),
)

WORKER = """
import json, os, sys
from pathlib import Path
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
from smnet import distributed
from smnet.cli.main import main
from smnet.distributed import join
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.recipes.recipe import read_recipe
from smnet.training import validation
from smnet.training.loop import train

checkpoint, data, folder, *wrong = sys.argv[1:]
out = Path(folder)
run = lambda name: train(read_recipe(f"{folder}/{name}.yaml"), out / name)

outcome, _ = run("even"), run("uneven")
result = evaluate_checkpoints([checkpoint], data, device="cpu", workers=0, batch=2)
assert len(past := distributed._past) == 3, "a group outlives the network that exchanges in it"
assert all(group is not None for group in past)
with join("cpu") as processes:
    gathered = processes.gather([processes.rank, outcome.finished, result is None])
    voted = processes.any(processes.rank == 1), processes.any(False)
    if processes.first:
        row = [gathered, voted, result.scores.tolist(), list(result.paths)]
        (out / "gathered.json").write_text(json.dumps(row))

score, seen = validation.score_clips, {"norms": [], "ema": []}

def watched(backend, loader, processes, **options):
    buffers = [b.flatten().double() for b in backend.model.buffers()]
    seen[name].append(torch.cat(buffers).tolist())
    return score(backend, loader, processes, **options)

validation.score_clips = watched
for name in seen:
    run(name)
validation.score_clips = score
outcome = run("skip")
with join("cpu") as processes:
    row = processes.gather([seen, outcome.finished])
    if processes.first:
        (out / "seen.json").write_text(json.dumps(row))

for _ in range(60):
    with join("cpu"):
        layers = nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)])
        network = DistributedDataParallel(layers, bucket_cap_mb=1e-4)
        network(torch.ones(2, 8)).sum().backward()
    del network
(out / f"end-{processes.rank}").touch()

os.chdir(out)
for line in wrong:
    sys.argv = ["smnet", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert end.code == 1, (line, end.code)
"""

OF_TWO: dict[str, Any] = {
    "model": "tsn_resnet18",
    "dropout": 0.0,
    "freeze_norm": True,
    "lr": 0.1,
    "lr_batch": 4,
    "accumulate": 2,
}
UNEVEN: dict[str, Any] = {**OF_TWO, "accumulate": 1, "flip": "off"}
"""9 clips: 5 for one process, 4 for the other."""


@pytest.fixture(scope="module")
def two(run: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all that two processes have done, started once: a start takes seconds."""
    folder = tmp_path_factory.mktemp("two")
    damaged = write_clips(folder / "d", {"train": 3})
    for name in ("falling/0", "falling/1", "resting/1", "rising/2"):
        (damaged / "train" / f"{name}.mp4").write_bytes(b"not a film")
    recipes = {
        "even": tiny(clips, **OF_TWO, batch=2),
        "uneven": tiny(clips, **UNEVEN, batch=5),
        "norms": tiny(clips, batch=2, epochs=1, lr=0.1),
        "ema": tiny(clips, batch=2, epochs=1, lr=0.1, ema=0.5),
        "skip": tiny(damaged, batch=1, accumulate=2, on_error="skip", groups="off", clip_grad=0.0),
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    (folder / "clips").symlink_to(clips)
    done = by_two(WORKER, folder, run, clips, folder, *[line for line, _ in IN_ONE_LINE])
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_a_network_may_outlive_its_group(two: Path) -> None:
    """It was the last to hold it then, and waited for itself for ever, within a hundred rounds."""
    assert [(two / f"end-{rank}").exists() for rank in (0, 1)] == [True, True]


def test_what_all_processes_find_is_printed_once(two: Path) -> None:
    stderr = (two / "stderr").read_text()
    lines = [line for line in stderr.splitlines() if line.startswith("smnet: ")]
    assert len(lines) == len(IN_ONE_LINE), stderr
    for line, (_, says) in zip(lines, IN_ONE_LINE, strict=True):
        assert line.startswith(f"smnet: {says}")


def test_two_processes(two: Path, run: Path, clips: Path, tmp_path: Path) -> None:
    """torchrun over gloo: trains as one process with the same global batch does, and evaluates
    to the same scores. (The norms are frozen: each process has statistics of its own.)"""
    gathered, voted, scores, paths = json.loads((two / "gathered.json").read_text())
    assert gathered == [[0, True, False], [1, True, True]]
    assert voted == [True, False]

    alone = evaluate_checkpoints([str(run)], str(clips), device="cpu", workers=0)
    assert alone is not None
    assert paths == list(alone.paths)
    assert np.allclose(scores, alone.scores, atol=1e-5)

    for name, batch in (("one", 4), ("other", 2)):
        train(tiny(clips, **OF_TWO, batch=batch), tmp_path / name)
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "other"))
    shared = load_file(two / "even" / "last.safetensors")
    assert one.keys() == shared.keys()
    for key, value in one.items():
        assert torch.allclose(value, shared[key], rtol=1e-3, atol=1e-5), key
    assert not torch.allclose(other["conv1.weight"], shared["conv1.weight"], rtol=1e-3, atol=1e-5)
    train(tiny(clips, **UNEVEN, batch=10), tmp_path / "whole")
    whole = load_file(tmp_path / "whole" / "last.safetensors")
    shared = load_file(two / "uneven" / "last.safetensors")
    for key, value in whole.items():
        assert torch.allclose(value, shared[key], rtol=1e-4, atol=1e-6), key
    log = (two / "even" / "log.jsonl").read_text().splitlines()
    assert len(log) == 4  # written by the first process alone
    assert (two / "stderr").read_text().count("epoch 2/2") == 3  # once in each of three runs


@pytest.mark.parametrize("name", ["norms", "ema"])
def test_all_processes_validate_the_network_that_is_kept(name: str, two: Path) -> None:
    """Each has running statistics of its own clips, until it gets those of the first."""
    first, second = (seen[name] for seen, _ in json.loads((two / "seen.json").read_text()))
    assert first == second
    kept = load(two / name / "last.safetensors")
    assert first == [torch.cat([b.flatten().double() for b in kept.buffers()]).tolist()]


def test_a_process_whose_whole_batch_is_unreadable(two: Path) -> None:
    """With on_error=skip it takes part with a zero loss: the other must not wait for ever."""
    assert [finished for _, finished in json.loads((two / "seen.json").read_text())] == [True, True]
    rows = [json.loads(line) for line in (two / "skip" / "log.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in trained] == [2, 4]
    assert [row["skipped"] for row in trained] == [4, 4], "by both processes"
    last = load_file(two / "skip" / "last.safetensors")
    assert all(torch.isfinite(value).all() for value in last.values() if value.is_floating_point())


def test_a_blank_loss_teaches_nothing() -> None:
    torch.manual_seed(0)
    model = create_model("smnet_resnet18", 3, 2, width=8).train()
    model.spec = replace(model.spec, input_size=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = blank_loss(model, model.spec, Recipe())
    loss.backward()
    assert loss.item() == 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_fewer_clips_than_processes(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Processes(CPU, 0, 10)
    monkeypatch.setattr("smnet.training.loop.join", lambda device: _entered(many))
    with pytest.raises(UserError, match="9 training clips for 10 processes"):
        train(tiny(clips), tmp_path / "r")


class _entered:
    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def __enter__(self) -> Processes:
        return self.processes

    def __exit__(self, *_: object) -> None:
        pass
