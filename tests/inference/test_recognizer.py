"""Prediction with a Recognizer."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import smnet
from smnet.checkpoints.file import read_checkpoint, save_checkpoint
from smnet.console import json_text
from smnet.data.loading.dataset import read_views
from smnet.errors import UserError
from smnet.inference.recognizer import Prediction, Recognizer
from smnet.inference.utilisation import Utilisation
from smnet.models.spec import Decision, ModelSpec
from smnet.report.tables import print_predictions
from tests.conftest import CLASSES, class_frames
from tests.videos import write_video


@pytest.fixture(scope="module")
def recognizer(run: Path) -> Recognizer:
    return Recognizer.load(run, device="cpu")


@pytest.fixture(scope="module")
def videos(clips: Path) -> list[str]:
    return [str(p) for p in sorted((clips / "val").rglob("*.mp4"))]


def test_one_video(recognizer: Recognizer, videos: list[str]) -> None:
    answer = recognizer.predict(videos[0])
    assert answer.path == videos[0]
    assert sorted(answer.labels) == sorted(CLASSES)
    assert list(answer.scores) == sorted(answer.scores, reverse=True)
    assert sum(answer.scores) == pytest.approx(1, abs=1e-5)
    assert (answer.label, answer.score) == (answer.labels[0], answer.scores[0])
    assert answer.error == ""
    scores = recognizer.backend.score(read_views(videos[0], recognizer.plan)[None].numpy())[0]
    assert dict(zip(answer.labels, answer.scores, strict=True)) == pytest.approx(
        dict(zip(CLASSES, scores.tolist(), strict=True))
    )


def test_many_agree_with_one_in_their_order(recognizer: Recognizer, videos: list[str]) -> None:
    alone = [recognizer.predict(video) for video in videos]
    for batch, workers in ((1, 1), (4, 2), (50, None)):
        answers = list(recognizer.predict_many(iter(videos), 5, batch, workers))
        assert [a.path for a in answers] == videos
        for one, other in zip(alone, answers, strict=True):
            assert one.labels == other.labels
            assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_views_are_averaged(run: Path, videos: list[str]) -> None:
    many = Recognizer.load(run, "cpu", (2, 3))
    assert many.plan.views == 6
    expected = many.backend.score(read_views(videos[0], many.plan)[None].numpy())[0].max().item()
    assert many.predict(videos[0]).score == pytest.approx(expected)


def test_top(recognizer: Recognizer, videos: list[str]) -> None:
    assert len(recognizer.predict(videos[0], top=2).labels) == 2
    assert len(recognizer.predict(videos[0], top=99).labels) == 3


def test_a_broken_video_among_good_ones(
    recognizer: Recognizer, videos: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(videos[0]).read_bytes()[:300])
    gone = str(tmp_path / "gone.mp4")
    mixed = [videos[0], str(broken), videos[1], gone, videos[2]]
    answers = list(recognizer.predict_many(mixed, batch=2))
    assert [a.path for a in answers] == mixed
    assert [bool(a.error) for a in answers] == [False, True, False, True, False]
    assert answers[1].error.startswith(str(broken))
    assert answers[3].error == f"{gone}: no such file or folder"
    assert (answers[1].label, answers[1].score, answers[1].labels) == ("", 0.0, ())
    assert answers[1].to_dict() == {"path": str(broken), "error": answers[1].error}
    assert answers[2].label == recognizer.predict(videos[1]).label
    with pytest.raises(UserError, match=r"broken\.mp4: "):
        recognizer.predict(broken)


def test_a_video_too_large_for_memory_is_its_own_error(
    run: Path, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer.load(run, device="cpu")
    score, large = recognizer.backend.score, recognizer.backend.read(videos[1], recognizer.plan)

    def limited(views: NDArray[np.uint8]) -> NDArray[np.float32]:
        if any(np.array_equal(video, large) for video in views):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return score(views)

    expected = list(recognizer.predict_many(videos))
    monkeypatch.setattr(recognizer.backend, "score", limited)
    predictions = list(recognizer.predict_many(videos))
    assert f"{videos[1]}: not enough memory" in predictions[1].error
    del predictions[1], expected[1]
    assert [p.labels for p in predictions] == [p.labels for p in expected]


def test_nothing_but_broken_videos(recognizer: Recognizer, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.mp4" for i in range(5)]
    assert all(a.error for a in recognizer.predict_many(paths, batch=2))
    assert list(recognizer.predict_many([])) == []


def test_a_video_that_hangs_costs_its_own_prediction(
    recognizer: Recognizer, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, end = recognizer.backend.read, threading.Event()

    def hostile(path: str, *more: Any) -> NDArray[np.uint8]:
        if path.startswith("stuck"):
            end.wait()  # as a loop in C is: other threads go on, this one does not come back
        return read(path, *more)

    monkeypatch.setattr(recognizer.backend, "read", hostile)
    mixed = ["stuck1.mp4", *videos, "stuck2.mp4", "gone.mp4"]
    used = Utilisation()
    answers = list(recognizer.predict_many(mixed, 5, 2, 1, used, timeout=3.0))
    assert [a.path for a in answers] == mixed
    assert [bool(a.error) for a in answers] == [a.path not in videos for a in answers]
    assert answers[0].error.startswith("stuck1.mp4: not read within 3 seconds")
    assert (used.clips, used.failed) == (len(videos), 3)
    end.set()


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"workers": -1}, {"top": 0}, {"top": -1}], ids=str)
def test_impossible_numbers(
    recognizer: Recognizer, videos: list[str], wrong: dict[str, int]
) -> None:
    name, number = next(iter(wrong.items()))
    with pytest.raises(UserError, match=f"{name} is {number}; it must be at least"):
        next(recognizer.predict_many(videos, **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("crops", [0, 2, 4])
def test_undefined_numbers_of_crops(recognizer: Recognizer, crops: int) -> None:
    with pytest.raises(UserError, match=f"views 1x{crops}: crops must be 1, 3 or 5"):
        Recognizer(recognizer.backend, (1, crops))


def test_names_that_are_not_utf8(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Prediction(os.fsdecode(b"caf\xe9\x1b[31m\n.mp4"), ("é",), (1.0,))
    line = json_text(answer.to_dict())
    assert json.loads(line.encode("utf-8"))["path"] == answer.path
    assert "é" in json_text(replace(answer, path="a.mp4").to_dict())
    print_predictions(
        [answer, replace(answer, error=f"{answer.path}: gone")], [answer.path] * 2, ["é"]
    )
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "\x1b" not in text
        assert text.count("\n") <= 1


def test_an_endless_source(recognizer: Recognizer, videos: list[str]) -> None:
    taken = 0

    def forever() -> Iterator[str]:
        nonlocal taken
        for video in itertools.cycle(videos):
            taken += 1
            yield video

    answers = list(itertools.islice(recognizer.predict_many(forever(), batch=2, workers=2), 20))
    assert len(answers) == 20
    assert taken <= 20 + 2 * 2 + 2 + 2  # decoding runs ahead, but not away


def test_utilisation_names_the_bottleneck(recognizer: Recognizer, videos: list[str]) -> None:
    used = Utilisation()
    answers = list(recognizer.predict_many([*videos, "gone.mp4"], 5, 2, 2, used))
    assert (used.clips, used.failed) == (len(videos), 1)
    assert len(answers) == len(videos) + 1
    assert used.threads == 2
    assert min(used.inference, used.waiting, used.decoding) > 0
    assert str(used).startswith(f"{len(videos)} videos in ")
    assert "(1 more failed)" in str(used)
    slow = Utilisation(clips=10, threads=2, inference=1.0, waiting=3.0, decoding=6.0)
    assert str(slow) == (
        "10 videos in 4.0 s, 2.5 videos/s; bottleneck: decoding (inference 25% busy,"
        " 2 decoding threads 75%)"
    )
    fast = Utilisation(clips=1, threads=1, inference=3.0, waiting=1.0, decoding=1.0)
    assert "bottleneck: inference (inference 75% busy, 1 decoding thread 25%)" in str(fast)
    caller = Utilisation(clips=1, threads=1, inference=0.2, waiting=0.1, elapsed=3.0)
    assert caller.bottleneck == "the caller"
    both = Utilisation(clips=1, threads=1, inference=3.0, waiting=0.2, decoding=3.0)
    assert both.bottleneck == "decoding and inference"
    assert str(Utilisation()).startswith("0 videos in 0.0 s")


def test_decoding_while_the_caller_is_busy_is_no_more_than_all_the_time(
    recognizer: Recognizer, videos: list[str]
) -> None:
    used = Utilisation()
    for _ in recognizer.predict_many(videos * 3, 5, 1, 1, used):
        time.sleep(0.05)
    # The stages are timed one by one, so a little of their time may count twice.
    assert used.elapsed > used.wall + 0.04 * (used.clips - 1)
    shares = [int(word) for word in re.findall(r"(\d+)%", str(used))]
    assert len(shares) == 2
    assert max(shares) <= 100


def test_a_folder_of_frames(recognizer: Recognizer, tmp_path: Path) -> None:
    frames = class_frames(0, 3)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(tmp_path / f"{number:05}.png")
    film = write_video(tmp_path / "a.mkv", frames, codec="ffv1")
    by_folder, by_film = recognizer.predict(tmp_path), recognizer.predict(film)
    # The film's colours went through YUV and back, which a tiny network may feel.
    assert by_folder.label == by_film.label
    assert by_folder.scores == pytest.approx(by_film.scores, abs=0.15)


def test_plain_values() -> None:
    answer = Prediction("a.mp4", ("x", "y"), (0.70000004, 0.2))
    assert answer.to_dict() == {
        "path": "a.mp4",
        "label": "x",
        "score": 0.7,
        "answer": [],
        "top": [{"label": "x", "score": 0.7}, {"label": "y", "score": 0.2}],
    }


def test_public_names(run: Path) -> None:
    assert smnet.Recognizer is Recognizer
    assert smnet.Prediction is Prediction
    assert smnet.load(run).spec.class_names == CLASSES
    assert {"Recognizer", "load", "create_model"} <= set(dir(smnet))
    with pytest.raises(AttributeError, match="nonsense"):
        smnet.nonsense  # noqa: B018


def test_a_model_without_names_numbers_its_classes(run: Path, tmp_path: Path) -> None:
    old = read_checkpoint(run)
    save_checkpoint(
        tmp_path / "x.safetensors", replace(old, spec=replace(old.spec, class_names=None))
    )
    assert Recognizer.load(tmp_path / "x.safetensors", "cpu").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "says"), [({"name": "smnet_resnet34"}, "not those of"), ({"name": "x"}, "no model")]
)
def test_a_checkpoint_that_cannot_be_built_is_named(
    run: Path, tmp_path: Path, values: dict[str, str], says: str
) -> None:
    old = read_checkpoint(run)
    file = tmp_path / "x.safetensors"
    save_checkpoint(file, replace(old, spec=replace(old.spec, **values)))
    with pytest.raises(UserError, match=rf"x\.safetensors: .*{says}"):
        Recognizer.load(file, "cpu")


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(run: Path, device: str) -> None:
    with pytest.raises(UserError, match=device):
        Recognizer.load(run, device)


def test_the_network_is_left_in_evaluation_mode(recognizer: Recognizer) -> None:
    assert not any(module.training for module in recognizer.backend.model.modules())
    assert recognizer.backend.device == torch.device("cpu")


def test_a_run_that_was_moved_still_predicts(
    run: Path, videos: list[str], tmp_path: Path, recognizer: Recognizer
) -> None:
    moved = shutil.copy(run / "best.safetensors", tmp_path / "elsewhere.safetensors")
    answer = Recognizer.load(moved, "cpu").predict(videos[0])
    assert answer.scores == pytest.approx(recognizer.predict(videos[0]).scores)


def test_no_workers_decode_in_the_callers_thread(
    recognizer: Recognizer, videos: list[str], tmp_path: Path
) -> None:
    threads: set[threading.Thread] = set()
    read = recognizer.backend.read

    def watched(*args: Any) -> Any:
        threads.add(threading.current_thread())
        return read(*args)

    gone = str(tmp_path / "gone.mp4")
    expected = list(recognizer.predict_many([*videos, gone], batch=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recognizer.backend, "read", watched)
        found = list(recognizer.predict_many([*videos, gone], batch=2, workers=0))
    assert found == expected
    assert threads == {threading.main_thread()}


class Fixed:
    """A backend that gives every video the same scores."""

    recipe: ClassVar[dict[str, object]] = {}
    side = None
    scaler = "torch"

    def __init__(self, scores: list[float], several: bool, decision: Decision) -> None:
        names = ("rise", "none", "fall")
        self.spec = ModelSpec("x", 3, 2, class_names=names, several=several, decision=decision)
        self.scores = scores

    def read(self, path: object, plan: object, *rest: object, **more: object) -> np.ndarray:
        return np.zeros((1, 2, 3, 8, 8), np.uint8)

    def score(self, views: np.ndarray) -> np.ndarray:
        return np.array([self.scores] * len(views), np.float32)


@pytest.mark.parametrize(
    ("scores", "several", "decision", "answer", "unknown"),
    [
        ([0.6, 0.3, 0.1], False, Decision(), ("rise",), False),
        ([0.6, 0.3, 0.1], False, Decision(unknown_below=0.61), (), True),
        ([0.1, 0.8, 0.1], False, Decision(unknown_below=0.5), (), False),  # background
        ([0.6, 0.7, 0.8], True, Decision(), ("fall", "rise"), False),
        ([0.6, 0.7, 0.8], True, Decision(thresholds=(0.7, 0.9, 0.8)), ("fall",), False),
        ([0.1, 0.1, 0.1], True, Decision(), (), False),
    ],
)
def test_the_answer(
    scores: list[float], several: bool, decision: Decision, answer: tuple[str, ...], unknown: bool
) -> None:
    recognizer = Recognizer(Fixed(scores, several, decision))  # type: ignore[arg-type]
    prediction = recognizer.predict(np.zeros((4, 8, 8, 3), np.uint8))
    assert prediction.answer == answer
    assert prediction.unknown is unknown
    assert prediction.scores[0] == pytest.approx(max(scores))
    assert prediction.to_dict()["answer"] == list(answer)
    assert prediction.to_dict().get("unknown", False) is unknown
