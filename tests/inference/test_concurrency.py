"""One Recognizer in threads, asyncio, forked and spawned processes, and for a long time."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smnet.inference.exported import onnx_metadata
from smnet.inference.recognizer import Recognizer
from smnet.inference.torch_backend import TorchBackend
from smnet.models import create_model
from tests.conftest import class_frames
from tests.inference.test_backends import SPEC, write_onnx

VIDEOS = [class_frames(k % 3, k, count=8, size=40) for k in range(6)]


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def recognizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "torch":
        torch.manual_seed(0)
        return Recognizer(TorchBackend(create_model("smnet_resnet18", 3, 2, width=8), "cpu"))
    pytest.importorskip("onnxruntime")
    path = write_onnx(tmp_path_factory.mktemp("net") / "a.onnx", onnx_metadata(SPEC))
    return Recognizer.load(path, "cpu")


@pytest.fixture(scope="module")
def expected(recognizer: Recognizer) -> list[tuple[float, ...]]:
    return [recognizer.predict(video).scores for video in VIDEOS]


def test_threads(recognizer: Recognizer, expected: list[tuple[float, ...]]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda video: recognizer.predict(video).scores, VIDEOS * 3))
    assert found == expected * 3


def test_asyncio(recognizer: Recognizer, expected: list[tuple[float, ...]]) -> None:
    async def predict_all() -> list[Any]:
        return await asyncio.gather(
            *(asyncio.to_thread(recognizer.predict, video) for video in VIDEOS)
        )

    assert [prediction.scores for prediction in asyncio.run(predict_all())] == expected


def test_a_pickled_copy_for_a_spawned_process(
    recognizer: Recognizer, expected: list[tuple[float, ...]]
) -> None:
    copy = pickle.loads(pickle.dumps(recognizer))
    assert [copy.predict(video).scores for video in VIDEOS] == expected


FORK = """
import multiprocessing, pickle, sys
recognizer, video = pickle.load(sys.stdin.buffer)
before = recognizer.predict(video).scores
context = multiprocessing.get_context("fork")
queue = context.Queue()
def work():
    try:
        queue.put(recognizer.predict(video).scores == before)
    except ValueError as error:
        queue.put(str(error))
context.Process(target=work, daemon=True).start()
print(queue.get(timeout=60))
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_child_forked_after_a_prediction(recognizer: Recognizer) -> None:
    """In a program of its own, which has the threads that a test run gives up."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        input=pickle.dumps((recognizer, VIDEOS[0])),
        capture_output=True,
        timeout=180,
        cwd=Path(__file__).parents[2],
    )
    answer = done.stdout.decode()
    if isinstance(recognizer.backend, TorchBackend):
        assert answer == "True\n", done.stderr.decode()
    else:
        assert "opened before this process was forked" in answer, done.stderr.decode()


def test_many_predictions_do_not_grow(recognizer: Recognizer) -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def predict(count: int) -> None:
        for prediction in recognizer.predict_many((VIDEOS[k % 6] for k in range(count)), batch=4):
            assert not prediction.error

    predict(40)
    before, files = peak(), len(list(Path("/proc/self/fd").iterdir()))
    predict(200)
    assert peak() - before < 20_000  # KiB
    assert len(list(Path("/proc/self/fd").iterdir())) <= files


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_an_error(
    recognizer: Recognizer, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recognizer.backend.score

    def spoiled(views: Any) -> Any:
        scores = real(views)
        scores[1] = bad
        return scores

    monkeypatch.setattr(recognizer.backend, "score", spoiled)
    predictions = list(recognizer.predict_many(VIDEOS[:3]))
    assert [bool(p.error) for p in predictions] == [False, True, False]
    assert predictions[1].error == "<8 frames>: the model's scores are not finite numbers"
