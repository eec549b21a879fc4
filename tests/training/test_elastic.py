"""Another number of processes: clips of a step, and runs that torchrun starts again."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from smnet.errors import UserError
from smnet.recipes.recipe import dump_recipe
from smnet.training.elastic import batch_per_process, restarted, saved_launch
from smnet.training.loop import train
from tests.conftest import tiny


@pytest.mark.parametrize(
    ("then", "now", "batch", "line"),
    [
        (1, 1, 6, ""),
        (0, 4, 6, ""),
        (2, 1, 12, "1 in place of 2, 12 clips each, 12 per step as before"),
        (1, 3, 2, "3 in place of 1, 2 clips each, 6 per step as before"),
        (2, 5, 2, "5 in place of 2, 2 clips each, 10 per step in place of 12"),
    ],
)
def test_the_clips_of_a_step_stay_where_they_can(
    then: int, now: int, batch: int, line: str
) -> None:
    found, note = batch_per_process(tiny(batch=6), then, now)
    assert found == batch
    assert line in note


def test_more_processes_than_clips() -> None:
    with pytest.raises(UserError, match="start at most 6 processes"):
        batch_per_process(tiny(batch=6), 1, 7)


@pytest.fixture(scope="module")
def half(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs whose state after the first says that two processes saved it."""
    folder = tmp_path_factory.mktemp("runs") / "half"
    train(tiny(clips, epochs=1, batch=2), folder)
    recipe = tiny(clips, epochs=2, batch=2)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    saved = torch.load(folder / "resume.pt", weights_only=True)
    saved["recipe"] = dump_recipe(recipe)
    saved["generators"], saved["meters"] = 2 * saved["generators"], 2 * saved["meters"]
    torch.save(saved, folder / "resume.pt")
    return folder


def test_one_process_goes_on_for_two(half: Path, clips: Path, said: io.StringIO) -> None:
    assert saved_launch(half) == (2, "")
    outcome = train(tiny(clips, epochs=2, batch=2), half, resume=True)
    assert (outcome.finished, outcome.epoch) == (True, 2)
    assert "1 in place of 2, 4 clips each, 4 per step as before" in said.getvalue()


def test_which_runs_are_restarted(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not restarted(half)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    assert not restarted(half)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarted(half)
    assert not restarted(half.parent)


def test_the_state_is_saved_within_an_epoch(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def record(folder: Path, recipe: Any, state: Any, *_: Any) -> None:
        seen.append((state.epoch, state.batch))

    monkeypatch.setattr("smnet.training.loop.save_state", record)
    train(tiny(clips, epochs=1, batch=3, save_minutes=1e-9), tmp_path / "run")
    assert seen[:3] == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_goes_on_without_a_killed_agent(clips: Path, tmp_path: Path) -> None:
    """Two agents of one process each; one is killed, the other goes on alone from the state."""
    out = tmp_path / "run"
    keys = ["model=tsn_resnet18", "options.width=8", "weights=none"]
    keys += ["segments=2", "size=32", "batch=1", "epochs=8", "workers=0", "device=cpu"]
    keys += ["save_minutes=0.0001", "track=none", "cache=off"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--max-restarts=3"]
    torchrun += ["--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=job"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun += [f"--rdzv-endpoint={endpoint}", "--rdzv-conf=last_call_timeout=5"]
    command = [*torchrun, "-m", "smnet", "train", "--data", str(clips), "--out", str(out), *keys]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path("src").absolute())])
    agents = []
    for name in ("one", "two"):
        with (tmp_path / f"{name}.txt").open("w") as log:
            agents.append(
                subprocess.Popen(
                    [*command, "--no-report"], stderr=log, env=environment, start_new_session=True
                )
            )
        time.sleep(1)  # the first agent is the host of the rendezvous
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:  # a slow second agent joins a run of one
            if (out / "resume.pt").exists() and saved_launch(out)[0] == 2:
                break
            time.sleep(0.2)
        lost = agents[1].pid
        workers = Path(f"/proc/{lost}/task/{lost}/children").read_text().split()
        # The agent dies first. An agent that sees its worker die joins the next rendezvous,
        # and the other agent then waits for it in vain.
        for process in [lost, *map(int, workers)]:
            os.kill(process, signal.SIGKILL)
        assert agents[0].wait(600) == 0, (tmp_path / "one.txt").read_text()[-3000:]
    finally:
        for agent in agents:
            if agent.poll() is None:
                os.killpg(agent.pid, signal.SIGKILL)
                agent.wait()
    said = (tmp_path / "one.txt").read_text()
    assert "1 in place of 2, 2 clips each, 2 per step as before" in said
    assert "epoch 8/8" in said
