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


def by_two(
    script: str, folder: Path, *words: object, limit: float = 400
) -> subprocess.CompletedProcess[str]:
    """Run a script under torchrun, in two processes."""
    (folder / "worker.py").write_text(script)
    done = subprocess.run(
        [*BY_TWO, str(folder / "worker.py"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "run", "clip.mp4"], "predict runs in one process: start it without torchrun"),
        (["train", "--data", "nowhere"], "data: cannot open"),
        (["train", "--data", "clips", "--out", "clips/run", *SMALL], "clips/run: "),
    ],
)
def test_what_all_processes_find_is_told_once(
    words: list[str], says: str, clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "clips").symlink_to(clips)
    done = subprocess.run(
        [*BY_TWO, "-m", "smnet", *words],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("smnet: ")]
    assert done.returncode == 1
    assert len(told) == 1, done.stderr
    assert told[0].startswith(f"smnet: {says}")


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
                (np.zeros((size, 3)), {3 - k: f"problem of {k}"}, {k: f"damage of {k}"})
                for k, size in enumerate(sizes)
            ]

    kept: list[np.ndarray] = []
    for rank in (0, 1):
        processes = Played(CPU, rank, 2)
        loader = protocol_loader(rows, plan, processes, batch=2, workers=0)
        scores, problems, damaged = score_clips(backend, loader, processes)
        assert scores.shape == (5, 3)
        assert in_order(problems) == ("problem of 1", "problem of 0")
        assert in_order(damaged) == ("damage of 0", "damage of 1")
    assert [len(share) for share in kept] == [3, 2]
    together = np.full((5, 3), np.nan)
    for rank, share in enumerate(kept):
        together[list(TestBatches(5, 2, rank, 2).mine)] = share
    alone, _, _ = score_clips(
        backend, protocol_loader(rows, plan, Processes(CPU), workers=0), Processes(CPU)
    )
    assert np.allclose(together, alone, atol=1e-5)


WORKER = """
import json, sys
import torch
torch.set_num_threads(1)
from smnet import distributed
from smnet.distributed import join
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.recipes.recipe import read_recipe
from smnet.training.loop import train

checkpoint, data, recipe, uneven, out = sys.argv[1:]
outcome = train(read_recipe(recipe), out + "/r")
train(read_recipe(uneven), out + "/u")
result = evaluate_checkpoints([checkpoint], data, device="cpu", workers=0, batch=2)
assert len(past := distributed._past) == 3, "a group outlives the network that exchanges in it"
assert all(group is not None for group in past)
with join("cpu") as processes:
    told = processes.gather([processes.rank, outcome.finished, result is None])
    voted = processes.any(processes.rank == 1), processes.any(False)
    if processes.first:
        with open(out + "/told.json", "w") as file:
            json.dump([told, voted, result.scores.tolist(), list(result.paths)], file)
"""


IN_A_ROW = """
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from smnet.distributed import join

torch.set_num_threads(1)
for _ in range(60):
    with join("cpu"):
        layers = nn.Sequential(*[nn.Linear(8, 8) for _ in range(4)])
        network = DistributedDataParallel(layers, bucket_cap_mb=1e-4)
        network(torch.ones(2, 8)).sum().backward()
    del network
"""


def test_a_network_may_outlive_its_group(tmp_path: Path) -> None:
    """It was the last to hold it then, and waited for itself for ever, within a hundred rounds."""
    by_two(IN_A_ROW, tmp_path, limit=300)


def test_two_processes(run: Path, clips: Path, tmp_path: Path) -> None:
    """torchrun over gloo: trains as one process with the same global batch does, and evaluates
    to the same scores. (The norms are frozen: each process has statistics of its own.)"""
    changes: dict[str, Any] = {
        "model": "tsn_resnet18",
        "dropout": 0.0,
        "freeze_norm": True,
        "lr": 0.1,
        "lr_batch": 4,
        "accumulate": 2,
    }
    recipe = tmp_path / "two.yaml"
    recipe.write_text(json.dumps(tiny(clips, **changes, batch=2).model_dump(mode="json")))
    uneven = tmp_path / "uneven.yaml"  # 9 clips: 5 for one process, 4 for the other
    of_all = {**changes, "accumulate": 1, "flip": "off"}
    uneven.write_text(json.dumps(tiny(clips, **of_all, batch=5).model_dump(mode="json")))
    done = by_two(WORKER, tmp_path, run, clips, recipe, uneven, tmp_path)
    told, voted, scores, paths = json.loads((tmp_path / "told.json").read_text())
    assert told == [[0, True, False], [1, True, True]]
    assert voted == [True, False]

    alone = evaluate_checkpoints([str(run)], str(clips), device="cpu", workers=0)
    assert alone is not None
    assert paths == list(alone.paths)
    assert np.allclose(scores, alone.scores, atol=1e-5)

    for name, batch in (("one", 4), ("other", 2)):
        train(tiny(clips, **changes, batch=batch), tmp_path / name)
    one, two, other = (
        load_file(tmp_path / name / "last.safetensors") for name in ("one", "r", "other")
    )
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.allclose(value, two[key], rtol=1e-3, atol=1e-5), key
    assert not torch.allclose(other["conv1.weight"], two["conv1.weight"], rtol=1e-3, atol=1e-5)
    train(tiny(clips, **of_all, batch=10), tmp_path / "whole")
    whole, shared = (load_file(tmp_path / n / "last.safetensors") for n in ("whole", "u"))
    for key, value in whole.items():
        assert torch.allclose(value, shared[key], rtol=1e-4, atol=1e-6), key
    log = (tmp_path / "r" / "log.jsonl").read_text().splitlines()
    assert len(log) == 4  # written by the first process alone
    assert done.stderr.count("epoch 2/2") == 2  # of two runs


VALIDATED = """
import json, sys
import torch
torch.set_num_threads(1)
from smnet.training import loop as module
from smnet.training import validation
from smnet.distributed import Processes
from smnet.recipes.recipe import read_recipe

recipe, out = sys.argv[1:]
score = validation.score_clips
seen = []

def watched(backend, loader, processes, **options):
    buffers = [b.flatten().double() for b in backend.model.buffers()]
    seen.append(torch.cat(buffers).tolist())
    return score(backend, loader, processes, **options)

validation.score_clips = watched
module.train(read_recipe(recipe), out + "/r")
with module.join("cpu") as processes:
    all_seen = processes.gather(seen)
    if processes.first:
        with open(out + "/seen.json", "w") as file:
            json.dump(all_seen, file)
"""


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_all_processes_validate_the_network_that_is_kept(
    ema: float, clips: Path, tmp_path: Path
) -> None:
    """Each has running statistics of its own clips, unless they are told the first one's."""
    recipe = tmp_path / "two.yaml"
    given = tiny(clips, batch=2, epochs=1, ema=ema, lr=0.1)
    recipe.write_text(json.dumps(given.model_dump(mode="json")))
    by_two(VALIDATED, tmp_path, recipe, tmp_path)
    first, second = json.loads((tmp_path / "seen.json").read_text())
    assert first == second
    kept = load(tmp_path / "r" / "last.safetensors")
    assert first == [torch.cat([b.flatten().double() for b in kept.buffers()]).tolist()]


SKIPPER = """
import json, sys
import torch
torch.set_num_threads(1)
from smnet.recipes.recipe import read_recipe
from smnet.training.loop import train

recipe, out = sys.argv[1:]
outcome = train(read_recipe(recipe), out + "/r")
sys.stdout.write(f"finished {outcome.finished};")  # one write: two processes share the pipe
"""


def test_a_process_whose_whole_batch_is_unreadable(tmp_path: Path) -> None:
    """With on_error=skip it takes part with a zero loss: the other must not wait for ever."""
    data = write_clips(tmp_path / "d", {"train": 3})
    for name in ("falling/0", "falling/1", "resting/1", "rising/2"):
        (data / "train" / f"{name}.mp4").write_bytes(b"not a film")
    recipe = tmp_path / "two.yaml"
    keys: dict[str, Any] = {"batch": 1, "accumulate": 2, "on_error": "skip", "clip_grad": 0.0}
    recipe.write_text(json.dumps(tiny(data, **keys).model_dump(mode="json")))
    done = by_two(SKIPPER, tmp_path, recipe, tmp_path, limit=300)
    assert done.stdout.count("finished True") == 2
    rows = [json.loads(line) for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in trained] == [2, 4]
    assert [row["skipped"] for row in trained] == [4, 4], "by both processes"
    last = load_file(tmp_path / "r" / "last.safetensors")
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
