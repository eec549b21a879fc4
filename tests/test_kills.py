"""SIGKILL at random moments: what is run again gives the results of an undisturbed run.

One kill per job; ``SMNET_KILLS=40`` kills each job forty times, at moments drawn from another seed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from smnet.data.annotations.source import ClipSource
from smnet.evaluation.evaluate import evaluate_checkpoints
from smnet.evaluation.results import write_predictions
from smnet.experiments.compare import compare
from smnet.experiments.study import Candidate
from smnet.export import writers
from smnet.export.export import export
from smnet.training.loop import train
from tests.conftest import tiny

KILLS = int(os.environ.get("SMNET_KILLS", 1))
SEED = 0 if KILLS == 1 else time.time_ns()
TIMES = ("seconds", "waiting", "clips_per_second", "latency")

pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


def in_child(job: Callable[[], object], kill_after: float | None = None) -> int:
    """Run a job in a forked process and return its exit code, -9 after a kill."""
    child = multiprocessing.get_context("fork").Process(target=job)
    child.start()
    child.join(kill_after)
    if child.is_alive():
        child.kill()
        child.join()
    assert child.exitcode is not None
    return child.exitcode


def with_kills(job: Callable[[], object], longest: float) -> None:
    """Run a job, killed at random moments within ``longest`` seconds, then to its end."""
    moments = random.Random(SEED)
    for number in range(KILLS):
        delay = moments.uniform(0, longest)
        print(f"kill {number} after {delay:.3f} s")
        assert in_child(job, delay) in (-9, 0)
    assert in_child(job) == 0


def timed(job: Callable[[], object]) -> float:
    """The seconds of a job that nothing disturbs."""
    began = time.monotonic()
    assert in_child(job) == 0
    return time.monotonic() - began


def hidden(folder: Path) -> list[Path]:
    """Temporary files and locks that are left in a folder."""
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def rows(file: Path) -> list[dict[str, object]]:
    lines = map(json.loads, file.read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in TIMES} for row in lines]


def assert_same_run(one: Path, other: Path) -> None:
    """Equal tensors, state and log, apart from times."""
    for name in ("last.safetensors", "best.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    left, right = (torch.load(f / "resume.pt", weights_only=True) for f in (one, other))
    del left["state"]["run_id"], right["state"]["run_id"]
    assert left["state"] == right["state"]
    assert all(torch.equal(value, right["model"][k]) for k, value in left["model"].items())
    assert rows(one / "log.jsonl") == rows(other / "log.jsonl")
    assert hidden(one) == hidden(other) == []


def test_training(clips: Path, tmp_path: Path) -> None:
    recipe = tiny(clips, epochs=3, batch=2, accumulate=2, ema=0.8, mixup=0.4, dropout=0.3)

    def job(folder: Path) -> Callable[[], object]:
        return lambda: train(recipe, folder, resume=(folder / "resume.pt").exists())

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with_kills(job(killed), timed(job(whole)))
    assert_same_run(whole, killed)


def test_comparison(clips: Path, tmp_path: Path) -> None:
    recipe = tiny(clips, options={"width": 8}, epochs=1)
    candidates = [Candidate("TSN", "tsn_resnet18"), Candidate("TSM", "tsm_resnet18")]

    def job(folder: Path) -> Callable[[], object]:
        return lambda: compare(recipe, candidates, 1, folder)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with_kills(job(killed), timed(job(whole)))
    tables = [json.loads((f / "table.json").read_text())["rows"] for f in (whole, killed)]
    for table in tables:
        for row in table:
            for key in TIMES:
                row.pop(key, None)
    assert tables[0] == tables[1]
    for run in whole.glob("*-seed0"):
        assert_same_run(run, killed / run.name)
    assert hidden(killed) == []


def test_evaluation(run: Path, clips: Path, tmp_path: Path) -> None:
    source = ClipSource(str(clips))

    def job(folder: Path) -> Callable[[], object]:
        def evaluate() -> None:
            result = evaluate_checkpoints([str(run)], source, workers=0)
            assert result is not None
            write_predictions(folder / "predictions.csv", result)

        return evaluate

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with_kills(job(killed), timed(job(whole)))
    assert (killed / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    assert hidden(killed) == []


@pytest.mark.skipif(KILLS == 1, reason="in the long form only: exporting takes its time")
@pytest.mark.parametrize("to", ["torch", "onnx"])
def test_export(run: Path, tmp_path: Path, to: str) -> None:
    for module in writers.ENGINES[to].packages:
        pytest.importorskip(module, reason="the export extra is not installed")

    def job(folder: Path) -> Callable[[], object]:
        return lambda: export(run, folder / f"model{writers.ENGINES[to].suffix}", to=to)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with_kills(job(killed), timed(job(whole)))
    one, other = (folder / f"model{writers.ENGINES[to].suffix}" for folder in (whole, killed))
    if to == "torch":
        programs = [torch.export.load(path) for path in (one, other)]
        assert programs[0].graph_module.code == programs[1].graph_module.code
        state = programs[1].state_dict
        assert all(torch.equal(v, state[k]) for k, v in programs[0].state_dict.items())
    else:
        assert one.read_bytes() == other.read_bytes()
    assert hidden(killed) == []
