"""What many tests share: a small data set of real files, a model trained on it, the devices."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import io
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
from numpy.typing import NDArray

from smnet.checkpoints.file import read_checkpoint
from smnet.checkpoints.save import save_checkpoint
from smnet.cli import main as cli
from smnet.console import console
from smnet.models import create_model, mobilenetv2, resnet
from smnet.recipes.recipe import Recipe, read_recipe
from smnet.training.loop import train
from tests.videos import moving_frames, write_video

CLASSES = ("falling", "resting", "rising")
TINTS = np.array([[1.0, 0.3, 0.3], [0.3, 1.0, 0.3], [0.3, 0.3, 1.0]])

TINY: dict[str, Any] = {
    "model": "smnet_resnet18",
    "options": {"width": 8, "stages": [5]},
    "weights": "none",
    "segments": 2,
    "size": 32,
    "short_side": 32,
    "dropout": 0.1,
    "batch": 3,
    "lr_batch": 3,
    "lr": 0.01,
    "head_lr": 1.0,
    "warmup": 0.5,
    "epochs": 2,
    "workers": 0,
    "device": "cpu",
}
"""The recipe of every run in the tests, except for what a test is about."""

OF_RUN: dict[str, Any] = {"epochs": 10}
"""What the recipe of the fixture ``run`` changes of TINY."""

get_command = functools.cache(typer.main.get_command)
"""Building the options of all verbs takes most of the time of a short call."""

DEVICES = ("cpu", *(["cuda"] if torch.cuda.is_available() else []))


SLOW = (
    "tests/adapt/test_run.py",
    "tests/corpus/test_run.py",
    "tests/export/",
    "tests/inference/test_evidence.py",
    "tests/live/test_sources.py",
    "tests/live/test_watch.py",
    "tests/serve/test_hostile.py",
    "tests/training/test_augment.py",
    "tests/training/test_budget.py",
    "tests/test_distributed.py",
    "tests/test_kills.py",
    "tests/training/test_loop.py",
    "tests/training/test_state.py",
    "tests/training/test_start_weights.py",
    "tests/training/test_checkpointing.py",
    "tests/training/test_warm.py",
    "tests/experiments/test_study.py",
    "tests/experiments/test_compare.py",
    "tests/experiments/test_profile.py",
    "tests/experiments/test_demo.py",
    "tests/experiments/test_folds.py",
    "tests/inference/test_backends.py",
    "tests/inference/test_concurrency.py",
    "tests/evaluation/test_one_program.py",
    "tests/evaluation/test_evaluate.py",
    "tests/models/fast/",
    "tests/models/test_adding_a_family.py",
    "tests/models/test_finite.py",
    "tests/models/test_rgbdiff.py",
    "tests/models/test_smnet.py",
    "tests/models/test_registry.py",
    "tests/models/test_streaming.py",
    "tests/checkpoints/test_convert.py",
    "tests/recipes/test_recipes.py",
    "tests/cli/test_main.py",
    "tests/cli/test_outputs.py",
    "tests/cli/test_promises.py",
    "tests/benchmarks/",
    "tests/data/synthetic/",
    "tests/data/packing/",
    "tests/data/checks/",
    "tests/data/loading/test_loader.py",
    "tests/data/workers/",
    "tests/data/video/test_fuzz.py",
    "tests/data/video/test_reference.py",
    "tests/adapt/test_discriminants.py",
    "tests/models/test_tam.py",
    "tests/models/test_tdn.py",
    "tests/models/test_res2net.py",
    "tests/models/test_tea.py",
    "tests/models/test_resnet3d.py",
    "tests/models/test_mobilenetv2.py",
    "tests/embed/test_vectors.py",
    "tests/explain/test_checks.py",
    "tests/cli/test_pack.py",
    "tests/cli/test_timeline.py",
    "tests/cli/test_data.py::test_stats_picture",
    "tests/report/test_results_page.py",
    "tests/checkpoints/test_published.py",
    "tests/checkpoints/test_motion.py",
    "tests/training/test_presets.py",
    "tests/training/test_freeze.py",
    "tests/corpus/test_engine.py",
    "tests/inference/test_recognizer.py::test_a_video_that_hangs",
    "tests/web/test_site.py",
)
"""Left out by ``make test-quick``, except for QUICK, so that it reaches every wing."""

QUICK = (
    "tests/export/test_export.py::test_folding_changes_no_scores",
    "tests/training/test_loop.py::test_a_run",
    "tests/live/test_watch.py::test_events_of_a_file",
    "tests/cli/test_main.py::test_the_help",
    "tests/cli/test_main.py::test_train_then_evaluate_then_predict",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW) and not item.nodeid.startswith(QUICK):
            item.add_marker(pytest.mark.slow)


def pytest_configure() -> None:
    torch.set_num_threads(1)  # for tensors this small, more threads are slower


def pytest_collection_finish() -> None:
    # The collector looks at all that lives again and again: a fifth of the time of an export.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def class_frames(label: int, number: int, count: int = 8, size: int = 32) -> NDArray[np.uint8]:
    """A clip of a class: (count, size, size, 3) uint8; classes differ in tint and in motion."""
    frames = moving_frames(count, size, size, seed=10 * label + number)
    moved = {0: frames, 1: np.repeat(frames[:1], count, axis=0), 2: frames[::-1]}[label % 3]
    return (moved * TINTS[label % 3]).astype(np.uint8)


def write_clips(root: Path, splits: dict[str, int], classes: tuple[str, ...] = CLASSES) -> Path:
    """A folder per split with a folder per class; ``splits`` gives the clips per class."""
    number = 0
    for split, clips in splits.items():
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for k in range(clips):
                frames = class_frames(label, number + k, count=8 + (number + k) % 4)
                write_video(folder / f"{k}.mp4", frames)
        number += clips
    return root


def tiny(data: Path | str | None = None, **changes: Any) -> Recipe:
    """The tiny recipe on ``data`` with ``changes``."""
    given = {**TINY, **({} if data is None else {"data": str(data)}), **changes}
    if "options" not in changes and not given["model"].startswith("smnet"):
        given["options"] = {"width": 8}
    return read_recipe(None, (), given)


@contextlib.contextmanager
def file_size_limit(bytes_: int) -> Iterator[None]:
    """No file may grow beyond ``bytes_``, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set on disk: 3 classes, 9 clips in train/, 6 in val/. Tests must not change it."""
    return write_clips(tmp_path_factory.mktemp("clips"), {"train": 3, "val": 2})


@pytest.fixture(scope="session")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on ``clips``. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert train(tiny(clips, **OF_RUN), folder).finished
    return folder


@pytest.fixture(scope="session")
def untrained(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is exported in a second, for tests that are not about its scores."""
    path = tmp_path_factory.mktemp("untrained") / "tsn.safetensors"
    trained, model = read_checkpoint(run), create_model("tsn_resnet18", 3, 2, width=8)
    spec = replace(trained.spec, name=model.spec.name, options=model.spec.options)
    save_checkpoint(path, replace(trained, spec=spec, tensors=model.state_dict()))
    return path


def shorten(patch: pytest.MonkeyPatch) -> None:
    """ResNet-18 and -50 with one block a stage, MobileNetV2 with two or one, for slow work."""
    for depth in (18, 50):
        patch.setitem(resnet.LAYERS, depth, (1, 1, 1, 1))
    rows = tuple(row._replace(blocks=2 - (row.stage > 2)) for row in mobilenetv2.GROUPS)
    patch.setattr(mobilenetv2, "GROUPS", rows)


@pytest.fixture(scope="module")
def short_networks(run: Path) -> Iterator[None]:
    """Short networks in a module. The run that all tests share is made before, with whole ones."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield


@pytest.fixture
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-18 and -50 with one block of each kind, for tests that open no checkpoint."""
    for depth in (18, 50):
        monkeypatch.setitem(resnet.LAYERS, depth, (2, 1, 1, 1))


@pytest.fixture
def short_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short networks in a test. The shared run has whole ones and cannot be opened there."""
    shorten(monkeypatch)


@pytest.fixture(scope="session")
def torchlib() -> Iterator[None]:
    """PyTorch's table of ONNX functions is read once, and not at every export."""
    from torch.onnx._internal.exporter import _registration

    read = functools.cache(_registration.ONNXRegistry.from_torchlib)

    def copied(*args: Any, **options: Any) -> Any:
        table = copy.copy(read(*args, **options))
        table.functions = {target: list(found) for target, found in table.functions.items()}
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registration.ONNXRegistry, "from_torchlib", staticmethod(copied))
        yield


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and a GPU where there is one."""
    return torch.device(request.param)


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """The messages on standard error, without colours."""
    text, before = io.StringIO(), console.file
    console.file = text
    yield text
    console.file = before


@dataclass(frozen=True)
class Called:
    """The result of a call of the command line."""

    status: int
    out: str
    err: str


@pytest.fixture
def smnet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Called]:
    """Call the command line in this process: ``smnet("predict", run, clip)``."""
    monkeypatch.setattr("typer.main.get_command", get_command)

    def call(*words: object) -> Called:
        monkeypatch.setattr("sys.argv", ["smnet", *map(str, words)])
        capsys.readouterr()
        status: object = 0
        with contextlib.ExitStack() as stack:
            stack.callback(setattr, console, "file", console._file)
            console.file = None  # whatever standard error is now
            try:
                cli.main()
            except SystemExit as end:
                status = end.code
        printed = capsys.readouterr()
        return Called(int(status or 0), printed.out, printed.err)  # type: ignore[call-overload]

    return call
