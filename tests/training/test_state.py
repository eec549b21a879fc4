"""An interrupted and resumed run is equal, bit for bit, to one that was not interrupted."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.evaluation.scoring import score_clips
from smnet.models import create_model
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training import loop as train_module
from smnet.training import validation as validation_module
from smnet.training.elastic import batch_per_process
from smnet.training.log import RunLog
from smnet.training.loop import train
from smnet.training.optim import make_optimizer
from smnet.training.setup import stored_recipe
from smnet.training.state import Learner, RunState, load_state, moving_average, save_state
from tests.conftest import file_size_limit, tiny

HARD: dict[str, Any] = {
    "epochs": 4,
    "batch": 2,  # 4 batches an epoch, 2 steps of 2 batches
    "accumulate": 2,
    "ema": 0.8,
    "balance": "classes",
    "layer_decay": 0.9,
    "patience": 9,
    "gradient_checkpointing": True,
    "mixup": 0.4,
    "cutmix": 1.0,
    "dropout": 0.3,
    "optimizer": "adamw",
    "crop": "resized",
}
"""Every recipe key whose feature has a state."""


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Have the signal arrive while the optimiser step ``step`` of a run is reported."""
    report = RunLog.step

    def then_signal(self: RunLog, epoch: int, at: int, note: str) -> None:
        report(self, epoch, at, note)
        if at == step:
            signal.raise_signal(number)

    monkeypatch.setattr(RunLog, "step", then_signal)


def assert_same_run(a: Path, b: Path) -> None:
    """Equal tensors, metrics and counters; a log that differs in seconds alone."""
    for name in ("last.safetensors", "best.safetensors"):
        one, other = load_file(a / name), load_file(b / name)
        assert one.keys() == other.keys()
        assert [k for k in one if not torch.equal(one[k], other[k])] == []
    left, right = (torch.load(f / "resume.pt", weights_only=True) for f in (a, b))
    del left["state"]["run_id"], right["state"]["run_id"]
    assert left["state"] == right["state"]
    for part in ("model", "ema"):
        assert [k for k in left[part] if not torch.equal(left[part][k], right[part][k])] == []
    for one, other in zip(left["generators"], right["generators"], strict=True):
        assert torch.equal(one["torch"], other["torch"])
        assert torch.equal(one["mixing"], other["mixing"])
    timed = {"seconds", "waiting", "clips_per_second"}
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k not in timed}
            for line in (f / "log.jsonl").read_text().splitlines()
        ]
        for f in (a, b)
    ]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs in one go."""
    folder = tmp_path_factory.mktemp("whole") / "r"
    assert train(tiny(clips, **HARD), folder).finished
    return folder


@pytest.mark.parametrize(
    ("step", "number", "epoch", "batch"),
    [
        (1, signal.SIGTERM, 0, 2),  # inside the first epoch
        (4, signal.SIGTERM, 1, 4),  # with the second epoch's last: learned, not yet measured
        (5, signal.SIGINT, 2, 2),  # inside the third
    ],
)
def test_a_resumed_run_is_bit_exact(
    whole: Path,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    number: int,
    epoch: int,
    batch: int,
) -> None:
    recipe = tiny(clips, **HARD)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        stop_after(patch, step, number)
        outcome = train(recipe, tmp_path / "r")
    assert (outcome.finished, outcome.epoch) == (False, epoch)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    state = torch.load(tmp_path / "r" / "resume.pt", weights_only=True)["state"]
    assert (state["epoch"], state["batch"], state["step"]) == (epoch, batch, step)
    torch.manual_seed(999)  # a new process starts with another random state
    recipe = read_recipe(str(tmp_path / "r" / "recipe.yaml"))
    assert train(recipe, tmp_path / "r", resume=True).finished
    assert_same_run(whole, tmp_path / "r")


def test_stopped_at_every_step(
    whole: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = RunLog.step

    def stop_always(self: RunLog, epoch: int, at: int, note: str) -> None:
        report(self, epoch, at, note)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(RunLog, "step", stop_always)
    outcome = train(tiny(clips, **HARD), tmp_path / "r")
    legs = 1
    while not outcome.finished:
        outcome = train(tiny(clips, **HARD), tmp_path / "r", resume=True)
        legs += 1
    assert legs == 9  # the last one measures the last epoch
    assert_same_run(whole, tmp_path / "r")


SLOWLY = """
import time
from smnet.cli.main import main
from smnet.training import log as runlog
report = runlog.RunLog.step
def slowly(*args):
    report(*args)
    time.sleep(0.1)
runlog.RunLog.step = slowly
main()
"""


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_real_process_that_gets_sigterm_with_all_its_workers(
    whole: Path, clips: Path, tmp_path: Path
) -> None:
    """A batch system sends the signal to every process of the job at once."""
    folder = tmp_path / "r"
    recipe = tmp_path / "hard.yaml"
    recipe.write_text(json.dumps(tiny(clips, **HARD).model_dump(mode="json")))
    command = [sys.executable, "-c", SLOWLY, "train", str(recipe), "--out", str(folder)]
    process = subprocess.Popen(
        [*command, "workers=2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as here: sums depend on it
    )
    log = folder / "log.jsonl"
    wait_for(lambda: log.exists() and '"val"' in log.read_text(), process)  # one epoch is over
    os.killpg(process.pid, signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert output.rstrip().endswith(f"stopped; resume with: smnet train --resume {folder}")
    assert "Traceback" not in output
    saved = torch.load(folder / "resume.pt", weights_only=True)["state"]
    assert 2 <= saved["step"] < 8
    assert train(tiny(clips, **HARD), folder, resume=True).finished
    assert_same_run(whole, folder)


def test_a_signal_while_the_last_epoch_is_saved_is_reported(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = train_module.save_state

    def interrupt(*args: Any) -> None:
        save(*args)
        if (tmp_path / "r" / "last.safetensors").exists():
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train_module, "save_state", interrupt)
    outcome = train(tiny(clips, epochs=1), tmp_path / "r")
    assert outcome.finished
    assert outcome.stop_requested


def test_a_finished_run_is_finished(whole: Path, clips: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "r")
    before = (folder / "last.safetensors").read_bytes()
    outcome = train(tiny(clips, **HARD), folder, resume=True)
    assert (outcome.finished, outcome.epoch, outcome.stop_requested) == (True, 4, False)
    assert (folder / "last.safetensors").read_bytes() == before
    assert_same_run(whole, folder)


def test_an_epoch_is_saved_before_validation(clips: Path, tmp_path: Path) -> None:
    folder, data = tmp_path / "r", shutil.copytree(clips, tmp_path / "clips")
    spoiled = next((data / "val").rglob("*.mp4"))
    good = spoiled.read_bytes()
    spoiled.write_bytes(b"not a film")
    recipe = tiny(data, **HARD)
    with pytest.raises(UserError, match=r"epoch 1 is trained and saved; repair the data"):
        train(recipe, folder)
    for _ in range(2):  # no step is repeated
        with pytest.raises(UserError, match=f"{spoiled.name}: .*--resume {folder}"):
            train(recipe, folder, resume=True)
        state = torch.load(folder / "resume.pt", weights_only=True)["state"]
        assert (state["epoch"], state["batch"], state["step"]) == (0, 4, 2)
    spoiled.write_bytes(good)
    assert train(recipe, folder, resume=True).finished
    assert train(recipe, tmp_path / "whole").finished
    assert_same_run(tmp_path / "whole", folder)


def test_stopped_during_validation(
    whole: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: io.StringIO
) -> None:
    seen: list[int] = []

    def score_slowly(*given: Any, progress: Callable[[int], None], **how: Any) -> Any:
        def then_signal(done: int) -> None:
            seen.append(done)
            signal.raise_signal(signal.SIGTERM)
            progress(done)

        return score_clips(*given, progress=then_signal, **how)

    with monkeypatch.context() as patch:
        patch.setattr(validation_module, "score_clips", score_slowly)
        outcome = train(tiny(clips, **HARD), tmp_path / "r")
    assert (outcome.finished, outcome.epoch, len(seen)) == (False, 0, 1)  # the first of 3 batches
    assert f"stopped; resume with: smnet train --resume {tmp_path / 'r'}" in said.getvalue()
    assert train(tiny(clips, **HARD), tmp_path / "r", resume=True).finished
    assert_same_run(whole, tmp_path / "r")


def test_killed_between_two_files(whole: Path, clips: Path, tmp_path: Path) -> None:
    """Power fails after last.safetensors and half a line of the log, before resume.pt."""
    folder = tmp_path / "r"
    recipe = tiny(clips, **HARD)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4)
        train(recipe, folder)
    earlier = (folder / "resume.pt").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 6)
        train(recipe, folder, resume=True)
    (folder / "resume.pt").write_bytes(earlier)
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "ep')
    for name in (".resume.smnet-s99jqgyz.pt", ".last.smnet-ab_cd3fg.safetensors"):
        (folder / name).write_bytes(b"half")
    (folder / ".mine.txt").write_text("stays")
    assert train(recipe, folder, resume=True).finished
    assert_same_run(whole, folder)
    assert [path.name for path in folder.glob(".*")] == [".mine.txt"]


# --- The file itself.


def learner(recipe: Recipe, classes: int = 3, **options: Any) -> Learner:
    torch.manual_seed(classes)
    model = create_model("tsn_resnet18", classes, 2, width=8, **options)
    return Learner(
        model=model,
        ema=moving_average(model, 0.5),
        optimizer=make_optimizer(model, recipe),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        mixing=torch.Generator().manual_seed(3),
    )


HERE = Processes(torch.device("cpu"))
RECIPE = Recipe()
DATA = {"classes": 3, "names": "n", "train": 8, "val": 4, "digest": "a"}


def test_state_round_trip(tmp_path: Path) -> None:
    one = learner(RECIPE)
    one.model(torch.randn(2, 2, 3, 32, 32)).sum().backward()
    one.optimizer.step()
    one.ema.update_parameters(one.model)  # type: ignore[union-attr]
    state = RunState(2, 3, 17, (1.0, 2, 3, 0, 0.5, 0.1), {"top1": 0.5, "epoch": 1}, DATA)
    save_state(tmp_path, RECIPE, state, one, HERE)
    draws = torch.rand(3), torch.rand(3, generator=one.mixing)
    other = learner(RECIPE)
    assert load_state(tmp_path, RECIPE, other, HERE, DATA) == state
    assert torch.equal(draws[0], torch.rand(3))
    assert torch.equal(draws[1], torch.rand(3, generator=other.mixing))
    for a, b in ((one.model, other.model), (one.averaged, other.averaged)):
        theirs = b.state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in a.state_dict().items())
    buffers = [s["momentum_buffer"] for s in one.optimizer.state.values()]
    again = [s["momentum_buffer"] for s in other.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(buffers, again, strict=True))


def test_what_is_averaged() -> None:
    one = learner(RECIPE)
    assert one.averaged is not one.model
    assert one.averaged.spec == one.model.spec
    one.ema = None
    assert one.averaged is one.model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_state(tmp_path, RECIPE, RunState(1), learner(RECIPE), HERE)
    return tmp_path / "resume.pt"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"val": 5},
            "before 8 training and 4 validation clips of 3 classes, now 8 ",
        ),
        ({"digest": "b"}, "4 validation clips of 3 classes with other paths or labels"),
        (
            {"classes": 4, "names": "m"},
            "now 8 training and 4 validation clips of 4 classes; restore the data set",
        ),
    ],
)
def test_resuming_with_other_data(saved: Path, changed: dict[str, Any], says: str) -> None:
    saved.unlink()
    save_state(saved.parent, RECIPE, RunState(1, data=DATA), learner(RECIPE), HERE)
    other = learner(RECIPE, classes=changed.get("classes", 3))
    with pytest.raises(UserError, match=says):
        load_state(saved.parent, RECIPE, other, HERE, DATA | changed)
    lenient = RECIPE.model_copy(update={"on_error": "skip"})
    with pytest.raises(UserError) if "names" in changed else nullcontext():
        assert load_state(saved.parent, lenient, other, HERE, DATA | changed).data == DATA


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"lr": 5.0, "flip": "off"}, "(flip: auto then, off now; lr: 0.01 then, 5.0 now)"),
        ({"model": "tsn_resnet18"}, "(model: smnet_resnet50 then, tsn_resnet18 now)"),
        ({"epochs": 31}, "(epochs: 30 then, 31 now)"),
        ({"options": {"groups": 2}}, "(options: {} then, {'groups': 2} now)"),
    ],
)
def test_resuming_with_another_recipe(saved: Path, changed: dict[str, Any], says: str) -> None:
    recipe = RECIPE.model_copy(update=changed)
    with pytest.raises(UserError, match=re.escape(f"started with another recipe {says}; restore")):
        load_state(saved.parent, recipe, learner(RECIPE), HERE, DATA)


def test_where_and_how_may_change(saved: Path) -> None:
    elsewhere = {"data": "moved/", "root": "clips", "workers": 3, "device": "cpu", "compile": True}
    recipe = RECIPE.model_copy(update=elsewhere)
    assert load_state(saved.parent, recipe, learner(RECIPE), HERE, DATA).epoch == 1


def test_a_file_without_a_newer_recipe_key(saved: Path) -> None:
    old = torch.load(saved, weights_only=True)
    old["recipe"] = old["recipe"].replace("temporal_lr: 1.0\n", "")
    torch.save(old, saved)
    recipe = RECIPE.model_copy(update={"temporal_lr": 2.0})
    assert load_state(saved.parent, recipe, learner(RECIPE), HERE, DATA).epoch == 1


def test_a_file_without_a_data_fingerprint(saved: Path) -> None:
    everything = torch.load(saved, weights_only=True)
    del everything["state"]["data"]
    torch.save(everything, saved)
    assert load_state(saved.parent, RECIPE, learner(RECIPE), HERE, DATA).data == DATA


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run to resume there \(resume.pt is missing\)"):
        load_state(tmp_path, RECIPE, learner(RECIPE), HERE, DATA)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"nothing of the kind"),
        lambda p: p.write_bytes(p.read_bytes()[:5000]),
        lambda p: p.write_bytes(p.read_bytes()[:-100]),
        lambda p: p.write_bytes(pickle.dumps({"state": 1})),
        lambda p: torch.save(torch.zeros(3), p),
        lambda p: torch.save([1, 2], p),
        lambda p: torch.save({}, p),
        lambda p: torch.save({"generators": 5}, p),
        lambda p: torch.save({**torch.load(p), "state": {"epoch": 1, "moon": 2}}, p),
        lambda p: torch.save({**torch.load(p), "optimizer": []}, p),
        lambda p: torch.save({**torch.load(p), "ema": None}, p),
        lambda p: torch.save({**torch.load(p), "generators": [None]}, p),
        lambda p: torch.save({**torch.load(p), "recipe": "{"}, p),
        lambda p: torch.save({**torch.load(p), "recipe": 5}, p),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_damaged_file(saved: Path, damage: Callable[[Path], Any]) -> None:
    damage(saved)
    with pytest.raises(UserError, match=r"resume\.pt: ") as caught:
        load_state(saved.parent, RECIPE, learner(RECIPE), HERE, DATA)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_resuming_with_another_model(saved: Path) -> None:
    with pytest.raises(UserError, match="cannot be resumed from"):
        load_state(saved.parent, RECIPE, learner(RECIPE, classes=4), HERE, DATA)


def test_resuming_with_another_number_of_processes(saved: Path) -> None:
    once = torch.load(saved, weights_only=True)
    twice = {**once, "generators": 2 * once["generators"], "meters": [(1.0, 2, 3), (4.0, 5, 6)]}
    twice["state"]["batch"] = 3
    torch.save(twice, saved)
    state = load_state(saved.parent, RECIPE, learner(RECIPE), HERE, DATA)
    assert (state.batch, state.meter) == (3, (5.0, 7, 9))  # a step has as many clips as before
    third = Processes(torch.device("cpu"), 2, 3)  # rank 2 had no generator
    state = load_state(saved.parent, RECIPE, learner(RECIPE), third, DATA)
    each, _ = batch_per_process(RECIPE, 2, 3)
    assert state.batch == 3 * 2 * RECIPE.batch // (3 * each)


def test_each_process_resumes_its_own_meter(tmp_path: Path) -> None:
    cpu = torch.device("cpu")

    class Second(Processes):
        def gather(self, item: Any) -> list[Any]:
            return [item, (5.0, 1, 2) if isinstance(item, tuple) else item]

    state = RunState(0, 1, 1, (3.0, 2, 4))
    save_state(tmp_path, RECIPE, state, learner(RECIPE), Second(cpu, 0, 2))
    for rank, meter in ((0, (3.0, 2, 4)), (1, (5.0, 1, 2))):
        back = load_state(tmp_path, RECIPE, learner(RECIPE), Processes(cpu, rank, 2), DATA)
        assert back == replace(state, meter=meter, data=DATA)


def test_a_file_with_the_meter_of_rank_0_only(saved: Path) -> None:
    old = torch.load(saved, weights_only=True)
    del old["meters"]
    old["state"]["meter"] = (3.0, 2, 4)
    torch.save(old, saved)
    assert load_state(saved.parent, RECIPE, learner(RECIPE), HERE, DATA).meter == (3.0, 2, 4)


def test_a_full_disk_leaves_the_old_state(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    with (
        file_size_limit(20_000),
        pytest.raises(UserError, match=r"cannot write .*resume\.pt: File too large"),
    ):
        save_state(saved.parent, RECIPE, RunState(2), learner(RECIPE), HERE)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"resume\.pt: No space left on device"):
        save_state(saved.parent, RECIPE, RunState(2), learner(RECIPE), HERE)
    assert os.listdir(saved.parent) == ["resume.pt"]
    assert saved.read_bytes() == before


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    second = Processes(torch.device("cpu"), 1, 1)
    save_state(tmp_path, RECIPE, RunState(), learner(RECIPE), second)
    assert not list(tmp_path.iterdir())


def test_counters_are_plain() -> None:
    counters = {"epoch": 0, "batch": 0, "step": 0, "improved": 0}
    values = {"meter": (), "best": None, "data": {}, "launch": "", "run_id": "x"}
    assert asdict(RunState(run_id="x")) == {**counters, **values}


def test_a_run_from_before_groups_were_guessed_keeps_its_split(run: Path, tmp_path: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    assert stored_recipe(run).groups == "auto"
    (tmp_path / "recipe.yaml").write_text(re.sub(r"(?m)^groups:.*\n", "", text))
    assert stored_recipe(tmp_path) == read_recipe(str(run / "recipe.yaml"), ["groups='off'"])
