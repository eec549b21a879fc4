"""Loaders: the same batches with any number of workers, and an end to what would never end."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smnet.data.annotations.read import Clip, read_clips
from smnet.data.loading import dataset as dataset_module
from smnet.data.loading import loader as loader_module
from smnet.data.loading.dataset import Batch, ClipDataset, TestBatches, TrainBatches
from smnet.data.loading.loader import ClipLoader, make_loader
from smnet.data.loading.views import ViewPlan
from smnet.distributed import Processes
from smnet.errors import UserError
from smnet.evaluation.scoring import score_clips
from smnet.inference.torch_backend import TorchBackend
from smnet.models import create_model
from smnet.training.loop import train
from tests.conftest import tiny

TRAIN = ViewPlan(segments=3, size=16, short_side=20, train=True, mirror=(1, 0, 2))
TEST = ViewPlan(segments=3, size=16, short_side=20)


unix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def epoch_of(clips: Path, workers: int, epoch: int = 2) -> list[Batch]:
    rows = read_clips(clips).splits["train"]
    batches = TrainBatches(len(rows), 4, seed=3)
    batches.set(epoch)
    return list(make_loader(ClipDataset(rows, TRAIN, seed=3), batches, workers))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.views, b.views)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.indices, b.indices)
        for a, b in zip(one, other, strict=True)
    )


def test_workers_change_nothing(clips: Path) -> None:
    alone = epoch_of(clips, 0)
    assert len(alone) == 2
    assert same(alone, epoch_of(clips, 2))
    assert not same(alone, epoch_of(clips, 0, epoch=3))


def test_the_same_loader_epoch_after_epoch(clips: Path) -> None:
    rows = read_clips(clips).splits["train"]
    batches = TrainBatches(len(rows), 2, seed=3)
    loader = make_loader(ClipDataset(rows, TRAIN, seed=3), batches, 1)
    assert len(loader) == 4
    batches.set(0)
    first = list(loader)
    batches.set(1)
    second = list(loader)
    assert not same(first, second)
    batches.set(0, start=3)
    assert same(list(loader), first[3:])


def test_a_loader_leaves_the_global_generator_alone(clips: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epoch_of(clips, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_program_with_a_loader_comes_to_an_end(clips: Path) -> None:
    code = f"""
from smnet.data.annotations.read import read_clips
from smnet.data.loading.dataset import ClipDataset, TestBatches
from smnet.data.loading.loader import make_loader
from smnet.data.loading.views import ViewPlan
rows = read_clips({str(clips)!r}).splits["train"]
loader = make_loader(ClipDataset(rows, ViewPlan(size=16, short_side=20)), TestBatches(9, 2), 2)
next(iter(loader))
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_a_loader_that_is_gone_takes_its_workers_along(clips: Path) -> None:
    rows = read_clips(clips).splits["train"]
    loader = make_loader(ClipDataset(rows, TEST), TestBatches(len(rows), 2), 2)
    before = set(multiprocessing.active_children())
    source = iter(loader)
    next(source)
    assert len(set(multiprocessing.active_children()) - before) == 2
    cycle: list[Any] = [loader, source]  # as the traceback of an error makes one
    cycle.append(cycle)
    del loader, source, cycle
    began = time.monotonic()
    gc.collect()
    assert set(multiprocessing.active_children()) <= before
    assert time.monotonic() - began < 30


# --- Decoders that do not come back.


def loop_in_c() -> None:
    """A C function that never returns and never lets go of the interpreter."""
    sleep = ctypes.PyDLL(None).sleep  # PyDLL holds the interpreter's lock
    while True:
        sleep(1000)


def deaf_loop_in_c() -> None:
    """The same with every signal blocked that can be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    loop_in_c()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def break_clips(monkeypatch: pytest.MonkeyPatch, work: dict[str, Callable[[], None]]) -> None:
    """Replace reading; the clips in ``work``, by name, call a function first."""

    def read_views(path: str, *rest: Any, **more: Any) -> torch.Tensor:
        work.get(Path(path).name, lambda: None)()
        return torch.zeros(TEST.shape, dtype=torch.uint8)

    monkeypatch.setattr(dataset_module, "read_views", read_views)


def rows(count: int) -> list[Clip]:
    return [Clip(f"/clips/{k}.mp4", k % 3, f"list.csv:{k + 1}") for k in range(count)]


def loader_of(count: int, timeout: float = 1.5, workers: int = 2) -> ClipLoader:
    return ClipLoader(
        ClipDataset(rows(count), TEST), TestBatches(count, 2), workers, timeout=timeout
    )


@unix
@pytest.mark.parametrize("loop", [loop_in_c, deaf_loop_in_c])
def test_an_endless_loop_costs_its_clip_only(
    loop: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_clips(monkeypatch, {"5.mp4": loop})
    loader = loader_of(12)
    began = time.monotonic()
    found = list(loader)
    assert time.monotonic() - began < 120
    assert [i for batch in found for i in batch.indices.tolist()] == [0, 1, 2, 3, 4, *range(6, 12)]
    (problem,) = [p for batch in found for p in batch.problems]
    assert problem[0] == 5
    assert problem[1].startswith("list.csv:6: /clips/5.mp4: not read within 1.5 seconds")
    again = time.monotonic()
    assert [p for batch in loader for p in batch.problems] == [problem]
    assert time.monotonic() - again < 30, "it is not tried again"


@unix
def test_a_crash_is_tried_again_and_then_costs_its_clip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def once() -> None:
        if not (tmp_path / "crashed").exists():
            (tmp_path / "crashed").touch()
            crash()

    break_clips(monkeypatch, {"1.mp4": once, "2.mp4": crash})
    found = list(loader_of(6, timeout=60))
    assert [i for batch in found for i in batch.indices.tolist()] == [0, 1, 3, 4, 5]
    (problem,) = [p for batch in found for p in batch.problems]
    assert problem[1].startswith(
        "list.csv:3: /clips/2.mp4: the process working on it died (SIGKILL)"
    )


@unix
def test_a_worker_that_died_between_two_epochs_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_clips(monkeypatch, {})
    loader = loader_of(6, workers=1)
    before = set(multiprocessing.active_children())
    first = list(loader)
    (worker,) = set(multiprocessing.active_children()) - before
    worker.kill()
    worker.join()
    assert same(list(loader), first)


@unix
def test_evaluation_ends_with_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    break_clips(monkeypatch, {"2.mp4": loop_in_c})
    model = create_model("tsn_resnet18", 3, 3, width=8).eval()
    processes = Processes(torch.device("cpu"))
    with pytest.raises(UserError, match=r"list\.csv:3: /clips/2\.mp4: not read within"):
        score_clips(TorchBackend.live(model), loader_of(4), processes)
    scores, problems, *_ = score_clips(
        TorchBackend.live(model), loader_of(4), processes, on_error="skip"
    )
    assert list(problems) == [2]
    assert np.isnan(scores).all(1).tolist() == [False, False, True, False]


@unix
def test_training_ends_with_one_error(
    clips: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loader_module.ClipLoader.__init__, "__defaults__", (False, 2.0))
    bad = read_clips(clips).splits["train"][4]
    real = dataset_module.read_views

    def read_views(path: str, *rest: Any, **more: Any) -> torch.Tensor:
        if path == bad.path:
            loop_in_c()
        return real(path, *rest, **more)

    monkeypatch.setattr(dataset_module, "read_views", read_views)
    with pytest.raises(UserError, match=r"not read within 2 seconds") as caught:
        train(tiny(clips, workers=1), tmp_path / "run")
    assert bad.path in str(caught.value)


def test_an_error_of_our_own_is_not_taken_for_a_dead_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise RuntimeError("a mistake in the program")

    break_clips(monkeypatch, {"1.mp4": fail})
    with pytest.raises(RuntimeError, match="a mistake in the program"):
        list(loader_of(4))
